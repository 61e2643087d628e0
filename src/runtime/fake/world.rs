//! What there is in the runtime, and how it changes. No waiting, no I/O.

use std::collections::{BTreeMap, VecDeque};

use proto::cri::{ContainerConfig, NamespaceMode, PodSandboxConfig};
use tokio::time::Instant;

use super::{Pull, Script};
use crate::model::{ContainerId, PodRef, PodUid, SandboxId};
use crate::runtime::{Container, ContainerPhase, ErrorKind, Image, ObservedPod, RuntimeHealth, Sandbox, names};

type Done<T> = Result<T, ErrorKind>;

/// A sandbox with what it was made from.
struct FakeSandbox {
    state: Sandbox,
    pod: PodRef,
}

/// A container with what it was made from.
struct FakeContainer {
    state: Container,
    config: ContainerConfig,
    pod: PodRef,
    script: Script,
}

/// Everything.
#[derive(Default)]
pub(super) struct World {
    sandboxes: BTreeMap<SandboxId, FakeSandbox>,
    containers: BTreeMap<ContainerId, FakeContainer>,
    pub images: BTreeMap<String, Image>,
    pub pulls: BTreeMap<String, Pull>,
    pub scripts: BTreeMap<String, VecDeque<Script>>,
    pub health: RuntimeHealth,
    pub down: bool,
    pub lose_hints: bool,
    pub violations: Vec<String>,
    next: u32,
    epoch: Option<Instant>,
}

impl World {
    pub fn run_sandbox(&mut self, config: &PodSandboxConfig) -> Done<SandboxId> {
        let metadata = config.metadata.clone().unwrap_or_default();
        let pod = PodRef { namespace: metadata.namespace.into(), name: metadata.name.into(), uid: metadata.uid.into() };
        if self.sandboxes.values().any(|s| s.pod.uid == pod.uid && s.state.attempt == metadata.attempt) {
            return Err(ErrorKind::Failed(format!("failed to reserve sandbox name of {pod}, attempt {}", metadata.attempt)));
        }
        if self.sandboxes.values().any(|s| s.pod.uid == pod.uid && s.state.ready) {
            self.violations.push(format!("a second ready sandbox of {pod}"));
        }
        let number = self.number();
        let id = SandboxId::from(format!("sandbox-{number}"));
        let options = config.linux.as_ref().and_then(|l| l.security_context.as_ref()).and_then(|s| s.namespace_options.as_ref());
        let host_network = options.is_some_and(|o| o.network == NamespaceMode::Node as i32);
        let [_, _, high, low] = number.to_be_bytes();
        let ips = if host_network { vec![] } else { vec![[10, 1, high, low].into()] };
        let state = Sandbox { id: id.clone(), attempt: metadata.attempt, created_at: self.now(), ready: true, ips, host_network };
        self.sandboxes.insert(id.clone(), FakeSandbox { state, pod });
        Ok(id)
    }

    pub fn create_container(&mut self, sandbox: &SandboxId, config: ContainerConfig, log_directory: &str) -> Done<ContainerId> {
        let in_sandbox = self.sandboxes.get(sandbox).ok_or_else(|| ErrorKind::NotFound(format!("sandbox {sandbox}")))?;
        if !in_sandbox.state.ready {
            return Err(ErrorKind::Failed(format!("sandbox {sandbox} is not running")));
        }
        let pod = in_sandbox.pod.clone();
        let image = config.image.clone().unwrap_or_default();
        if !self.images.values().any(|i| i.id == image.image) {
            return Err(ErrorKind::NotFound(format!("image {}", image.image)));
        }
        let metadata = config.metadata.clone().unwrap_or_default();
        let same = |c: &FakeContainer| {
            let attempt = c.config.metadata.as_ref().map(|m| m.attempt);
            c.state.sandbox == *sandbox && *c.state.name == *metadata.name && attempt == Some(metadata.attempt)
        };
        if self.containers.values().any(same) {
            let error = format!("failed to reserve container name {} of {pod}, attempt {}", metadata.name, metadata.attempt);
            return Err(ErrorKind::Failed(error));
        }
        let id = ContainerId::from(format!("container-{}", self.number()));
        let annotation = |name| config.annotations.get(name).cloned().unwrap_or_default();
        let state = Container {
            id: id.clone(),
            sandbox: sandbox.clone(),
            name: metadata.name.as_str().into(),
            restart_count: annotation(names::RESTART_COUNT).parse().unwrap_or(0),
            hash: annotation(names::CONTAINER_HASH),
            phase: ContainerPhase::Created,
            created_at: self.now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            termination_message: String::new(),
            image: image.user_specified_image,
            image_id: image.image,
            log_path: format!("{log_directory}/{}", config.log_path),
        };
        self.containers.insert(id.clone(), FakeContainer { state, config, pod, script: Script::default() });
        Ok(id)
    }

