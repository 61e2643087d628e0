//! What the proxy counts of its work, with upstream's names (`pkg/proxy/metrics/metrics.go`), as text for Prometheus. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;
use std::time::Duration;

use crate::nft::Family;

/// Upper bounds of the buckets for work: a millisecond, and 14 times twice the one before.
static WORK: LazyLock<Vec<f64>> = LazyLock::new(|| std::iter::successors(Some(0.001), |bound| Some(bound * 2.0)).take(15).collect());
/// Upper bounds of the buckets for what users wait for: 0.25 s to 5 min, in steps that get longer.
static WAITING: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let linear = |first: f64, step: f64, count: u8| (0..count).map(move |n| first + step * f64::from(n));
    linear(0.25, 0.25, 2).chain(linear(1.0, 1.0, 59)).chain(linear(60.0, 5.0, 12)).chain(linear(120.0, 30.0, 7)).collect()
});

/// How long something took, by bucket.
#[derive(Clone, Debug, PartialEq)]
struct Histogram {
    bounds: &'static [f64],
    buckets: Vec<u64>,
    count: u64,
    seconds: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::of(&WORK)
    }
}

impl Histogram {
    fn of(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len()], count: 0, seconds: 0.0 }
    }

    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.seconds += seconds;
        for (bucket, bound) in self.buckets.iter_mut().zip(self.bounds) {
            *bucket += u64::from(seconds <= *bound);
        }
    }
}

/// One family.
#[derive(Clone, Debug, PartialEq)]
struct Lane {
    all: Histogram,
    full: Histogram,
    partial: Histogram,
    programming: Histogram,
    cleaning: Histogram,
    cleaned: u64,
    /// Service ports whose clients inside, and whose clients outside, find no endpoint because only those of this node count.
    without_local: (usize, usize),
    /// Seconds since the epoch.
    last: f64,
    queued: f64,
    failures: u64,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            all: Histogram::default(),
            full: Histogram::default(),
            partial: Histogram::default(),
            programming: Histogram::of(&WAITING),
            cleaning: Histogram::default(),
            cleaned: 0,
            without_local: (0, 0),
            last: 0.0,
            queued: 0.0,
            failures: 0,
        }
    }
}

/// All that is counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    lanes: BTreeMap<Family, Lane>,
    /// Events of the Service watch and of the EndpointSlice watch so far.
    pub service_changes: u64,
    /// See [`Self::service_changes`].
    pub endpoint_changes: u64,
    /// Services that wait to be programmed.
    pub pending: usize,
}

impl Metrics {
    /// A family was programmed: with all that there is, or only with what changed. `now` is in seconds since the epoch.
    pub fn synced(&mut self, family: Family, full: bool, took: Duration, now: f64) {
        let lane = self.lanes.entry(family).or_default();
        lane.all.observe(took);
        if full { &mut lane.full } else { &mut lane.partial }.observe(took);
        lane.last = now;
    }

    /// What was programmed goes back to something that happened so long ago.
    pub fn programmed(&mut self, family: Family, since: Duration) {
        self.lanes.entry(family).or_default().programming.observe(since);
    }

    /// How many Service ports leave clients inside, and clients outside, without an endpoint, because only those of this node count.
    pub fn without_local(&mut self, family: Family, ports: (usize, usize)) {
        self.lanes.entry(family).or_default().without_local = ports;
    }

    /// Stale UDP flows were looked for in these families, and so many were deleted of each.
    pub fn cleaned(&mut self, took: Duration, deleted: &BTreeMap<Family, u64>) {
        for (family, count) in deleted {
            let lane = self.lanes.entry(*family).or_default();
            lane.cleaning.observe(took);
            lane.cleaned += count;
        }
    }

    /// Programming a family failed.
    pub fn failed(&mut self, family: Family) {
        self.lanes.entry(family).or_default().failures += 1;
    }

    /// A change waits for all families.
    pub fn queued(&mut self, families: &[Family], now: f64) {
        families.iter().for_each(|family| self.lanes.entry(*family).or_default().queued = now);
    }

