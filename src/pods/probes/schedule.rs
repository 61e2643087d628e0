//! When one probe of one instance is due, and what its attempts add up to: pure (upstream: `prober/worker.go`).

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::time::Instant;

use super::Kind;

/// One probe of one instance of a container.
#[derive(Debug, Clone)]
pub struct Schedule {
    kind: Kind,
    period: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    /// Ticks are whole periods away from this.
    anchor: Instant,
    next: Instant,
    /// Attempts in a row with the same result.
    run: Option<(bool, u32)>,
    /// What has been told.
    told: Option<bool>,
    /// Nothing more is asked about this instance.
    held: bool,
    under_way: bool,
}

impl Schedule {
    /// Of an instance that may be probed from `eligible` on. Readiness is asked as soon as it may be; the others at the ticks, so that
    /// a container has as long as upstream gives it before its first failure counts.
    pub fn new(kind: Kind, probe: &Probe, anchor: Instant, eligible: Instant, now: Instant) -> Self {
        let number = |value: Option<i32>, default: u32| value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default);
        let mut schedule = Self {
            kind,
            period: Duration::from_secs(number(probe.period_seconds, 10).into()),
            success_threshold: number(probe.success_threshold, 1),
            failure_threshold: number(probe.failure_threshold, 3),
            anchor,
            next: eligible.max(now),
            run: None,
            told: None,
            held: false,
            under_way: false,
        };
        if kind != Kind::Readiness {
            schedule.next = schedule.tick_from(schedule.next);
        }
        schedule
    }

    /// The first tick at or after a moment.
    fn tick_from(&self, moment: Instant) -> Instant {
        if moment <= self.anchor {
            return self.anchor;
        }
        let period = self.period.as_nanos();
        let ticks = moment.duration_since(self.anchor).as_nanos().div_ceil(period);
        self.anchor + Duration::from_nanos(u64::try_from(ticks * period).unwrap_or(u64::MAX / 4))
    }

    /// When the next attempt is due, if one is. `started`: what the startup probe has come to.
    pub fn due(&self, started: bool) -> Option<Instant> {
        let wanted = (self.kind == Kind::Startup) != started;
        (wanted && !self.held && !self.under_way).then_some(self.next)
    }

    /// An attempt begins.
    pub fn begin(&mut self, now: Instant) {
        self.under_way = true;
        self.next = self.tick_from(now + Duration::from_nanos(1));
    }

    /// An attempt has ended, `None` if it says nothing. Gives what is now to be believed, if that is news.
    pub fn end(&mut self, result: Option<bool>, now: Instant) -> Option<bool> {
        self.under_way = false;
        // Ticks that passed meanwhile are one.
        self.next = self.next.max(now);
        let success = result?;
        let count = self.run.filter(|(last, _)| *last == success).map_or(1, |(_, count)| count.saturating_add(1));
        self.run = Some((success, count));
        if count < if success { self.success_threshold } else { self.failure_threshold } {
            return None;
        }
        // The instance will be stopped, or never needs to be asked again.
        self.held = self.kind == Kind::Startup || (self.kind == Kind::Liveness && !success);
        let news = self.told != Some(success);
        self.told = Some(success);
        news.then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn probe(period: i32, success: i32, failure: i32) -> Probe {
        Probe { period_seconds: Some(period), success_threshold: Some(success), failure_threshold: Some(failure), ..Default::default() }
    }

    /// Attempts with these results, one a tick; gives what was told after each.
    fn told(kind: Kind, probe: &Probe, results: &[Option<bool>]) -> Vec<Option<bool>> {
        let zero = Instant::now();
        let mut schedule = Schedule::new(kind, probe, zero, zero, zero);
        let mut told = vec![];
        for result in results {
            let Some(at) = schedule.due(kind != Kind::Startup) else { break };
            schedule.begin(at);
            told.push(schedule.end(*result, at));
        }
        told
    }

    #[test]
    fn thresholds_count_in_a_row_and_only_news_are_told() {
        let (yes, no, nothing) = (Some(true), Some(false), None);
        assert_eq!(told(Kind::Readiness, &probe(1, 2, 2), &[yes, yes, yes, no, yes, no, no]), [None, yes, None, None, None, None, no]);
        assert_eq!(told(Kind::Readiness, &probe(1, 1, 2), &[no, nothing, no]), [None, None, no], "an error counts for nothing");
    }

    #[test]
    fn after_a_failed_liveness_or_any_end_of_startup_nothing_more_is_asked() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(told(Kind::Liveness, &probe(1, 1, 2), &[yes, no, no, yes]), [yes, None, no]);
        assert_eq!(told(Kind::Startup, &probe(1, 1, 2), &[no, yes, no]), [None, yes]);
        assert_eq!(told(Kind::Startup, &probe(1, 1, 1), &[no, yes]), [no]);
    }

    #[test]
    fn startup_holds_the_others_back_and_they_end_it() {
        let zero = Instant::now();
        for kind in Kind::ALL {
            let schedule = Schedule::new(kind, &probe(1, 1, 1), zero, zero, zero);
            assert_eq!(schedule.due(false).is_some(), kind == Kind::Startup, "{kind:?}");
            assert_eq!(schedule.due(true).is_some(), kind != Kind::Startup, "{kind:?}");
        }
    }

    #[test]
    fn attempts_come_once_a_period_and_never_two_at_once() {
        let zero = Instant::now();
        let mut schedule = Schedule::new(Kind::Liveness, &probe(10, 1, 3), zero, zero + 3 * S, zero + S);
        assert_eq!(schedule.due(true), Some(zero + 10 * S), "the first tick after the initial delay");
        schedule.begin(zero + 10 * S);
        assert_eq!(schedule.due(true), None);
        schedule.end(Some(true), zero + 12 * S);
        assert_eq!(schedule.due(true), Some(zero + 20 * S));
        schedule.begin(zero + 20 * S);
        schedule.end(Some(true), zero + 45 * S);
        assert_eq!(schedule.due(true), Some(zero + 45 * S), "late, but not for each tick that passed");
        schedule.begin(zero + 45 * S);
        schedule.end(Some(true), zero + 46 * S);
        assert_eq!(schedule.due(true), Some(zero + 50 * S));
    }

    #[test]
    fn readiness_is_asked_as_soon_as_it_may_be() {
        let zero = Instant::now();
        let mut schedule = Schedule::new(Kind::Readiness, &probe(10, 1, 3), zero, zero + 3 * S, zero + S);
        assert_eq!((schedule.due(false), schedule.due(true)), (None, Some(zero + 3 * S)));
        // Startup took its time.
        schedule.begin(zero + 14 * S);
        schedule.end(Some(false), zero + 15 * S);
        assert_eq!(schedule.due(true), Some(zero + 20 * S));
    }
}
