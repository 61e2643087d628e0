//! Growing pauses between tries, with jitter, so that the nodes of a cluster don't come back all at once.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pauses that double from `first` to `longest`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts with a pause of `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The pause to make now: between half and the whole of the current step.
    pub fn pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.longest);
        step / 2 + random_part(step / 2)
    }

    /// After a success: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// `base` plus up to `share` (0.04 for 4 %) of it.
pub fn jittered(base: Duration, share: f64) -> Duration {
    base + random_part(base.mul_f64(share))
}

/// A random duration from zero up to `limit`.
pub fn random_part(limit: Duration) -> Duration {
    // Every RandomState has other keys: random enough to spread load, and no crate for it.
    let random = RandomState::new().hash_one(0u8) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let share = random as f64 / (1u64 << 53) as f64;
    limit.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_starts_again() {
        let mut b = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        for step in [100, 200, 400, 500, 500] {
            let pause = b.pause().as_millis();
            assert!((step / 2..=step).contains(&pause), "{pause} ms at step {step}");
        }
        b.reset();
        assert!(b.pause() <= Duration::from_millis(100));
    }

    #[test]
    fn jitter_spreads_within_its_share() {
        let base = Duration::from_secs(100);
        let all: Vec<_> = (0..50).map(|_| jittered(base, 0.04)).collect();
        assert!(all.iter().all(|d| (base..=Duration::from_secs(104)).contains(d)));
        assert!(all.iter().any(|d| *d != all[0]));
    }
}
