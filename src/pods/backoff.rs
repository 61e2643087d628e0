//! Exponential back-off by key: for crashed containers and for failed image pulls. Pure: the caller says what time it is.
//!
//! Rules from client-go's util/flowcontrol/backoff.go: doubling up to a maximum, starting over after twice the maximum of quiet.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// First delay of both kinds of back-off.
pub const INITIAL: Duration = Duration::from_secs(10);
/// Longest delay of both kinds of back-off, unless `crashLoopBackOff.maxContainerRestartPeriod` says otherwise.
pub const MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: Duration,
    raised: Instant,
}

/// The delays of all keys that failed lately.
#[derive(Debug)]
pub struct Backoff<K> {
    initial: Duration,
    max: Duration,
    entries: HashMap<K, Entry>,
}

impl<K: Hash + Eq> Backoff<K> {
    /// Delays from `initial` (or `max`, when that is less) to `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial: initial.min(max), max, entries: HashMap::new() }
    }

    /// Notes one more failure, seen at `event` (when the container ended), and makes the key's delay longer.
    pub fn raise(&mut self, key: K, event: Instant, now: Instant) {
        let longer = match self.entries.get(&key) {
            Some(entry) if !self.is_over(entry, event) => (entry.delay * 2).min(self.max),
            _ => self.initial,
        };
        self.entries.insert(key, Entry { delay: longer, raised: now });
    }

    /// When the key may be tried again, counted from `event`; `None` when it may be tried now.
    pub fn wait_from(&self, key: &K, event: Instant, now: Instant) -> Option<Instant> {
        let entry = self.entries.get(key).filter(|e| !self.is_over(e, event))?;
        Some(event + entry.delay).filter(|until| *until > now)
    }

    /// When the key may be tried again, counted from the last [`Self::raise`]; `None` when it may be tried now.
    pub fn wait(&self, key: &K, now: Instant) -> Option<Instant> {
        let entry = self.entries.get(key)?;
        Some(entry.raised + entry.delay).filter(|until| *until > now)
    }

    /// The key's present delay, zero when it never failed: what messages tell.
    pub fn delay(&self, key: &K) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |e| e.delay)
    }

    /// Forgets keys that `drop` names, such as those of a pod that is gone.
    pub fn forget(&mut self, drop: impl Fn(&K) -> bool) {
        self.entries.retain(|key, _| !drop(key));
        self.entries.shrink_to(self.entries.len() * 2);
    }

    /// Forgets keys that have been quiet for long enough to start over.
    pub fn sweep(&mut self, now: Instant) {
        let quiet = self.max * 2;
        self.entries.retain(|_, e| now.saturating_duration_since(e.raised) <= quiet);
    }

    /// Whether a failure at `event` comes so late that it counts as the first one.
    fn is_over(&self, entry: &Entry, event: Instant) -> bool {
        event.saturating_duration_since(entry.raised) > self.max * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_container_that_crashes_at_once_waits_longer_and_longer() {
        let start = Instant::now();
        let mut b = Backoff::new(INITIAL, MAX);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..8 {
            // It has just ended: wait as long as asked, then start again.
            let ended = now;
            if let Some(until) = b.wait_from(&"c", ended, now) {
                now = until;
            }
            assert_eq!(b.wait_from(&"c", ended, now), None);
            waits.push((now - ended).as_secs());
            b.raise("c", ended, now);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_for_twice_the_maximum_starts_over() {
        let start = Instant::now();
        for (ran, want) in [(600 * S, 80 * S), (601 * S, 10 * S)] {
            let mut b = Backoff::new(INITIAL, MAX);
            for _ in 0..3 {
                b.raise("c", start, start);
            }
            assert_eq!(b.delay(&"c"), 40 * S);
            let ended = start + ran;
            assert_eq!(b.wait_from(&"c", ended, ended).is_some(), ran == 600 * S);
            b.raise("c", ended, ended);
            assert_eq!(b.delay(&"c"), want, "{ran:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pulls_count_from_the_last_failure() {
        let start = Instant::now();
        let mut b = Backoff::new(INITIAL, MAX);
        assert_eq!(b.wait(&"image", start), None);
        b.raise("image", start, start);
        assert_eq!(b.wait(&"image", start + 9 * S), Some(start + 10 * S));
        assert_eq!(b.wait(&"image", start + 10 * S), None);
        assert_eq!(b.wait(&"other", start), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_maximum_is_the_first_delay_too() {
        let now = Instant::now();
        let mut b = Backoff::new(INITIAL, 3 * S);
        b.raise("c", now, now);
        b.raise("c", now, now);
        assert_eq!(b.delay(&"c"), 3 * S);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_forgotten() {
        let start = Instant::now();
        let mut b = Backoff::new(INITIAL, MAX);
        b.raise(("pod-a", "x"), start, start);
        b.raise(("pod-a", "y"), start, start);
        b.raise(("pod-b", "x"), start, start + 10 * S);
        b.forget(|(pod, name)| *pod == "pod-a" && *name == "x");
        assert_eq!(b.delay(&("pod-a", "x")), Duration::ZERO);
        b.sweep(start + 605 * S);
        assert_eq!((b.delay(&("pod-a", "y")), b.delay(&("pod-b", "x"))), (Duration::ZERO, INITIAL));
    }
}
