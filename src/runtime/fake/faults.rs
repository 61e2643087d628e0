//! What tests do to the runtime in memory: scripts of containers, images, calls that hang or are slow, an absence.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::*;
use crate::runtime::ExecOutput;

/// How one instance of a container lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Ends by itself so long after its start, with this exit code.
    pub ends: Option<(Duration, i32)>,
    /// Ends so long after a TERM, with exit code 143; `None`: only a KILL ends it.
    pub after_term: Option<Duration>,
    /// Nothing ends it but a test: a stop says that it is done, and isn't.
    pub immortal: bool,
    /// Its start fails, and leaves a record with exit code 128.
    pub unstartable: bool,
}

impl Life {
    /// Runs until told to stop, and then ends at once.
    pub const RUNS: Self = Self { ends: None, after_term: Some(Duration::ZERO), unstartable: false, immortal: false };
    /// Runs until it is killed.
    pub const STUBBORN: Self = Self { after_term: None, ..Self::RUNS };
    /// Lives on after a stop that says it is done.
    pub const IMMORTAL: Self = Self { immortal: true, after_term: None, ..Self::RUNS };
    /// Can't be started.
    pub const UNSTARTABLE: Self = Self { unstartable: true, ..Self::RUNS };

    /// Ends by itself.
    pub const fn exits(after: Duration, code: i32) -> Self {
        Self { ends: Some((after, code)), ..Self::RUNS }
    }
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// On this host.
    Here,
    /// In a registry; pulling it takes so long.
    Registry(Duration),
    /// Nowhere: pulls fail with these words.
    Nowhere(String),
    /// In a registry that never answers.
    Silent,
}

/// Latency before and after a call's effect.
type Latency = (Duration, Duration);

#[derive(Default)]
pub(super) struct Faults {
    lives: HashMap<String, Vec<Life>>,
    images: HashMap<String, Store>,
    commands: HashMap<String, (Duration, ExecOutput)>,
    held: HashSet<(&'static str, String)>,
    refused: HashSet<&'static str>,
    away: Option<ErrorKind>,
    latency: HashMap<&'static str, Latency>,
    pub(super) deaf: bool,
    pub(super) doomed: HashSet<PodUid>,
}

impl Faults {
    /// Whether a call hangs, how it fails, and how long it takes.
    pub(super) fn of(&self, call: &'static str, pod: Option<&str>) -> (bool, Option<ErrorKind>, Latency) {
        let held = pod.is_some_and(|p| self.held.contains(&(call, p.to_owned())));
        let refused = || self.refused.contains(call).then(|| ErrorKind::Failed("not today".to_owned()));
        (held, self.away.clone().or_else(refused), self.latency.get(call).copied().unwrap_or_default())
    }

    pub(super) fn life(&self, container: &str, instance: u32) -> Life {
        let lives = self.lives.get(container).map(Vec::as_slice).unwrap_or_default();
        let turn = usize::try_from(instance).unwrap_or(usize::MAX);
        lives.get(turn).or(lives.last()).copied().unwrap_or(Life::RUNS)
    }

    pub(super) fn command(&self, container: &str) -> (Duration, ExecOutput) {
        self.commands.get(container).cloned().unwrap_or_default()
    }

    pub(super) fn image(&self, reference: &str) -> Store {
        self.images.get(reference).cloned().unwrap_or(Store::Here)
    }

    pub(super) fn put_image(&mut self, reference: &str, store: Store) {
        self.images.insert(reference.to_owned(), store);
    }
}

impl FakeRuntime {
    /// How the instances of a container live, by its name and restart count; the last one stands for all after it. Without a script they run.
    pub fn script(&self, container: &str, lives: &[Life]) {
        self.lock().faults.lives.insert(container.to_owned(), lives.to_vec());
    }

    /// How commands in a container of this name end from now on, and how long they take. Without a script they succeed at once.
    pub fn commands(&self, container: &str, after: Duration, output: ExecOutput) {
        self.lock().faults.commands.insert(container.to_owned(), (after, output));
    }

