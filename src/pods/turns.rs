//! Turns at the runtime: when many pods start at once, the first ones finish before the last ones begin.
//!
//! The runtime works with a fixed amount of CPU. Fifty sandboxes at the same time are all late; a few at a time are done one after
//! the other, and while the next ones are made, the API server hears of those that are ready.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Pods that make their sandbox, and pods that start their containers, at the same time, for each CPU. More don't finish sooner: on two
/// cores, 50 pods took the same time with 4 and 8 bare calls at once, and longer with more (`docs/BENCHMARKS.md`).
const FOR_EACH_CPU: usize = 2;
/// However few CPUs there are: a call may wait for something else.
const LEAST: usize = 4;
/// Whoever waits longer goes without a turn: a call that hangs must hold up nobody.
const PATIENCE: Duration = Duration::from_secs(5);

/// The turns. Containers have their own, so that a pod with a sandbox never waits for one without.
#[derive(Debug)]
pub struct Turns {
    sandboxes: Semaphore,
    containers: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of((cpus * FOR_EACH_CPU).max(LEAST))
    }
}

impl Turns {
    /// So many of each sort at a time.
    fn of(count: usize) -> Self {
        Self { sandboxes: Semaphore::new(count), containers: Semaphore::new(count) }
    }

    /// A turn to make a sandbox; it ends when dropped.
    pub async fn sandbox(&self) -> Option<SemaphorePermit<'_>> {
        turn(&self.sandboxes).await
    }

    /// A turn to start containers.
    pub async fn containers(&self) -> Option<SemaphorePermit<'_>> {
        turn(&self.containers).await
    }
}

async fn turn(of: &Semaphore) -> Option<SemaphorePermit<'_>> {
    timeout(PATIENCE, of.acquire()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_behind_a_call_that_hangs() {
        let turns = Turns::of(3);
        let mut hung = Vec::new();
        for _ in 0..3 {
            hung.push(turns.sandbox().await.expect("a turn"));
        }
        let start = Instant::now();
        assert!(turns.containers().await.is_some(), "containers have turns of their own");
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(turns.sandbox().await.is_none());
        assert_eq!(start.elapsed(), PATIENCE);
        hung.pop();
        assert!(turns.sandbox().await.is_some());
    }
}
