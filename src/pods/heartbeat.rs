//! Whether the manager still looks at its pods: what `/healthz/syncloop` asks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The manager turns at least once a minute, because it compares itself with the runtime that often. Upstream allows twice the
/// sync frequency, and five minutes at least (`pkg/kubelet/kubelet.go`, SyncLoopHealthCheck).
const SILENCE: Duration = Duration::from_secs(300);

/// When the manager last turned.
#[derive(Debug)]
pub struct Heartbeat(Mutex<Instant>);

impl Default for Heartbeat {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Heartbeat {
    /// The manager turns.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Fails with the reason when it has not turned for too long.
    pub fn check(&self) -> Result<(), String> {
        let silent = self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if silent <= SILENCE { Ok(()) } else { Err(format!("pods were last looked at {} s ago", silent.as_secs())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_failure() {
        let heart = Heartbeat::default();
        tokio::time::advance(SILENCE).await;
        assert_eq!(heart.check(), Ok(()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(heart.check(), Err("pods were last looked at 301 s ago".into()));
        heart.beat();
        assert_eq!(heart.check(), Ok(()));
    }
}
