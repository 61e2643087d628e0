//! A container runtime in memory, for tests with paused time.
//!
//! In: the calls of [`Runtime`], and scripts that say what containers do. Out: states, hints, and a list of everything that an agent
//! must never do ([`FakeRuntime::violations`]). Owns: its world, which outlives the agent under test. Clones share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::inject::Injector;
use crate::model::PodUid;
use crate::runtime::{Container, ContainerPhase, RuntimeHealth};

mod calls;
#[cfg(test)]
mod tests;
mod world;

use world::World;

/// What a container does once it runs. [`Script::default`] runs until it is told to stop, and then ends at once with code 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Ends by itself after this time, with this code.
    pub exit: Option<(Duration, i32)>,
    /// How long it takes to end after TERM; `None` ignores it until KILL.
    pub on_term: Option<Duration>,
    /// Its termination message.
    pub message: String,
}

impl Default for Script {
    fn default() -> Self {
        Self { exit: None, on_term: Some(Duration::ZERO), message: String::new() }
    }
}

impl Script {
    /// Ends by itself.
    pub fn exits(after: Duration, code: i32) -> Self {
        Self { exit: Some((after, code)), ..Self::default() }
    }

    /// Doesn't end before KILL.
    pub fn ignores_term() -> Self {
        Self { on_term: None, ..Self::default() }
    }
}

/// What becomes of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pull {
    /// The image is there after this time.
    Takes(Duration),
    /// The registry says no.
    Fails(String),
}

/// A container runtime in memory.
#[derive(Clone)]
pub struct FakeRuntime {
    world: Arc<Mutex<World>>,
    /// Counts calls and makes faults, under room `runtime` and the names of the trait's methods.
    pub injector: Injector,
    hints: broadcast::Sender<Option<PodUid>>,
    /// Steps whenever the world changes, for calls that wait for it.
    changed: watch::Sender<u64>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self::new(Injector::default())
    }
}

impl FakeRuntime {
    /// A runtime with nothing in it.
    pub fn new(injector: Injector) -> Self {
        let (hints, _) = broadcast::channel(1024);
        Self { world: Arc::default(), injector, hints, changed: watch::Sender::new(0) }
    }

    /// What the containers of this name do: the first start follows the first script and so on; the last one stays.
    pub fn script(&self, container: &str, scripts: impl IntoIterator<Item = Script>) {
        self.lock().scripts.insert(container.to_owned(), scripts.into_iter().collect());
    }

    /// An image that is present.
    pub fn add_image(&self, reference: &str) {
        self.lock().add_image(reference);
    }

    /// What becomes of pulls of an image; without this they fail as not found.
    pub fn on_pull(&self, reference: &str, pull: Pull) {
        self.lock().pulls.insert(reference.to_owned(), pull);
    }

    /// What `health` answers.
    pub fn set_health(&self, health: RuntimeHealth) {
        self.lock().health = health;
    }

    /// Whether nobody listens on the socket: all calls fail, hints end until it is back.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
        if !down {
            self.tell(None);
        }
    }

    /// Whether hints get lost, with nobody told.
    pub fn lose_hints(&self, lose: bool) {
        self.lock().lose_hints = lose;
    }

    /// A running container ends by itself.
    pub fn exit(&self, pod: &str, container: &str, code: i32) {
        let uid = PodUid::from(pod);
        self.change(|w| w.exit_by_name(&uid, container, code));
    }

    /// A pod's ready sandboxes go down by themselves, and all in them.
    pub fn kill_sandboxes(&self, pod: &str) {
        let uid = PodUid::from(pod);
        self.change(|w| w.kill_sandboxes(&uid));
    }

    /// The runtime forgets everything but images, as after a reboot of the machine.
    pub fn forget(&self) {
        self.lock().forget();
        self.tell(None);
    }

    /// Names of a pod's running containers, sorted.
    pub fn running(&self, pod: &str) -> Vec<String> {
        let containers = self.containers(pod).into_iter().filter(|c| c.phase == ContainerPhase::Running);
        let mut names: Vec<String> = containers.map(|c| c.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// All containers of a pod, newest first.
    pub fn containers(&self, pod: &str) -> Vec<Container> {
        self.lock().observe(&pod.into()).map(|p| p.containers).unwrap_or_default()
    }

    /// How many ready sandboxes a pod has.
    pub fn ready_sandboxes(&self, pod: &str) -> usize {
        self.lock().observe(&pod.into()).map_or(0, |p| p.sandboxes.iter().filter(|s| s.ready).count())
    }

    /// The config that a pod's newest container of this name was made with.
    pub fn config(&self, pod: &str, container: &str) -> Option<proto::cri::ContainerConfig> {
        self.lock().config(&pod.into(), container)
    }

    /// UIDs of all pods of which there is a trace.
    pub fn pods(&self) -> Vec<PodUid> {
        self.lock().observe_all().into_iter().map(|p| p.pod.uid).collect()
    }

    /// What an agent must never do and did: a second live container of one name, a second ready sandbox, a removed running container.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// How many calls of this name were made since the last restart of the injector.
    pub fn calls(&self, name: &'static str) -> usize {
        self.injector.count("runtime", name)
    }

    /// Changes the world, and tells about the pods that changed.
    fn change(&self, change: impl FnOnce(&mut World) -> Vec<PodUid>) {
        let changed = change(&mut self.lock());
        changed.into_iter().for_each(|uid| self.tell(Some(uid)));
    }

    fn tell(&self, hint: Option<PodUid>) {
        self.changed.send_modify(|n| *n += 1);
        let world = self.lock();
        if !world.lose_hints && !world.down {
            // Nobody may listen.
            let _ = self.hints.send(hint);
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