    /// Says where an image is, by its name with tag.
    pub fn image_is(&self, reference: &str, store: Store) {
        self.lock().faults.put_image(reference, store);
    }

    /// Calls of this name about a pod of this name are not answered, until [`Self::release`]. Calls under way stay so.
    pub fn hold(&self, call: &'static str, pod: &str) {
        self.lock().faults.held.insert((call, pod.to_owned()));
    }

    /// Ends a [`Self::hold`].
    pub fn release(&self, call: &'static str, pod: &str) {
        self.lock().faults.held.remove(&(call, pod.to_owned()));
    }

    /// Calls of this name fail and have no effect, or no more.
    pub fn refuse(&self, call: &'static str, refuse: bool) {
        let refused = &mut self.lock().faults.refused;
        let _ = if refuse { refused.insert(call) } else { refused.remove(call) };
    }

    /// Calls of this name take so long before their effect, and so long after it. A call that is dropped before its effect has none.
    pub fn slow(&self, call: &'static str, before: Duration, after: Duration) {
        self.lock().faults.latency.insert(call, (before, after));
    }

    /// All calls fail in this way and have no effect, until [`Self::come_back`]; containers live on. Hints are lost meanwhile.
    pub fn go_away(&self, kind: ErrorKind) {
        let faults = &mut self.lock().faults;
        (faults.away, faults.deaf) = (Some(kind), true);
    }

    /// The end of an absence; the stream of hints says that some were lost.
    pub fn come_back(&self) {
        let mut state = self.lock();
        (state.faults.away, state.faults.deaf) = (None, false);
        state.tell(None);
    }

    /// Loses all hints from now on without a word, or no more.
    pub fn lose_hints(&self, lose: bool) {
        self.lock().faults.deaf = lose;
    }

    /// From now on, starting anything of this pod is a violation: its object is gone for so long that the agent must know.
    pub fn doom(&self, uid: &PodUid) {
        self.lock().faults.doomed.insert(uid.clone());
    }

    /// A pod's sandbox and all in it dies, as when somebody kills its processes.
    pub fn kill_sandbox(&self, pod: &str) {
        let ready = self.pods().into_iter().filter(|p| &*p.pod.name == pod).flat_map(|p| p.sandboxes).filter(|s| s.ready);
        for sandbox in ready {
            self.lock().sandbox_down(&sandbox.id, true);
            self.end_all(&sandbox.id);
        }
    }

    /// Puts a sandbox there that no agent of this test made.
    pub fn put_sandbox(&self, pod: &PodRef, sandbox: Sandbox) {
        let mut state = self.lock();
        state.add_sandbox(pod.clone(), sandbox);
        state.hint(&pod.uid);
    }

    /// A pod's containers are gone without a trace, as when somebody removes them by hand.
    pub fn forget_containers(&self, pod: &str) {
        let mut state = self.lock();
        let uids: Vec<PodUid> = state.containers.iter().filter(|c| &*c.pod.name == pod).map(|c| c.pod.uid.clone()).collect();
        state.containers.retain(|c| &*c.pod.name != pod);
        uids.iter().for_each(|uid| state.hint(uid));
    }

    /// All containers of this name use so many bytes.
    pub fn use_memory(&self, container: &str, bytes: u64) {
        self.lock().memory_in_use.insert(container.to_owned(), bytes);
    }

    /// The handlers that sandboxes were made with.
    pub fn handlers(&self) -> Vec<String> {
        self.lock().handlers.clone()
    }

    /// Puts a container there that no agent of this test made.
    pub fn put_container(&self, pod: &PodRef, container: Container) {
        let mut state = self.lock();
        state.add_container(ContainerRecord { pod: pod.clone(), container, life: Life::RUNS, grace: None });
        state.hint(&pod.uid);
    }
}
