//! Exponential back-off by key. Pure: the caller says what time it is.
//!
//! Rules from client-go's util/flowcontrol/backoff.go: doubling up to a maximum, starting over after twice the maximum of quiet.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

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
    /// Delays from `initial` to `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, entries: HashMap::new() }
    }

    /// Notes one more failure, and returns when the key may be tried again.
    pub fn raise(&mut self, key: K, now: Instant) -> Instant {
        self.sweep(now);
        let longer = self.entries.get(&key).map_or(self.initial, |entry| (entry.delay * 2).min(self.max));
        self.entries.insert(key, Entry { delay: longer, raised: now });
        now + longer
    }

    /// When the key may be tried again; `None` when it may be tried now.
    pub fn wait(&self, key: &K, now: Instant) -> Option<Instant> {
        let entry = self.entries.get(key)?;
        Some(entry.raised + entry.delay).filter(|until| *until > now)
    }

    /// Forgets keys that `drop` names, such as those of a pod that is gone.
    pub fn forget(&mut self, drop: impl Fn(&K) -> bool) {
        self.entries.retain(|key, _| !drop(key));
    }

    /// Forgets keys that have been quiet for long enough to start over.
    fn sweep(&mut self, now: Instant) {
        let quiet = self.max * 2;
        self.entries.retain(|_, e| now.saturating_duration_since(e.raised) <= quiet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn backoff() -> Backoff<&'static str> {
        Backoff::new(S * 10, S * 300)
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_wait() {
        let (mut b, mut now) = (backoff(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..7 {
            let until = b.raise("a", now);
            assert_eq!(b.wait(&"a", now), Some(until));
            assert_eq!(b.wait(&"b", now), None);
            waits.push((until - now).as_secs());
            now = until;
            assert_eq!(b.wait(&"a", now), None);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_for_twice_the_maximum_starts_over() {
        for (quiet, want) in [(S * 600, S * 40), (S * 601, S * 10)] {
            let (mut b, start) = (backoff(), Instant::now());
            b.raise("a", start);
            b.raise("a", start);
            assert_eq!(b.raise("a", start + quiet), start + quiet + want, "{quiet:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_forgotten() {
        let (mut b, now) = (backoff(), Instant::now());
        b.raise("a", now);
        b.raise("b", now);
        b.forget(|key| *key == "a");
        assert_eq!((b.wait(&"a", now), b.wait(&"b", now).is_some()), (None, true));
        b.raise("c", now + S * 700);
        assert_eq!(b.entries.len(), 1);
    }
}
