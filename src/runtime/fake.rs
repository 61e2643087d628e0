//! A container runtime in memory, for tests: sandboxes, containers that live as a script says, images, hints.
//!
//! It behaves as containerd does where agents depend on it: names stay reserved until the object is removed, a stop that nobody waits
//! for any more never comes to its KILL, and [`Runtime::container`] doesn't tell the sandbox. Every call goes through an [`Injector`] under
//! room `runtime`. What no agent may ever ask for is done all the same, and noted as a violation.

mod calls;
mod faults;
mod state;
#[cfg(test)]
mod tests;

use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Container, ContainerPhase, Error, ErrorKind, ObservedPod, Result, Sandbox};
use crate::inject::Injector;
use crate::model::clock::Clock;
use crate::model::{ContainerId, PodRef, PodUid};

pub use faults::{Life, Store};
use state::{ContainerRecord, State};

/// How long the agent waits for an answer (`runtimeRequestTimeout`).
const DEADLINE: Duration = Duration::from_secs(120);

/// The runtime. Clones share one state, so that it outlives an agent that a test ends.
#[derive(Clone)]
pub struct FakeRuntime {
    clock: Clock,
    injector: Injector,
    state: Arc<Mutex<State>>,
    /// Woken whenever a container ends.
    ended: watch::Sender<()>,
}

/// What tests see, and what containers do by themselves. What tests do to the runtime is in `faults`.
impl FakeRuntime {
    /// A runtime with nothing in it. It knows every image unless told otherwise.
    pub fn new(clock: Clock, injector: Injector) -> Self {
        Self { clock, injector, state: Arc::default(), ended: watch::Sender::new(()) }
    }

    /// The runtime as an agent sees it that starts now: its calls end with it.
    pub fn for_agent(&self) -> Self {
        Self { injector: self.injector.for_agent(), ..self.clone() }
    }

    /// All pods, as [`super::Runtime::list_pods`] tells them.
    pub fn pods(&self) -> Vec<ObservedPod> {
        self.lock().pods()
    }

    /// One pod, by name: the newest one of that name.
    pub fn pod(&self, name: &str) -> Option<ObservedPod> {
        let newest = |p: &ObservedPod| p.sandboxes.first().map(|s| s.created_at);
        self.pods().into_iter().filter(|p| &*p.pod.name == name).max_by_key(newest)
    }

    /// The running instance of a container, by the names of pod and container.
    pub fn running(&self, pod: &str, container: &str) -> Option<Container> {
        let of = |c: &&Container| &*c.name == container && c.phase == ContainerPhase::Running;
        self.pods().iter().filter(|p| &*p.pod.name == pod).flat_map(|p| &p.containers).find(of).cloned()
    }

    /// How many instances of a pod's container were ever started.
    pub fn starts(&self, pod: &str, container: &str) -> usize {
        self.lock().started.iter().filter(|(p, c)| p == pod && c == container).count()
    }

    /// Containers and commands of all that was executed.
    pub fn executed(&self) -> Vec<(String, Vec<String>)> {
        self.lock().executed.clone()
    }

    /// The pods of all containers that an agent told to stop while they ran.
    pub fn stopped(&self) -> Vec<PodUid> {
        self.lock().stopped.clone()
    }

    /// What an agent did that none may ever do. Empty in a test that passes.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Ends a container as if its process had ended.
    pub fn end(&self, id: &ContainerId, exit_code: i32) {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(record) = state.container_mut(id).filter(|r| is_alive(r.container.phase)) else { return };
        let c = &mut record.container;
        (c.phase, c.exit_code, c.finished_at) = (ContainerPhase::Exited, exit_code, now);
        c.reason = if exit_code == 0 { "Completed" } else { "Error" }.into();
        let uid = record.pod.uid.clone();
        state.hint(&uid);
        drop(state);
        self.ended.send_replace(());
    }

    fn end_after(&self, id: ContainerId, after: Duration, exit_code: i32) {
        let this = self.clone();
        tokio::spawn(async move {
            sleep(after).await;
            this.end(&id, exit_code);
        });
    }

    /// Returns once the container doesn't run any more.
    async fn wait_end(&self, id: &ContainerId) {
        let mut ended = self.ended.subscribe();
        while self.lock().container_mut(id).is_some_and(|r| is_alive(r.container.phase)) {
            // The sender lives in `self`, so this can't fail.
            let _ = ended.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of the agent about `pod`, or about all pods: faults come first, and the agent doesn't wait for ever.
    async fn call<T>(&self, name: &'static str, pod: Option<&str>, effect: impl FnOnce() -> Result<T>) -> Result<T> {
        let work = async {
            let (held, away, (before, after)) = self.lock().faults.of(name, pod);
            if held {
                pending::<()>().await;
            }
            sleep_some(before).await;
            let answer = match away {
                Some(kind) => Err(Error { action: name.to_owned(), kind }),
                None => effect(),
            };
            sleep_some(after).await;
            answer
        };
        within(DEADLINE, name, self.injector.call("runtime", name, work)).await
    }
}

/// What a stop has something to do with.
fn is_alive(phase: ContainerPhase) -> bool {
    matches!(phase, ContainerPhase::Running | ContainerPhase::Unknown)
}

/// No time at all when it takes none: a sleep of zero would give others a turn.
async fn sleep_some(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

async fn within<T>(deadline: Duration, action: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error { action: action.to_owned(), kind: ErrorKind::Deadline(deadline) });
    timeout(deadline, call).await.unwrap_or_else(late)
}
