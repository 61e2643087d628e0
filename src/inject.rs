//! Faults for tests: the fakes send each call that would leave the process through an [`Injector`].
//!
//! It counts calls over all fakes that share it, so that a test can end the agent at the n-th call (`kill -9` between two
//! instructions), lose an answer, never answer, or answer with an error. Compiled for tests only.

use std::any::Any;
use std::collections::VecDeque;
use std::future::{Future, pending};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

/// On which side of a call's effect the agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The call never reaches the other side.
    Before,
    /// The other side has done it, the agent never hears of it.
    After,
}

/// One call that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The fake's room: `api`, `runtime`.
    pub room: &'static str,
    /// The call's name, as the trait's method has it.
    pub name: &'static str,
}

enum Fault {
    Fail(Box<dyn Any + Send>),
    FailAfter(Box<dyn Any + Send>),
    Hang,
}

enum Verdict {
    Pass,
    Die(Crash),
    Fault(Fault),
}

#[derive(Default)]
struct State {
    /// How often the agent was started again.
    incarnation: u64,
    calls: Vec<Call>,
    /// The present moment of a paused clock, and how many calls it saw.
    moment: Option<(Instant, usize)>,
    storm: Option<Call>,
    crash: Option<(usize, Crash)>,
    faults: Vec<(Call, VecDeque<Fault>)>,
}

/// Calls at one moment of a paused clock that no sane agent makes: it tries again and again without a pause.
const STORM: usize = 20_000;

impl State {
    fn in_storm(&mut self, call: Call) -> bool {
        let now = Instant::now();
        let count = self.moment.filter(|(at, _)| *at == now).map_or(1, |(_, count)| count + 1);
        self.moment = Some((now, count));
        if count > STORM {
            self.storm.get_or_insert(call);
        }
        self.storm.is_some()
    }
}

/// Decides for each call of the fakes what becomes of it. Clones share one state.
#[derive(Clone)]
pub struct Injector {
    state: Arc<Mutex<State>>,
    crashed: watch::Sender<bool>,
    /// Whose calls these are; `None` for those of tests, which outlive all agents.
    incarnation: Option<u64>,
}

impl Default for Injector {
    fn default() -> Self {
        Self { state: Arc::default(), crashed: watch::Sender::new(false), incarnation: None }
    }
}

impl Injector {
    /// The handle for an agent that starts now. After the next [`Self::restart`] every call through it hangs for ever, so that tasks
    /// which the agent left behind can't do anything any more.
    pub fn for_agent(&self) -> Self {
        Self { incarnation: Some(self.lock().incarnation), ..self.clone() }
    }

