//! Figures by name, and the table that a person reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What was measured, by name; seconds, bytes or a share, as the row says.
#[derive(Clone, Debug, Default)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Keeps a time.
    pub fn time(&mut self, name: &str, time: Duration) {
        self.0.insert(name.to_owned(), time.as_secs_f64());
    }

    /// Keeps a number of bytes.
    pub fn bytes(&mut self, name: &str, bytes: u64) {
        self.0.insert(name.to_owned(), bytes as f64);
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

/// How a figure is written.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Megabytes,
}

/// One row: what it is, the figure's name, its unit, and what it has to reach.
type Row = (&'static str, &'static str, Unit, &'static str);

const ROWS: &[Row] = &[
    ("program on disk, stripped", "binary", Unit::Megabytes, "≤ 15 MB"),
    ("agent started → node Ready, images present", "start_ready", Unit::Seconds, "≤ 1 s"),
    ("resident (VmRSS): no pods", "rss_idle", Unit::Megabytes, ""),
    ("resident (VmRSS): 110 pods", "rss_full", Unit::Megabytes, ""),
    ("resident (VmRSS): 110 pods, 1,000 Services × 2 endpoints", "rss_services", Unit::Megabytes, "≤ 20 MB"),
    ("resident (VmRSS): 110 pods, 10,000 Services × 2 endpoints", "rss_many", Unit::Megabytes, ""),
    ("most ever resident (VmHWM): no pods", "hwm_idle", Unit::Megabytes, ""),
    ("most ever resident (VmHWM): 110 pods, 1,000 Services", "hwm_services", Unit::Megabytes, ""),
    ("most ever resident (VmHWM): 110 pods, 10,000 Services", "hwm_many", Unit::Megabytes, ""),
    ("share of memory (PSS): 110 pods", "pss_full", Unit::Megabytes, ""),
    ("share of memory (PSS): 110 pods, 1,000 Services", "pss_services", Unit::Megabytes, ""),
    ("CPU in 60 s, 110 pods at rest: the agent", "cpu_agent", Unit::Seconds, "≤ 0.3 s"),
    ("CPU in 60 s, 110 pods at rest: containerd", "cpu_containerd", Unit::Seconds, "≤ 1.0 s"),
    ("one pod, created → Ready, median of 20", "pod_ready", Unit::Seconds, "≤ 1.15 × floor"),
    ("one pod, deleted → gone, median of 20", "pod_gone", Unit::Seconds, "≤ 0.3 s + floor"),
    ("50 pods at once → all Ready", "burst", Unit::Seconds, "≤ 1.05 × floor"),
    ("one endpoint change → answered by the new one, 1,000 Services, median", "change_few", Unit::Seconds, "≤ 0.005 s"),
    ("one endpoint change → answered by the new one, 10,000 Services, median", "change_many", Unit::Seconds, "≤ 0.005 s"),
    ("CPU of one endpoint change at 1,000 Services", "change_cpu_few", Unit::Seconds, ""),
    ("CPU of one endpoint change at 10,000 Services", "change_cpu_many", Unit::Seconds, "≤ 1/1,000"),
    ("agent started → 10,000 Services programmed", "from_nothing", Unit::Seconds, "≤ 1.5 s"),
];

/// The table, in Markdown. A figure that is not there stays empty.
pub fn table(ours: &Figures, upstream: &Figures, floor: &Figures) -> String {
    let mut text = String::from("| | kubelet-rs | upstream | ratio | floor | × floor | to reach |\n|---|---:|---:|---:|---:|---:|---|\n");
    for (what, name, unit, target) in ROWS {
        let (ours, theirs, least) = (ours.get(name), upstream.get(name), floor.get(name));
        let _ = writeln!(
            text,
            "| {what} | {} | {} | {} | {} | {} | {target} |",
            shown(ours, *unit),
            shown(theirs, *unit),
            ratio(ours, theirs),
            shown(least, *unit),
            ratio(ours.or(theirs), least)
        );
    }
    text
}

fn shown(figure: Option<f64>, unit: Unit) -> String {
    match (figure, unit) {
        (None, _) => String::new(),
        (Some(seconds), Unit::Seconds) if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        (Some(seconds), Unit::Seconds) if seconds < 0.1 => format!("{:.1} ms", seconds * 1e3),
        (Some(seconds), Unit::Seconds) => format!("{seconds:.2} s"),
        (Some(bytes), Unit::Megabytes) => format!("{:.1} MB", bytes / 1e6),
    }
}

fn ratio(figure: Option<f64>, of: Option<f64>) -> String {
    match (figure, of) {
        (Some(figure), Some(of)) if of > 0.0 && figure / of < 0.01 => format!("1/{:.0}", of / figure.max(f64::MIN_POSITIVE)),
        (Some(figure), Some(of)) if of > 0.0 => format!("{:.2}", figure / of),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_both_and_their_ratio() {
        let mut ours = Figures::default();
        ours.bytes("rss_services", 18_000_000);
        ours.time("change_cpu_many", Duration::from_micros(20));
        let mut upstream = Figures::default();
        upstream.bytes("rss_services", 180_000_000);
        upstream.time("change_cpu_many", Duration::from_secs(6));
        let table = table(&ours, &upstream, &Figures::default());
        assert!(table.contains("1,000 Services × 2 endpoints | 18.0 MB | 180.0 MB | 0.10 |  |  | ≤ 20 MB |"), "{table}");
        assert!(table.contains("| 20 µs | 6.00 s | 1/300000 |"), "{table}");
    }
}
