//! How many pulls may run at the same time and start in a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Limits for all pulls of the node, from the KubeletConfiguration fields of the same names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageSettings {
    /// One pull at a time.
    pub serialize_image_pulls: bool,
    /// Pulls at a time otherwise; `None` for any number.
    pub max_parallel_image_pulls: Option<u32>,
    /// Pulls that may start in a second; 0 for any number.
    pub registry_pull_qps: u32,
    /// Pulls that may start at once after a quiet time.
    pub registry_burst: u32,
}

/// Lets pulls start. Waiting here holds up no pod that needs no pull.
#[derive(Debug)]
pub(super) struct Limits {
    slots: Option<Arc<Semaphore>>,
    rate: Option<Mutex<Rate>>,
}

impl Limits {
    pub(super) fn new(settings: &ImageSettings) -> Self {
        let slots = if settings.serialize_image_pulls { Some(1) } else { settings.max_parallel_image_pulls };
        let rate = (settings.registry_pull_qps > 0).then(|| Rate::new(settings.registry_pull_qps, settings.registry_burst));
        Self { slots: slots.map(|n| Arc::new(Semaphore::new(n.max(1) as usize))), rate: rate.map(Mutex::new) }
    }

    /// Waits for a turn, which lasts until the permit is dropped. Where upstream fails a pull with "pull QPS exceeded", it waits here.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let slot = match &self.slots {
            // It is never closed.
            Some(slots) => slots.clone().acquire_owned().await.ok(),
            None => None,
        };
        if let Some(rate) = &self.rate {
            let wait = rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
            tokio::time::sleep(wait).await;
        }
        slot
    }
}

/// A token bucket. Taking more than is there makes later takers wait longer.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Option<Instant>,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second), burst, tokens: burst, at: None }
    }

    /// Takes one token, and returns how long it takes until it is there.
    fn take(&mut self, now: Instant) -> Duration {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst) - 1.0;
        self.at = Some(now);
        Duration::from_secs_f64((-self.tokens / self.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_a_steady_rate() {
        let (mut rate, start) = (Rate::new(5, 2), Instant::now());
        let waits: Vec<_> = (0..4).map(|_| rate.take(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 200, 400]);
        assert_eq!(rate.take(start + Duration::from_secs(60)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn slots() {
        let settings = |serialize, parallel| ImageSettings {
            serialize_image_pulls: serialize,
            max_parallel_image_pulls: parallel,
            registry_pull_qps: 0,
            registry_burst: 0,
        };
        for (settings, want) in [(settings(true, Some(5)), 1), (settings(false, Some(3)), 3), (settings(false, None), 10)] {
            let limits = Limits::new(&settings);
            let mut held = Vec::new();
            while held.len() < 10
                && let Ok(turn) = tokio::time::timeout(Duration::from_millis(1), limits.turn()).await
            {
                held.push(turn);
            }
            assert_eq!(held.len(), want, "{settings:?}");
        }
    }
}
