//! The table, for the terminal and for docs/BENCHMARKS.md.

use std::fmt::Write as _;

use super::figures::{Figures, Who};
use super::format::ratio;
use super::host::Host;
use super::rows::{Goal, ROWS, Row, Take, unit};
use super::{Bench, QUIET};

const COLUMNS: [&str; 6] = ["", "kubelet-rs", "upstream", "upstream ∕ kubelet-rs", "floor", "goal"];

/// Both tables, for a terminal.
pub fn tables(figures: &Figures) -> String {
    format!("{}\n{}", table(figures, true), table(figures, false))
}

/// The rows with a goal, or those without, as Markdown, padded so that it can be read as text too. Rows without any figure are left out.
fn table(figures: &Figures, goals: bool) -> String {
    let wanted = ROWS.iter().filter(|row| (row.goal != Goal::None) == goals);
    let rows: Vec<[String; 6]> = wanted.filter_map(|row| cells(row, figures)).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut widths = COLUMNS.map(|column| column.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 6]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())));
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(&COLUMNS.map(str::to_owned));
    text.push_str(&line(&widths.map(|width| "-".repeat(width))));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

fn cells(row: &Row, figures: &Figures) -> Option<[String; 6]> {
    let [ours, upstream, floor] = [Who::KubeletRs, Who::Upstream, Who::Floor].map(|who| row.value(figures, who));
    ours.or(upstream).or(floor)?;
    let cell = |who| cell(row, figures, who);
    let times = match (ours, upstream) {
        (Some(ours), Some(upstream)) if ours > 0.0 && upstream > 0.0 => ratio(upstream / ours),
        _ => String::new(),
    };
    let beside = match (ours, floor) {
        (Some(ours), Some(floor)) if floor > 0.0 => format!("{} (kubelet-rs: {})", cell(Who::Floor), ratio(ours / floor)),
        _ => cell(Who::Floor),
    };
    let goal = row.verdict(figures).map_or_else(String::new, |(goal, reached)| match reached {
        Some(true) => format!("{goal}: reached"),
        Some(false) => format!("{goal}: **missed**"),
        None => goal,
    });
    Some([row.label.to_owned(), cell(Who::KubeletRs), cell(Who::Upstream), times, beside, goal])
}

/// The value, what it is the sum of, and how far the samples are apart.
fn cell(row: &Row, figures: &Figures, who: Who) -> String {
    let Some(value) = row.value(figures, who) else { return String::new() };
    let unit = unit(row.series);
    let mut text = unit.show(value);
    if let Some(note) = figures.noted(row.series, who) {
        let _ = write!(text, " ({note})");
    }
    if let Some(samples) = figures.sorted(row.series, who)
        && let [first, _, .., last] = samples.as_slice()
        && row.take == Take::Median
    {
        let _ = write!(text, " ({} of {}–{})", samples.len(), unit.show(*first), unit.show(*last));
    }
    text
}