    /// Starts a container and says what it will do.
    pub fn start_container(&mut self, id: &ContainerId) -> Done<(PodUid, Script)> {
        let now = self.now();
        let container = self.containers.get(id).ok_or_else(|| gone(id))?;
        if container.state.phase != ContainerPhase::Created {
            return Err(ErrorKind::Failed(format!("container {id} is not in created state")));
        }
        let (pod, name) = (container.pod.clone(), container.state.name.clone());
        if !self.sandboxes.get(&container.state.sandbox).is_some_and(|s| s.state.ready) {
            return Err(ErrorKind::Failed(format!("sandbox container {} is not running", container.state.sandbox)));
        }
        let live = |c: &&FakeContainer| c.pod.uid == pod.uid && c.state.name == name && c.state.phase == ContainerPhase::Running;
        if self.containers.values().find(live).is_some() {
            self.violations.push(format!("a second live container {name} of {pod}"));
        }
        let script = self.next_script(&name);
        let container = self.containers.get_mut(id).ok_or_else(|| gone(id))?;
        container.state.phase = ContainerPhase::Running;
        container.state.started_at = now;
        container.script = script.clone();
        Ok((pod.uid, script))
    }

    fn next_script(&mut self, name: &str) -> Script {
        let Some(queue) = self.scripts.get_mut(name) else { return Script::default() };
        let last = queue.len() <= 1;
        let script = if last { queue.front().cloned() } else { queue.pop_front() };
        script.unwrap_or_default()
    }

    /// A running container ends; others don't change.
    pub fn exit(&mut self, id: &ContainerId, code: i32) -> Vec<PodUid> {
        let now = self.now();
        let Some(c) = self.containers.get_mut(id).filter(|c| c.state.phase == ContainerPhase::Running) else { return vec![] };
        c.state.phase = ContainerPhase::Exited;
        c.state.finished_at = now;
        c.state.exit_code = code;
        c.state.reason = if code == 0 { "Completed" } else { "Error" }.into();
        c.state.termination_message = c.script.message.clone();
        vec![c.pod.uid.clone()]
    }

    pub fn exit_by_name(&mut self, uid: &PodUid, name: &str, code: i32) -> Vec<PodUid> {
        let of = self.containers.values().filter(|c| c.pod.uid == *uid && *c.state.name == *name);
        let ids: Vec<_> = of.map(|c| c.state.id.clone()).collect();
        ids.iter().flat_map(|id| self.exit(id, code)).collect()
    }

    /// What a running container does on TERM; `None` when it does not run.
    pub fn on_term(&self, id: &ContainerId) -> Option<Script> {
        self.containers.get(id).filter(|c| c.state.phase == ContainerPhase::Running).map(|c| c.script.clone())
    }

    pub fn remove_container(&mut self, id: &ContainerId) -> Vec<PodUid> {
        let Some(container) = self.containers.remove(id) else { return vec![] };
        if container.state.phase == ContainerPhase::Running {
            self.violations.push(format!("removed the running container {} of {}", container.state.name, container.pod));
        }
        vec![container.pod.uid]
    }

