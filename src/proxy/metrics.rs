//! What the proxy counts of its work, with upstream's names (`pkg/proxy/metrics/metrics.go`), as text for Prometheus. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::nft::Family;

/// Upper bounds of the buckets: a millisecond, and 14 times twice the one before.
const BUCKETS: usize = 15;

/// How long something took, by bucket.
#[derive(Clone, Debug, Default, PartialEq)]
struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    seconds: f64,
}

impl Histogram {
    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.seconds += seconds;
        let bounds = std::iter::successors(Some(0.001), |bound| Some(bound * 2.0));
        for (bucket, bound) in self.buckets.iter_mut().zip(bounds) {
            *bucket += u64::from(seconds <= bound);
        }
    }
}

/// One family.
#[derive(Clone, Debug, Default, PartialEq)]
struct Lane {
    all: Histogram,
    full: Histogram,
    partial: Histogram,
    /// Seconds since the epoch.
    last: f64,
    queued: f64,
    failures: u64,
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

    /// Programming a family failed.
    pub fn failed(&mut self, family: Family) {
        self.lanes.entry(family).or_default().failures += 1;
    }

    /// A change waits for all families.
    pub fn queued(&mut self, families: &[Family], now: f64) {
        families.iter().for_each(|family| self.lanes.entry(*family).or_default().queued = now);
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let histograms: [(_, _, OfHistogram); 3] = [
            ("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", |lane| &lane.all),
            ("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", |lane| &lane.full),
            ("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", |lane| &lane.partial),
        ];
        for (name, help, of) in histograms {
            head(&mut out, name, help, "histogram");
            self.lanes.iter().for_each(|(family, lane)| histogram(&mut out, name, label(*family), of(lane)));
        }
        let by_family: [(_, _, _, OfNumber); 3] = [
            ("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", "gauge", |lane| lane.last),
            ("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", "gauge", |lane| {
                lane.queued
            }),
            ("sync_proxy_rules_nftables_sync_failures_total", "Cumulative proxy nftables sync failures", "counter", |lane| {
                lane.failures as f64
            }),
        ];
        for (name, help, kind, of) in by_family {
            head(&mut out, name, help, kind);
            for (family, lane) in &self.lanes {
                let _ = writeln!(out, "kubeproxy_{name}{{ip_family=\"{}\"}} {}", label(*family), of(lane));
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
    let bounds = std::iter::successors(Some(0.001), |bound| Some(bound * 2.0));
    for (count, bound) in of.buckets.iter().zip(bounds) {
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
        let text = metrics.text();
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
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 7",
            "kubeproxy_sync_proxy_rules_service_changes_pending 2",
        ] {
            assert!(text.lines().any(|got| got == line), "{line}\n{text}");
        }
    }
}