/// The whole document.
pub fn document(bench: &Bench, host: &Host, minutes: f64) -> String {
    let (figures, command) = (&bench.figures, &bench.options.command);
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let noise = if bench.busy > QUIET {
        format!(
            "\n**The machine was not quiet**: other programs kept up to {:.0} % of it busy, so times are longer than they need be.\n",
            bench.busy * 100.0
        )
    } else {
        String::new()
    };
    let failures = if figures.failures().is_empty() {
        String::new()
    } else {
        let lines: Vec<String> =
            figures.failures().iter().map(|failure| format!("- {}\n", failure.lines().next().unwrap_or_default())).collect();
        format!("\n## What failed\n\n{}", lines.concat())
    };
    let ours = bench.contenders.iter().find(|contender| contender.who == Who::KubeletRs).and_then(|ours| ours.programs().next());
    let build = match ours {
        Some(spec) if spec.program.parent().is_some_and(|folder| folder.ends_with("release")) => "the release build",
        _ => "**not the release build**",
    };
    format!(
        "# Benchmarks

Written by `{command}` on {date}, in {minutes:.0} minutes. kubelet-rs is {build}; upstream is kubelet and
kube-proxy (nftables mode). Both had the same configuration, the same control plane and the same containerd configuration, in one run.
{noise}
| | |
|---|---|
| machine | {processors} × {processor}, {memory:.0} GB, Linux {kernel} |
| upstream | {kubelet} |
| runtime | {containerd}; {runc} |

![kubelet-rs beside upstream](benchmarks.svg)

{goals}
Figures are medians; in brackets how many samples there are, from the smallest to the greatest. MB are 10^6 bytes.
{failures}
## In detail

{details}
## How it is measured

- **One lab, two nodes**, each with a containerd of its own, all files in memory. containerd samples each container's CPU every ten seconds
  instead of every second (`stats_collect_period`, for both agents and the floor): by default that alone takes it 4.7 CPU seconds a minute with 110 pods. One agent runs at a time; each round turns the order round. An agent is
  started anew for each part, with no Node object, no pods and no rules left from before.
- **Memory** is the sum over an agent's processes, the median of five readings, 15 s after the last change. The Services have no
  selector; their EndpointSlices are made by hand. **CPU** is what the scheduler counted for all threads, and for children
  that were waited for; that of containerd does not contain its shims, and its floor is what it takes with the same pods and no agent.
- **Pods** are ordinary ones (one container of the pause image, service account token, 30 s of grace of which the process needs nothing),
  bound to the node when they are created: the scheduler has no part in it. Times are taken by a client that watches, from
  before the request is sent to the arrival of the event. The first pod after a start is not counted.
- **The floor of pods** is RunPodSandbox, CreateContainer and StartContainer with the same namespaces, seccomp profiles, resources and mounts,
  called by a bare client on the same containerd while no agent runs; of 50 pods it is the fastest of 4, 8, 16 and all at a time. What no agent
  can spare the API server on the same machine (creating 50 pods, signing a token for each, taking a status of each) is not in it; a row of its own
  shows the same calls with that. The floor of deletion is StopContainer and StopPodSandbox: what
  the container and its network need to end.
- **A pod's life**: *bound* is when another client's watch sees the pod with its node; the first call is the line that containerd
  logs when RunPodSandbox arrives, so a figure may be below zero by what the two differ in. *Ended* is when the process of a container is killed from outside;
  the status counts when a watching client sees the container terminated.
- **Probes**: 50 pods of 10 containers each, every container with a TCP liveness probe and an HTTP readiness probe at a period of one second. The
  targets answer at once. Exec probes are not among them: their cost is the runtime's.
- **Services**: every endpoint of every Service has an address of its own, at which something answers with that address. *Start* is
  from the start of the process (of upstream: of kube-proxy alone) until twenty Services spread over all of them answer; then each of them is asked
  once, and one that does not answer fails the run. *A change* gives a Service another endpoint; it counts from before the patch is sent, API server
  and watch included, until a client on the node, which connects over and over, is answered by the new endpoint. CPU of a change counts until 0.3 s
  after the answer; what else the process did meanwhile is in it.
- **Churn**: 1,500 slices lose and regain an endpoint, one every 20 ms, while now and then the change of another one is waited for. **A connection** is the median of 2,000
  made one after the other; its floor goes to an endpoint's own address while no rules stand. With `LAB_PROXY_MODE=iptables` both agents program in iptables.
",
        processors = host.processors,
        processor = host.processor,
        memory = host.memory / 1e9,
        kernel = host.kernel,
        kubelet = host.kubelet,
        containerd = host.containerd,
        runc = host.runc,
        goals = table(figures, true),
        details = table(figures, false),
    )
}

#[cfg(test)]
mod tests {
    use super::super::figures::Series;
    use super::*;

    #[test]
    fn a_row_shows_ratio_spread_floor_and_verdict() {
        let mut figures = Figures::default();
        for (who, samples) in [(Who::KubeletRs, [0.28, 0.29, 0.30]), (Who::Upstream, [0.5, 0.58, 0.6]), (Who::Floor, [0.25, 0.26, 0.27])] {
            samples.into_iter().for_each(|sample| figures.add(Series::PodReady, who, sample));
        }
        let table = table(&figures, true);
        let row = table.lines().nth(2).unwrap_or_default();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(
            cells,
            [
                "",
                "one pod, created → Ready",
                "290 ms (3 of 280 ms–300 ms)",
                "580 ms (3 of 500 ms–600 ms)",
                "2.00 ×",
                "260 ms (3 of 250 ms–270 ms) (kubelet-rs: 1.12 ×)",
                "≤ 1.15 × floor: reached",
                ""
            ]
        );
        assert_eq!(table.lines().count(), 3, "rows without figures are left out");
    }
}