    /// Takes a sandbox down with all in it.
    pub fn stop_sandbox(&mut self, id: &SandboxId) -> Vec<PodUid> {
        let inside = self.containers.values().filter(|c| c.state.sandbox == *id);
        let ids: Vec<_> = inside.map(|c| c.state.id.clone()).collect();
        let mut changed: Vec<PodUid> = ids.iter().flat_map(|c| self.exit(c, 137)).collect();
        if let Some(sandbox) = self.sandboxes.get_mut(id).filter(|s| s.state.ready) {
            sandbox.state.ready = false;
            sandbox.state.ips.clear();
            changed.push(sandbox.pod.uid.clone());
        }
        changed
    }

    pub fn remove_sandbox(&mut self, id: &SandboxId) -> Vec<PodUid> {
        let mut changed = self.stop_sandbox(id);
        self.containers.retain(|_, c| c.state.sandbox != *id);
        changed.extend(self.sandboxes.remove(id).map(|s| s.pod.uid));
        changed
    }

    pub fn kill_sandboxes(&mut self, uid: &PodUid) -> Vec<PodUid> {
        let ids: Vec<_> = self.sandboxes.values().filter(|s| s.pod.uid == *uid).map(|s| s.state.id.clone()).collect();
        ids.iter().flat_map(|id| self.stop_sandbox(id)).collect()
    }

    pub fn forget(&mut self) {
        self.sandboxes.clear();
        self.containers.clear();
    }

    pub fn sandbox(&self, id: &SandboxId) -> Done<Sandbox> {
        self.sandboxes.get(id).map(|s| s.state.clone()).ok_or_else(|| ErrorKind::NotFound(format!("sandbox {id}")))
    }

    pub fn container(&self, id: &ContainerId) -> Done<Container> {
        self.containers.get(id).map(|c| c.state.clone()).ok_or_else(|| gone(id))
    }

    pub fn config(&self, uid: &PodUid, name: &str) -> Option<ContainerConfig> {
        let of = self.containers.values().filter(|c| c.pod.uid == *uid && *c.state.name == *name);
        of.max_by_key(|c| c.state.created_at).map(|c| c.config.clone())
    }

    pub fn observe(&self, uid: &PodUid) -> Option<ObservedPod> {
        self.observe_all().into_iter().find(|p| p.pod.uid == *uid)
    }

    pub fn observe_all(&self) -> Vec<ObservedPod> {
        let mut pods: BTreeMap<PodUid, ObservedPod> = BTreeMap::new();
        let new = |pod: &PodRef| ObservedPod { pod: pod.clone(), sandboxes: vec![], containers: vec![], grace_period: None };
        for s in self.sandboxes.values() {
            pods.entry(s.pod.uid.clone()).or_insert_with(|| new(&s.pod)).sandboxes.push(s.state.clone());
        }
        for c in self.containers.values() {
            let pod = pods.entry(c.pod.uid.clone()).or_insert_with(|| new(&c.pod));
            pod.containers.push(c.state.clone());
            let grace = c.config.annotations.get(names::TERMINATION_GRACE_PERIOD).and_then(|s| s.parse().ok());
            pod.grace_period = pod.grace_period.or(grace);
        }
        for pod in pods.values_mut() {
            pod.sandboxes.sort_unstable_by_key(|s| std::cmp::Reverse(s.created_at));
            pod.containers.sort_unstable_by_key(|c| std::cmp::Reverse(c.created_at));
        }
        pods.into_values().collect()
    }

    pub fn add_image(&mut self, reference: &str) {
        let id = format!("sha256:{reference}");
        let tags = vec![reference.to_owned()];
        let image = Image { id, tags, digests: vec![], size: 1 << 20, uid: None, username: String::new() };
        self.images.insert(reference.to_owned(), image);
    }

    /// An image by its name or id.
    pub fn image(&self, reference: &str) -> Option<Image> {
        self.images.get(reference).or_else(|| self.images.values().find(|i| i.id == reference)).cloned()
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Nanoseconds since the epoch by the tests' clock; never the same twice.
    fn now(&mut self) -> i64 {
        const START: i64 = 1_700_000_000_000_000_000;
        let since = self.epoch.get_or_insert_with(Instant::now).elapsed();
        START + i64::try_from(since.as_nanos()).unwrap_or(i64::MAX - START) + i64::from(self.number())
    }
}

fn gone(id: &ContainerId) -> ErrorKind {
    ErrorKind::NotFound(format!("container {id}"))
}
