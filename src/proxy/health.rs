//! Whether Services are up to date. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::nft::Family;

/// Changes that wait for longer than this make the proxy unhealthy: upstream's twice `syncPeriod`.
const LATE: Duration = Duration::from_secs(60);

/// One family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lane {
    /// When everything was programmed last.
    updated: Option<Instant>,
    /// Since when something waits.
    pending: Option<Instant>,
}

/// How up to date each family is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health(BTreeMap<Family, Lane>);

impl Health {
    /// Of these families, of which nothing is programmed yet.
    pub fn new(families: impl IntoIterator<Item = Family>) -> Self {
        Self(families.into_iter().map(|family| (family, Lane::default())).collect())
    }

    /// Something changed that must be programmed. True if nothing waited before in some family.
    pub fn queued(&mut self, now: Instant) -> bool {
        let idle = self.0.values_mut().filter(|lane| lane.pending.is_none());
        idle.map(|lane| lane.pending = Some(now)).count() > 0
    }

    /// All of a family is programmed.
    pub fn updated(&mut self, family: Family, now: Instant) {
        self.0.insert(family, Lane { updated: Some(now), pending: None });
    }

    /// Whether everything was programmed once.
    pub fn is_programmed(&self) -> bool {
        self.0.values().all(|lane| lane.updated.is_some())
    }

    /// Whether nothing waits for too long.
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.0.values().all(|lane| lane.is_healthy(now))
    }

    /// The report of `/healthz` (with `eligible`) or `/livez`. `clock` gives the wall-clock time of an instant as the API writes it.
    pub fn report(&self, now: Instant, eligible: Option<bool>, clock: impl Fn(Instant) -> String) -> Value {
        let updated = |at: Option<Instant>| at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), &clock);
        let healthy = self.is_healthy(now);
        let lanes = self.0.iter().map(|(family, lane)| {
            let name = match family {
                Family::Ip => "IPv4",
                Family::Ip6 => "IPv6",
            };
            (name.to_owned(), json!({"lastUpdated": updated(lane.updated), "healthy": lane.is_healthy(now)}))
        });
        // Readers take an old time for a proxy that hangs: who is healthy was up to date just now.
        let ok = healthy && eligible != Some(false);
        let last = if ok { Some(now) } else { self.0.values().filter_map(|lane| lane.updated).max() };
        let mut report = json!({
            "lastUpdated": updated(last),
            "currentTime": clock(now),
            "healthy": healthy,
            "status": lanes.collect::<serde_json::Map<_, _>>(),
        });
        if let (Some(eligible), Some(fields)) = (eligible, report.as_object_mut()) {
            fields.insert("nodeEligible".to_owned(), eligible.into());
        }
        report
    }
}

impl Lane {
    fn is_healthy(&self, now: Instant) -> bool {
        self.pending.is_none_or(|since| now.duration_since(since) < LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_too_long_is_unhealthy() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let clock = |now: Instant| format!("{}s", (now - start).as_secs());
        let mut health = Health::new([Family::Ip, Family::Ip6]);
        assert!(health.is_healthy(at(1000)), "it is still starting");
        health.queued(at(10));
        health.updated(Family::Ip, at(11));
        health.queued(at(20));
        health.updated(Family::Ip, at(21));
        assert!(health.is_healthy(at(69)));
        assert!(!health.is_healthy(at(70)), "IPv6 waits since second 10");
        assert_eq!(
            health.report(at(80), None, clock),
            json!({
                "lastUpdated": "21s", "currentTime": "80s", "healthy": false,
                "status": {"IPv4": {"lastUpdated": "21s", "healthy": true}, "IPv6": {"lastUpdated": "0001-01-01T00:00:00Z", "healthy": false}},
            })
        );
        health.updated(Family::Ip6, at(90));
        let report = health.report(at(95), Some(true), clock);
        assert_eq!((&report["lastUpdated"], &report["nodeEligible"], &report["healthy"]), (&json!("95s"), &json!(true), &json!(true)));
        let report = health.report(at(95), Some(false), clock);
        assert_eq!((&report["lastUpdated"], &report["nodeEligible"], &report["healthy"]), (&json!("90s"), &json!(false), &json!(true)));
    }
}
