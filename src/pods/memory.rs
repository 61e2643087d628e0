//! What a worker remembers between two looks at its pod: failures, and when to try again. Lost in a restart, and harmless so:
//! the first try after a restart is made at once, as upstream does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::ContainerId;
use crate::pods::resize::Given;

/// What may fail and be tried again on its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Setting up the volumes.
    Volumes,
    /// Making the sandbox, with its cgroup.
    Sandbox,
    /// Stopping a container or sandbox, or releasing what they held.
    Stop,
    /// Changing limits.
    Resize,
    /// Starting the container of this name.
    Container(String),
}

/// A failed try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Reason as the API shows it (`ErrImagePull`, `CreateContainerConfigError`, …).
    pub reason: String,
    /// For people.
    pub message: String,
    /// When it failed, nanoseconds since the epoch.
    pub failed_at: i64,
    /// Not tried again for so long.
    pub delay: Duration,
    /// Failures in a row.
    pub failures: u32,
}

/// A crash loop: the delay that the next restart must keep since the last exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashLoop {
    /// Delay.
    pub delay: Duration,
    /// When the delay was last raised, nanoseconds since the epoch.
    pub raised_at: i64,
}

/// First delay of a crash loop; each further restart doubles it (`pkg/kubelet/kubelet.go`, `backOffPeriod`).
const CRASH_LOOP_BASE: Duration = Duration::from_secs(10);

/// A container that ran quietly for this long starts a crash loop anew: twice upstream's maximum delay.
const CRASH_LOOP_FORGET: Duration = Duration::from_secs(600);

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Failed tries by subject.
    pub problems: BTreeMap<Subject, Problem>,
    /// Crash loops by container name.
    pub crash_loops: BTreeMap<String, CrashLoop>,
    /// Instances that the node has stopped, and whether others take their place: how they ended says nothing about that.
    pub decided: BTreeMap<ContainerId, bool>,
    /// The limits that running instances were given by this agent.
    pub in_force: BTreeMap<ContainerId, Given>,
    /// Instances whose hook before the end has begun: it is not run again.
    pub pre_stopped: BTreeSet<ContainerId>,
}

impl Memory {
    /// A container's definition has changed: what went wrong with the old one says nothing about the new one.
    pub fn redefined(&mut self, name: &str) {
        self.problems.remove(&Subject::Container(name.to_owned()));
        self.crash_loops.remove(name);
    }

    /// Notes a failure; the next try waits `first`, doubled for each failure in a row up to `most`.
    pub fn failed(&mut self, subject: Subject, reason: &str, message: String, now: i64, first: Duration, most: Duration) {
        let failures = self.problems.get(&subject).map_or(1, |p| p.failures.saturating_add(1));
        let delay = first.saturating_mul(1u32 << (failures - 1).min(16)).min(most);
        self.problems.insert(subject, Problem { reason: reason.to_owned(), message, failed_at: now, delay, failures });
    }

    /// Forgets failures of a subject.
    pub fn succeeded(&mut self, subject: &Subject) {
        self.problems.remove(subject);
    }

    /// When the subject may be tried again, if that is still to come.
    pub fn waits_until(&self, subject: &Subject, now: i64) -> Option<i64> {
        self.problems.get(subject).and_then(|p| wait(p.failed_at, p.delay, now))
    }

    /// When a container that ended at `finished_at` may be started again, if that is still to come.
    pub fn crash_loop_until(&self, name: &str, finished_at: i64, now: i64) -> Option<i64> {
        let entry = self.crash_loops.get(name)?;
        if finished_at.saturating_sub(entry.raised_at) > nanos(CRASH_LOOP_FORGET) {
            return None;
        }
        wait(finished_at, entry.delay, now)
    }

    /// The delay in force for a container's crash loop.
    pub fn crash_loop_delay(&self, name: &str) -> Option<Duration> {
        self.crash_loops.get(name).map(|c| c.delay)
    }

    /// Notes a restart of a container that ended at `finished_at`: the first restart waits for nothing, later ones ever longer.
    pub fn restarted(&mut self, name: &str, finished_at: i64, now: i64, most: Duration) {
        let base = CRASH_LOOP_BASE.min(most);
        let delay = match self.crash_loops.get(name) {
            Some(c) if finished_at.saturating_sub(c.raised_at) <= nanos(CRASH_LOOP_FORGET) => c.delay.saturating_mul(2).min(most),
            _ => base,
        };
        self.crash_loops.insert(name.to_owned(), CrashLoop { delay, raised_at: now });
    }
}

/// The end of a wait that began at `since`, if that is still to come. Something that happened in the future shows that the clock was set
/// back: nobody knows how long ago it was, and a wait of hours helps nobody.
pub fn wait(since: i64, delay: Duration, now: i64) -> Option<i64> {
    let at = since.saturating_add(nanos(delay));
    (since <= now && now < at).then_some(at)
}

fn nanos(d: Duration) -> i64 {
    i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const MOST: Duration = Duration::from_secs(300);

    #[test]
    fn a_crash_loop_waits_10_20_40_up_to_300_seconds() {
        let mut m = Memory::default();
        let mut now = 0;
        let mut waits = vec![];
        for _ in 0..8 {
            let finished = now + S;
            now = m.crash_loop_until("c", finished, finished).unwrap_or(finished);
            waits.push((now - finished) / S);
            m.restarted("c", finished, now, MOST);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_end_a_crash_loop() {
        let mut m = Memory::default();
        m.restarted("c", 0, 0, MOST);
        m.restarted("c", S, S, MOST);
        let finished = 602 * S;
        assert_eq!(m.crash_loop_until("c", finished, finished), None);
        m.restarted("c", finished, finished, MOST);
        assert_eq!(m.crash_loop_delay("c"), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut m = Memory::default();
        let then = 10_000 * S;
        m.failed(Subject::Sandbox, "r", "m".into(), then, Duration::from_secs(1), Duration::from_secs(5));
        m.restarted("c", then, then, MOST);
        assert_eq!(m.crash_loop_until("c", then, then), Some(then + 10 * S));
        assert_eq!((m.waits_until(&Subject::Sandbox, S), m.crash_loop_until("c", then, S)), (None, None));
    }

    #[test]
    fn failures_wait_longer_each_time_and_success_forgets() {
        let mut m = Memory::default();
        let fail = |m: &mut Memory, now| m.failed(Subject::Sandbox, "r", "m".into(), now, Duration::from_secs(1), Duration::from_secs(5));
        fail(&mut m, 0);
        assert_eq!(m.waits_until(&Subject::Sandbox, 0), Some(S));
        assert_eq!(m.waits_until(&Subject::Sandbox, S), None);
        fail(&mut m, 0);
        assert_eq!(m.waits_until(&Subject::Sandbox, 0), Some(2 * S));
        for _ in 0..80 {
            fail(&mut m, 0);
        }
        assert_eq!(m.waits_until(&Subject::Sandbox, 0), Some(5 * S));
        m.succeeded(&Subject::Sandbox);
        assert_eq!(m.waits_until(&Subject::Sandbox, 0), None);
    }
}
