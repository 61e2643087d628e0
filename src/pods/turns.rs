//! Turns at the runtime: when many pods start at once, the first ones finish before the last ones begin.
//!
//! The runtime works with a fixed amount of CPU. Fifty sandboxes at the same time are all late; a few at a time are done one after
//! the other, and while the next ones are made, the API server hears of those that are ready. So what finishes a pod goes before
//! what begins one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Pods at work at the same time, for each CPU. More don't finish sooner: on two cores, 50 pods took the same time with 4 and 8 bare calls
/// at once, and longer with more (`docs/BENCHMARKS.md`).
const FOR_EACH_CPU: usize = 2;
/// However few CPUs there are: a call may wait for something else.
const LEAST: usize = 4;
/// Whoever has seen no turn end for so long goes without one: calls that hang must hold up nobody.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same if some turns end, but not enough.
const LONGEST: Duration = Duration::from_secs(20);

/// The turns.
#[derive(Debug)]
pub struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// When a turn ended last.
    progress: Instant,
    containers: VecDeque<oneshot::Sender<Turn>>,
    sandboxes: VecDeque<oneshot::Sender<Turn>>,
}

/// A turn. It ends when dropped, and the next in the queue has it.
#[derive(Debug)]
pub struct Turn(Arc<Mutex<State>>);

impl Default for Turns {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of((cpus * FOR_EACH_CPU).max(LEAST))
    }
}

impl Turns {
    /// So many at a time.
    fn of(free: usize) -> Self {
        let state = State { free, progress: Instant::now(), containers: VecDeque::new(), sandboxes: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// A turn to make a sandbox; `None`: do it without one.
    pub async fn sandbox(&self) -> Option<Turn> {
        self.turn(|state| &mut state.sandboxes).await
    }

    /// A turn to start containers; `None`: do it without one.
    pub async fn containers(&self) -> Option<Turn> {
        self.turn(|state| &mut state.containers).await
    }

    async fn turn(&self, queue: impl FnOnce(&mut State) -> &mut VecDeque<oneshot::Sender<Turn>>) -> Option<Turn> {
        let (sender, mut turn) = oneshot::channel();
        {
            let mut state = lock(&self.0);
            if state.free > 0 {
                state.free -= 1;
                return Some(Turn(Arc::clone(&self.0)));
            }
            queue(&mut state).push_back(sender);
        }
        let began = Instant::now();
        loop {
            let patience = lock(&self.0).progress.max(began) + PATIENCE;
            let end = patience.min(began + LONGEST);
            match timeout_at(end, &mut turn).await {
                Ok(turn) => return turn.ok(),
                Err(_) if lock(&self.0).progress.max(began) + PATIENCE > Instant::now() && Instant::now() < began + LONGEST => {}
                // A turn that comes in this very moment is dropped with the channel, and goes to the next.
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.progress = Instant::now();
        let next = state.containers.pop_front().or_else(|| state.sandboxes.pop_front());
        let Some(next) = next else {
            state.free += 1;
            return;
        };
        drop(state);
        // Nobody may wait there any more: then it is dropped at once, and so goes on to the next.
        let _ = next.send(Turn(Arc::clone(&self.0)));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_finishes_a_pod_goes_before_what_begins_one() {
        let turns = Arc::new(Turns::of(1));
        let first = turns.sandbox().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (name, container) in [("a", false), ("b", false), ("c", true), ("d", true)] {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            tasks.spawn(async move {
                let turn = if container { turns.containers().await } else { turns.sandbox().await };
                assert!(turn.is_some());
                order.lock().unwrap().push(name);
            });
            yield_now().await;
        }
        drop(first);
        while tasks.join_next().await.is_some() {}
        assert_eq!(*order.lock().unwrap(), ["c", "d", "a", "b"]);
        assert_eq!(lock(&turns.0).free, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_behind_calls_that_hang() {
        let turns = Turns::of(2);
        let start = Instant::now();
        let hung = [turns.sandbox().await, turns.containers().await];
        assert!(turns.sandbox().await.is_none());
        assert_eq!(start.elapsed(), PATIENCE);
        drop(hung);
        assert!(turns.sandbox().await.is_some(), "those who gave up took nothing with them");
    }

    #[tokio::test(start_paused = true)]
    async fn who_sees_others_finish_waits_for_longer() {
        let turns = Arc::new(Turns::of(1));
        let start = Instant::now();
        let hung = turns.sandbox().await;
        let others = Arc::clone(&turns);
        tokio::spawn(async move {
            let _hung = hung;
            loop {
                sleep(PATIENCE / 2).await;
                lock(&others.0).progress = Instant::now();
            }
        });
        assert!(turns.sandbox().await.is_none());
        assert_eq!(start.elapsed(), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_nobody_takes_any_more_is_not_lost() {
        let turns = Turns::of(1);
        let first = turns.sandbox().await;
        let mut gone = Box::pin(turns.containers());
        assert!(futures::poll!(&mut gone).is_pending());
        drop(first);
        drop(gone);
        assert!(turns.sandbox().await.is_some());
    }
}