    /// All of it as text. `iptables`: that is what Services are programmed in.
    pub fn text(&self, iptables: bool) -> String {
        let mut out = String::new();
        let histograms: [(_, _, OfHistogram); 5] = [
            ("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", |lane| &lane.all),
            ("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", |lane| &lane.full),
            ("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", |lane| &lane.partial),
            ("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", |lane| &lane.programming),
            ("conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds", |lane| &lane.cleaning),
        ];
        for (name, help, of) in histograms {
            head(&mut out, name, help, "histogram");
            self.lanes.iter().for_each(|(family, lane)| histogram(&mut out, name, label(*family), of(lane)));
        }
        let failures = match iptables {
            true => ("sync_proxy_rules_iptables_restore_failures_total", "Cumulative proxy iptables restore failures"),
            false => ("sync_proxy_rules_nftables_sync_failures_total", "Cumulative proxy nftables sync failures"),
        };
        let by_family: [(_, _, _, OfNumber); 4] = [
            ("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", "gauge", |lane| lane.last),
            ("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", "gauge", |lane| {
                lane.queued
            }),
            (failures.0, failures.1, "counter", |lane| lane.failures as f64),
            (
                "conntrack_reconciler_deleted_entries_total",
                "Cumulative conntrack flows deleted by conntrack reconciler",
                "counter",
                |lane| lane.cleaned as f64,
            ),
        ];
        for (name, help, kind, of) in by_family {
            head(&mut out, name, help, kind);
            for (family, lane) in &self.lanes {
                let _ = writeln!(out, "kubeproxy_{name}{{ip_family=\"{}\"}} {}", label(*family), of(lane));
            }
        }
        let name = "sync_proxy_rules_no_local_endpoints_total";
        head(&mut out, name, "Number of services with a Local traffic policy and no endpoints", "gauge");
        for (family, lane) in &self.lanes {
            for (policy, count) in [("internal", lane.without_local.0), ("external", lane.without_local.1)] {
                let _ = writeln!(out, "kubeproxy_{name}{{ip_family=\"{}\",traffic_policy=\"{policy}\"}} {count}", label(*family));
            }
        }
        let pending = u64::try_from(self.pending).unwrap_or(u64::MAX);
        for (name, help, kind, value) in [
            ("sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes", "gauge", pending),
            ("sync_proxy_rules_endpoint_changes_total", "Cumulative proxy rules Endpoint changes", "counter", self.endpoint_changes),
            ("sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes", "gauge", pending),
            ("sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes", "counter", self.service_changes),
        ] {
            head(&mut out, name, help, kind);
            let _ = writeln!(out, "kubeproxy_{name} {value}");
        }
        out
    }
}

/// Takes one thing out of a lane.
type OfHistogram = fn(&Lane) -> &Histogram;
/// The same for a number.
type OfNumber = fn(&Lane) -> f64;

fn label(family: Family) -> &'static str {
    match family {
        Family::Ip => "IPv4",
        Family::Ip6 => "IPv6",
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP kubeproxy_{name} [ALPHA] {help}\n# TYPE kubeproxy_{name} {kind}");
}

fn histogram(out: &mut String, name: &str, family: &str, of: &Histogram) {
    for (count, bound) in of.buckets.iter().zip(of.bounds) {
        let _ = writeln!(out, "kubeproxy_{name}_bucket{{ip_family=\"{family}\",le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(out, "kubeproxy_{name}_bucket{{ip_family=\"{family}\",le=\"+Inf\"}} {}", of.count);
    let _ = writeln!(out, "kubeproxy_{name}_sum{{ip_family=\"{family}\"}} {}", of.seconds);
    let _ = writeln!(out, "kubeproxy_{name}_count{{ip_family=\"{family}\"}} {}", of.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_prometheus() {
        let mut metrics = Metrics::default();
        metrics.queued(&[Family::Ip], 99.5);
        metrics.synced(Family::Ip, true, Duration::from_millis(3), 100.25);
        metrics.synced(Family::Ip, false, Duration::from_micros(500), 101.0);
        metrics.failed(Family::Ip);
        (metrics.service_changes, metrics.endpoint_changes, metrics.pending) = (3, 7, 2);
        metrics.programmed(Family::Ip, Duration::from_millis(600));
        metrics.without_local(Family::Ip, (1, 2));
        metrics.cleaned(Duration::from_millis(3), &[(Family::Ip, 7)].into());
        let text = metrics.text(false);
        assert!(metrics.text(true).contains("kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"} 1"));
        for line in [
            "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.001\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.004\"} 2",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"16.384\"} 2",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"} 0.0005",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 101",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 99.5",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.5\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"1\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"300\"} 1",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"external\"} 2",
            "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 7",
            "kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 7",
            "kubeproxy_sync_proxy_rules_service_changes_pending 2",
        ] {
            assert!(text.lines().any(|got| got == line), "{line}\n{text}");
        }
    }
}