    /// Runs `effect` as the next call, unless a fault is due. After a crash every call hangs for ever, until [`Self::restart`].
    pub async fn call<T, E: 'static>(
        &self,
        room: &'static str,
        name: &'static str,
        effect: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match self.verdict(Call { room, name }) {
            Verdict::Pass => effect.await,
            Verdict::Die(when) => {
                if when == Crash::After {
                    let _ = effect.await;
                }
                self.crashed.send_replace(true);
                pending().await
            }
            Verdict::Fault(Fault::Hang) => pending().await,
            Verdict::Fault(Fault::Fail(error)) => Err(as_error(error, name)),
            Verdict::Fault(Fault::FailAfter(error)) => {
                let _ = effect.await;
                Err(as_error(error, name))
            }
        }
    }

    /// The same for a call that can't wait. A crash is a panic that ends the task without a word; other faults are not for such calls.
    pub fn call_now<T>(&self, room: &'static str, name: &'static str, effect: impl FnOnce() -> T) -> T {
        match self.verdict(Call { room, name }) {
            Verdict::Pass => effect(),
            Verdict::Die(when) => {
                if when == Crash::After {
                    drop(effect());
                }
                self.crashed.send_replace(true);
                resume_unwind(Box::new("the agent was killed"))
            }
            Verdict::Fault(Fault::Hang) => resume_unwind(Box::new("the agent is dead")),
            Verdict::Fault(_) => panic!("the test injected an error into {name}, which can't wait"),
        }
    }

    /// The agent dies at the call with this number, counted from 0 since the start or the last [`Self::restart`].
    pub fn crash_at(&self, number: usize, when: Crash) {
        self.lock().crash = Some((number, when));
    }

    /// Waits until the agent has died.
    pub async fn crashed(&self) {
        let _ = self.crashed.subscribe().wait_for(|dead| *dead).await;
    }

    /// The agent is to be started again: counts from 0, forgets all faults. The dead agent's tasks must be gone by now.
    pub fn restart(&self) {
        let mut state = self.lock();
        *state = State { incarnation: state.incarnation + 1, ..State::default() };
        self.crashed.send_replace(false);
    }

    /// No fault is due any more, and no crash.
    pub fn forget_faults(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.crash = None;
    }

    /// The next call of this name fails with `error` and has no effect. Faults of one name happen in the order they were given.
    pub fn fail<E: Send + 'static>(&self, room: &'static str, name: &'static str, error: E) {
        self.push(Call { room, name }, Fault::Fail(Box::new(error)));
    }

    /// The next call of this name has its effect, but the answer is `error`.
    pub fn fail_after<E: Send + 'static>(&self, room: &'static str, name: &'static str, error: E) {
        self.push(Call { room, name }, Fault::FailAfter(Box::new(error)));
    }

    /// The next call of this name has no effect and is never answered.
    pub fn hang(&self, room: &'static str, name: &'static str) {
        self.push(Call { room, name }, Fault::Hang);
    }

    /// All calls since the start or the last [`Self::restart`].
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// A call that was made again and again without a pause, with paused time. From then on all calls hang, so that the test can end.
    pub fn storm(&self) -> Option<Call> {
        self.lock().storm
    }

    /// How many calls of one name were made.
    pub fn count(&self, room: &'static str, name: &'static str) -> usize {
        self.lock().calls.iter().filter(|c| **c == Call { room, name }).count()
    }

    fn push(&self, call: Call, fault: Fault) {
        let mut state = self.lock();
        match state.faults.iter_mut().find(|(c, _)| *c == call) {
            Some((_, queue)) => queue.push_back(fault),
            None => state.faults.push((call, VecDeque::from([fault]))),
        }
    }

    fn verdict(&self, call: Call) -> Verdict {
        if *self.crashed.borrow() {
            return Verdict::Fault(Fault::Hang);
        }
        let mut state = self.lock();
        if self.incarnation.is_some_and(|mine| mine != state.incarnation) {
            return Verdict::Fault(Fault::Hang);
        }
        let number = state.calls.len();
        state.calls.push(call);
        if state.in_storm(call) {
            return Verdict::Fault(Fault::Hang);
        }
        if let Some((_, when)) = state.crash.filter(|(at, _)| *at == number) {
            return Verdict::Die(when);
        }
        let fault = state.faults.iter_mut().find(|(c, _)| *c == call).and_then(|(_, queue)| queue.pop_front());
        fault.map_or(Verdict::Pass, Verdict::Fault)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_error<E: 'static>(error: Box<dyn Any + Send>, name: &str) -> E {
    match error.downcast() {
        Ok(error) => *error,
        Err(_) => panic!("the test injected an error of another type than {name} returns"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn bump(injector: &Injector, n: &AtomicU32) -> Result<u32, String> {
        injector.call("room", "bump", async { Ok(n.fetch_add(1, Ordering::SeqCst)) }).await
    }

    #[tokio::test]
    async fn faults_come_once_and_in_order() {
        let (i, n) = (Injector::default(), AtomicU32::new(0));
        i.fail("room", "bump", "no".to_owned());
        i.fail_after("room", "bump", "lost".to_owned());
        i.fail("room", "other", "never".to_owned());
        assert_eq!(bump(&i, &n).await, Err("no".into()));
        assert_eq!(n.load(Ordering::SeqCst), 0);
        assert_eq!(bump(&i, &n).await, Err("lost".into()));
        assert_eq!(n.load(Ordering::SeqCst), 1);
        assert_eq!(bump(&i, &n).await, Ok(1));
        assert_eq!(i.count("room", "bump"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_ends_everything_until_the_restart() {
        for (when, effects) in [(Crash::Before, 1), (Crash::After, 2)] {
            let (i, n) = (Injector::default(), Arc::new(AtomicU32::new(0)));
            i.crash_at(1, when);
            let agent = tokio::spawn({
                let (i, n) = (i.clone(), n.clone());
                async move {
                    loop {
                        let _ = bump(&i, &n).await;
                    }
                }
            });
            i.crashed().await;
            agent.abort();
            assert_eq!(n.load(Ordering::SeqCst), effects, "{when:?}");
            assert!(tokio::time::timeout(std::time::Duration::from_secs(1), bump(&i, &n)).await.is_err());
            i.restart();
            assert_eq!(bump(&i, &n).await, Ok(effects));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_dead_agent_left_behind_does_nothing() {
        let (i, n) = (Injector::default(), AtomicU32::new(0));
        let old = i.for_agent();
        assert_eq!(bump(&old, &n).await, Ok(0));
        i.restart();
        assert!(tokio::time::timeout(std::time::Duration::from_secs(1), bump(&old, &n)).await.is_err());
        assert_eq!(bump(&i.for_agent(), &n).await, Ok(1));
        assert_eq!(i.count("room", "bump"), 1, "since the restart");
    }

    #[tokio::test(start_paused = true)]
    async fn trying_again_without_a_pause_is_noticed() {
        let (i, n) = (Injector::default(), AtomicU32::new(0));
        let forever = async {
            loop {
                let _ = bump(&i, &n).await;
            }
        };
        assert!(tokio::time::timeout(std::time::Duration::from_secs(1), forever).await.is_err());
        assert_eq!(i.storm(), Some(Call { room: "room", name: "bump" }));
    }

    #[tokio::test]
    async fn a_call_that_cannot_wait_ends_its_task() {
        for (when, effects) in [(Crash::Before, 0), (Crash::After, 1)] {
            let (i, n) = (Injector::default(), Arc::new(AtomicU32::new(0)));
            i.crash_at(0, when);
            let task = tokio::spawn({
                let (i, n) = (i.clone(), n.clone());
                async move { i.call_now("room", "bump", || n.fetch_add(1, Ordering::SeqCst)) }
            });
            assert!(task.await.is_err_and(|e| e.is_panic()));
            i.crashed().await;
            assert_eq!(n.load(Ordering::SeqCst), effects, "{when:?}");
        }
    }
}
