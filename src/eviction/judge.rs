//! Which thresholds are crossed, and for how long. Pure but for what it remembers (`eviction_manager.go`, `synchronize`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::signal::Signal;
use crate::config::Threshold;
use crate::node::Pressure;

/// How little may be left of something before pods have to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Of what.
    pub signal: Signal,
    /// How little.
    pub value: Threshold,
    /// How long it may be below that: zero for a hard threshold.
    pub grace: Duration,
    /// How much more than that must be free before all is well again.
    pub reclaim: Option<Threshold>,
}

/// What is left of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// What is left.
    pub available: i64,
    /// Of how much.
    pub capacity: i64,
}

/// What is left of everything that could be read.
pub type Levels = BTreeMap<Signal, Level>;

impl Limit {
    /// Whether too little is left; with `enough` also whether it is too little to stop.
    fn is_crossed(&self, levels: &Levels, enough: bool) -> bool {
        let Some(level) = levels.get(&self.signal) else { return false };
        let more = self.reclaim.filter(|_| enough).map_or(0, |more| more.of(level.capacity));
        self.value.of(level.capacity).saturating_add(more) > level.available
    }
}

/// What has been seen so far.
#[derive(Debug)]
pub struct Judge {
    limits: Vec<Limit>,
    /// How long a condition stays after its cause has gone (`evictionPressureTransitionPeriod`).
    transition: Duration,
    /// Since when each limit has been crossed, by its place.
    since: BTreeMap<usize, Instant>,
    /// Limits on which pods had to go and that are not made up for yet.
    open: BTreeSet<usize>,
    last_short: BTreeMap<Pressure, Instant>,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What the node says about itself.
    pub short: BTreeSet<Pressure>,
    /// Limits that ask for something to be done, the most urgent first.
    pub due: Vec<Limit>,
}

impl Judge {
    /// For these limits.
    pub fn new(limits: Vec<Limit>, transition: Duration) -> Self {
        Self { limits, transition, since: BTreeMap::new(), open: BTreeSet::new(), last_short: BTreeMap::new() }
    }

    /// Takes in what is left now.
    pub fn look(&mut self, levels: &Levels, now: Instant) -> Verdict {
        let crossed: BTreeSet<usize> = self
            .limits
            .iter()
            .enumerate()
            .filter(|(place, limit)| limit.is_crossed(levels, false) || (self.open.contains(place) && limit.is_crossed(levels, true)))
            .map(|(place, _)| place)
            .collect();
        self.since.retain(|place, _| crossed.contains(place));
        for place in crossed {
            self.since.entry(place).or_insert(now);
        }
        for limit in self.since.keys().filter_map(|place| self.limits.get(*place)) {
            self.last_short.insert(limit.signal.pressure(), now);
        }
        self.last_short.retain(|_, last| now - *last < self.transition || *last == now);
        let is_due = |(place, since): (&usize, &Instant)| {
            let limit = self.limits.get(*place)?;
            (now - *since >= limit.grace).then_some((*place, *limit))
        };
        let due: Vec<(usize, Limit)> = self.since.iter().filter_map(is_due).collect();
        self.open = due.iter().map(|(place, _)| *place).collect();
        let mut due: Vec<Limit> = due.into_iter().map(|(_, limit)| limit).collect();
        due.sort_by_key(|limit| limit.signal.pressure() != Pressure::Memory);
        Verdict { short: self.last_short.keys().copied().collect(), due }
    }

    /// Whether no limit is crossed, with what has to be free beyond it.
    pub fn is_relieved(&self, levels: &Levels) -> bool {
        !self.limits.iter().any(|limit| limit.is_crossed(levels, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(signal: Signal, value: i64, grace: u64, reclaim: Option<i64>) -> Limit {
        Limit { signal, value: Threshold::Amount(value), grace: Duration::from_secs(grace), reclaim: reclaim.map(Threshold::Amount) }
    }

    fn levels(all: &[(Signal, i64)]) -> Levels {
        all.iter().map(|(signal, available)| (*signal, Level { available: *available, capacity: 1000 })).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_stays_for_its_period() {
        let mut judge = Judge::new(vec![limit(Signal::Memory, 100, 0, None)], Duration::from_secs(300));
        let start = Instant::now();
        let mut at = |seconds, left| judge.look(&levels(&[(Signal::Memory, left)]), start + Duration::from_secs(seconds));
        assert_eq!(at(0, 100), Verdict { short: [].into(), due: vec![] }, "as much as that is enough");
        assert_eq!((at(10, 99).short, at(20, 99).due.len()), ([Pressure::Memory].into(), 1));
        let after = at(30, 500);
        assert_eq!((after.short, after.due), ([Pressure::Memory].into(), vec![]));
        assert_eq!(at(319, 500).short, [Pressure::Memory].into());
        assert_eq!(at(320, 500).short, [].into(), "300 s after it was short for the last time");
    }

    #[tokio::test(start_paused = true)]
    async fn soft_limits_wait() {
        let mut judge = Judge::new(vec![limit(Signal::NodeFs, 100, 60, None)], Duration::ZERO);
        let start = Instant::now();
        let mut at = |seconds, left| judge.look(&levels(&[(Signal::NodeFs, left)]), start + Duration::from_secs(seconds));
        assert_eq!((at(0, 50).due, at(0, 50).short), (vec![], [Pressure::Disk].into()), "the condition is there at once");
        assert_eq!(at(59, 50).due.len(), 0);
        assert_eq!(at(60, 50).due.len(), 1);
        assert_eq!((at(70, 200).due.len(), at(80, 50).due.len()), (0, 0), "time counts from anew");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_goes_on_until_enough_is_free() {
        let mut judge = Judge::new(vec![limit(Signal::Pid, 100, 0, Some(50))], Duration::ZERO);
        let now = Instant::now();
        let mut due = |left| judge.look(&levels(&[(Signal::Pid, left)]), now).due.len();
        assert_eq!([120, 90, 120, 149, 150, 120].map(&mut due), [0, 1, 1, 1, 0, 0]);
        assert!(judge.is_relieved(&levels(&[(Signal::Pid, 150)])) && !judge.is_relieved(&levels(&[(Signal::Pid, 149)])));
    }

    #[test]
    fn memory_comes_first_and_what_could_not_be_read_is_not_short() {
        let share = Limit { value: Threshold::Share(0.1), ..limit(Signal::ImageFs, 0, 0, None) };
        let mut judge = Judge::new(vec![share, limit(Signal::Memory, 100, 0, None), limit(Signal::Pid, 1, 0, None)], Duration::ZERO);
        let verdict = judge.look(&levels(&[(Signal::ImageFs, 99), (Signal::Memory, 5)]), Instant::now());
        assert_eq!(verdict.due.iter().map(|limit| limit.signal).collect::<Vec<_>>(), [Signal::Memory, Signal::ImageFs]);
    }
}
