//! When everything is compared with the kernel though no change asks for it. Pure.
//!
//! Somebody else's change of our tables is put right at once. Where it comes again and again (two programs that both want to own the
//! tables), the answers get slower: each is a full comparison, and none of them settles it.

use std::time::Duration;

use tokio::time::Instant;

/// First and longest time between two answers to somebody who goes on.
const QUIET: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Who was calm for this long begins anew.
const CALM: Duration = Duration::from_secs(60);
/// The safety net, should a notification never come.
const AT_LEAST: Duration = Duration::from_secs(3600);

/// See the module's description.
#[derive(Debug)]
pub struct Vigilance {
    due: Instant,
    /// Something was heard since the last comparison.
    pending: bool,
    looked: Instant,
    heard: Option<Instant>,
    quiet: Duration,
}

impl Vigilance {
    /// Everything was compared just now.
    pub fn new(now: Instant) -> Self {
        Self { due: now + AT_LEAST, pending: false, looked: now, heard: None, quiet: Duration::ZERO }
    }

    /// When to compare everything.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether what was heard is not answered yet. There is no need to hear more.
    pub fn pending(&self) -> bool {
        self.pending
    }

    /// Somebody changed something. True after a calm time: worth a line in the log.
    pub fn heard(&mut self, now: Instant) -> bool {
        if self.pending {
            return false;
        }
        let fresh = self.heard.is_none_or(|heard| now.duration_since(heard) > CALM);
        if fresh {
            self.quiet = Duration::ZERO;
        }
        self.due = now.max(self.looked + self.quiet);
        self.quiet = (self.quiet * 2).clamp(QUIET.0, QUIET.1);
        self.heard = Some(now);
        self.pending = true;
        fresh
    }

    /// Everything was compared, just now.
    pub fn looked(&mut self, now: Instant) {
        self.looked = now;
        self.due = now + AT_LEAST;
        self.pending = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_get_slower_while_it_goes_on() {
        let mut now = Instant::now();
        let mut vigilance = Vigilance::new(now);
        now += Duration::from_secs(1);
        let mut waits = Vec::new();
        for round in 0..14 {
            assert_eq!(vigilance.heard(now), round == 0);
            assert!(!vigilance.heard(now), "once is enough");
            waits.push((vigilance.due() - now).as_millis());
            now = vigilance.due();
            vigilance.looked(now);
        }
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000, 30000]);
        now += Duration::from_secs(61);
        assert!(vigilance.heard(now));
        assert_eq!(vigilance.due(), now, "after a calm minute at once");
        vigilance.looked(now);
        assert_eq!(vigilance.due(), now + AT_LEAST);
    }
}
