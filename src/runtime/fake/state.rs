//! What the runtime in memory holds, and what it notes about its caller.

use std::collections::BTreeMap;

use proto::cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};
use tokio::sync::mpsc;

use super::faults::Faults;
use super::*;
use crate::model::SandboxId;

use crate::runtime::{ContainerUsage, ExecOutput, Limits, names};

pub(super) struct SandboxRecord {
    pod: PodRef,
    sandbox: Sandbox,
    /// It went down by itself, so that its agent may not know yet.
    died: bool,
}

pub(super) struct ContainerRecord {
    pub(super) pod: PodRef,
    pub(super) container: Container,
    pub(super) life: Life,
    pub(super) grace: Option<i64>,
}

#[derive(Default)]
pub(super) struct State {
    ids: u32,
    sandboxes: Vec<SandboxRecord>,
    pub(super) containers: Vec<ContainerRecord>,
    /// Handlers of all sandboxes that were made.
    pub(super) handlers: Vec<String>,
    /// By container name.
    pub(super) memory_in_use: BTreeMap<String, u64>,
    /// Names of pod and container of every start.
    pub(super) started: Vec<(String, String)>,
    /// Pods of containers that were told to stop while they ran.
    pub(super) stopped: Vec<PodUid>,
    /// Containers and commands of every exec.
    pub(super) executed: Vec<(String, Vec<String>)>,
    pub(super) violations: Vec<String>,
    pub(super) faults: Faults,
    listeners: Vec<mpsc::UnboundedSender<Option<PodUid>>>,
}

fn failed(action: &str, words: impl Into<String>) -> Error {
    Error { action: action.to_owned(), kind: ErrorKind::Failed(words.into()) }
}

fn not_found(action: &str) -> Error {
    Error { action: action.to_owned(), kind: ErrorKind::NotFound("no such object".to_owned()) }
}

/// Hints and looks.
impl State {
    pub(super) fn listen(&mut self) -> mpsc::UnboundedReceiver<Option<PodUid>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.push(sender);
        self.tell(None);
        receiver
    }

    pub(super) fn tell(&mut self, hint: Option<PodUid>) {
        if !self.faults.deaf {
            self.listeners.retain(|l| l.send(hint.clone()).is_ok());
        }
    }

    pub(super) fn hint(&mut self, uid: &PodUid) {
        self.tell(Some(uid.clone()));
    }

    pub(super) fn pods(&self) -> Vec<ObservedPod> {
        let mut pods: BTreeMap<PodUid, ObservedPod> = BTreeMap::new();
        for s in self.sandboxes.iter().rev() {
            pods.entry(s.pod.uid.clone()).or_insert_with(|| ObservedPod::empty(s.pod.clone())).sandboxes.push(listed(&s.sandbox));
        }
        for c in self.containers.iter().rev() {
            let pod = pods.entry(c.pod.uid.clone()).or_insert_with(|| ObservedPod::empty(c.pod.clone()));
            pod.containers.push(c.container.clone());
            pod.grace_period = pod.grace_period.or(c.grace);
        }
        pods.into_values().collect()
    }

    pub(super) fn sandbox(&self, id: &SandboxId) -> Result<Sandbox> {
        self.sandboxes.iter().find(|s| s.sandbox.id == *id).map(|s| s.sandbox.clone()).ok_or_else(|| not_found("sandbox"))
    }

    /// Its pod's name, for faults.
    pub(super) fn pod_of_sandbox(&self, id: &SandboxId) -> Option<String> {
        self.sandboxes.iter().find(|s| s.sandbox.id == *id).map(|s| s.pod.name.to_string())
    }

    pub(super) fn pod_of(&self, id: &ContainerId) -> Option<String> {
        self.containers.iter().find(|c| c.container.id == *id).map(|c| c.pod.name.to_string())
    }

    /// As the call tells it that asks for one container: without the sandbox, which the CRI's answer doesn't hold.
    pub(super) fn container(&self, id: &ContainerId) -> Result<Container> {
        let record = self.containers.iter().find(|c| c.container.id == *id).ok_or_else(|| not_found("container"))?;
        Ok(Container { sandbox: "".into(), ..record.container.clone() })
    }

    /// A container that runs.
    pub(super) fn expect_running(&self, id: &ContainerId) -> Result<&Container> {
        let running = |c: &&ContainerRecord| c.container.id == *id && c.container.phase == ContainerPhase::Running;
        self.containers.iter().find(running).map(|c| &c.container).ok_or_else(|| not_found("exec"))
    }

    /// How long a command takes, and how it ends. Only in a container that runs.
    pub(super) fn exec(&mut self, id: &ContainerId, command: &[String]) -> Result<(Duration, ExecOutput)> {
        let name = self.expect_running(id)?.name.to_string();
        self.executed.push((name.clone(), command.to_vec()));
        Ok(self.faults.command(&name))
    }

    /// The new limits are in force at once.
    pub(super) fn update_container(&mut self, id: &ContainerId, to: &LinuxContainerResources) -> Result<()> {
        let record = self.container_mut(id).ok_or_else(|| not_found("update_container"))?;
        record.container.limits = Some(limits(to));
        Ok(())
    }

    pub(super) fn container_usage(&self, id: &ContainerId) -> Result<ContainerUsage> {
        let memory = self.memory_in_use.get(&*self.expect_running(id)?.name).copied();
        Ok(ContainerUsage { memory, working_set: memory.unwrap_or_default(), ..ContainerUsage::default() })
    }

    pub(super) fn container_mut(&mut self, id: &ContainerId) -> Option<&mut ContainerRecord> {
        self.containers.iter_mut().find(|c| c.container.id == *id)
    }

    fn running_in(&self, sandbox: &SandboxId) -> impl Iterator<Item = &ContainerRecord> {
        self.containers.iter().filter(move |c| c.container.sandbox == *sandbox && c.container.phase == ContainerPhase::Running)
    }

    pub(super) fn running_ids(&self, sandbox: &SandboxId) -> Vec<ContainerId> {
        self.running_in(sandbox).map(|c| c.container.id.clone()).collect()
    }
}

/// Of a sandbox that is down, lists know neither addresses nor network.
fn listed(sandbox: &Sandbox) -> Sandbox {
    if sandbox.ready { sandbox.clone() } else { Sandbox { ips: vec![], host_network: false, ..sandbox.clone() } }
}

/// Changes.
impl State {
    fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    fn new_id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}-{}", self.ids)
    }

    pub(super) fn add_sandbox(&mut self, pod: PodRef, sandbox: Sandbox) {
        self.sandboxes.push(SandboxRecord { pod, sandbox, died: false });
    }

    pub(super) fn add_container(&mut self, record: ContainerRecord) {
        self.containers.push(record);
    }

    pub(super) fn run_sandbox(&mut self, config: &PodSandboxConfig, now: i64) -> Result<SandboxId> {
        let meta = config.metadata.clone().unwrap_or_default();
        let pod = PodRef { namespace: meta.namespace.into(), name: meta.name.into(), uid: meta.uid.into() };
        let mine = || self.sandboxes.iter().filter(|s| s.pod.uid == pod.uid);
        if mine().any(|s| s.sandbox.attempt == meta.attempt) {
            return Err(failed("run_sandbox", format!("name of sandbox {} of pod {pod} is reserved", meta.attempt)));
        }
        if mine().any(|s| s.sandbox.ready) {
            self.violation(format!("a second ready sandbox of pod {pod}"));
        }
        if self.faults.doomed.contains(&pod.uid) {
            self.violation(format!("a sandbox for pod {pod}, which is gone"));
        }
        let id = SandboxId::from(self.new_id("sandbox"));
        let options = config.linux.as_ref().and_then(|l| l.security_context.as_ref()).and_then(|s| s.namespace_options.as_ref());
        let host_network = options.is_some_and(|o| o.network == i32::from(proto::cri::NamespaceMode::Node));
        let [_, _, high, low] = self.ids.to_be_bytes();
        let ips = if host_network { vec![] } else { vec![[10, 0, high, low].into()] };
        let uid = pod.uid.clone();
        self.add_sandbox(pod, Sandbox { id: id.clone(), attempt: meta.attempt, created_at: now, ready: true, ips, host_network });
        self.hint(&uid);
        Ok(id)
    }

    pub(super) fn sandbox_down(&mut self, id: &SandboxId, died: bool) {
        let Some(record) = self.sandboxes.iter_mut().find(|s| s.sandbox.id == *id && s.sandbox.ready) else { return };
        record.sandbox.ready = false;
        record.died = died;
        let pod = record.pod.clone();
        let running: Vec<String> = self.running_in(id).map(|c| c.container.name.to_string()).collect();
        if !died && !running.is_empty() {
            self.violation(format!("sandbox of pod {pod} stopped while {} runs", running.join(", ")));
        }
        self.hint(&pod.uid);
    }

    pub(super) fn remove_sandbox(&mut self, id: &SandboxId) {
        let Some(at) = self.sandboxes.iter().position(|s| s.sandbox.id == *id) else { return };
        let record = self.sandboxes.remove(at);
        if record.sandbox.ready || self.running_in(id).next().is_some() {
            self.violation(format!("sandbox of pod {} removed while it is up", record.pod));
        }
        self.containers.retain(|c| c.container.sandbox != *id);
        self.hint(&record.pod.uid);
    }

    pub(super) fn create_container(
        &mut self,
        sandbox: &SandboxId,
        config: &ContainerConfig,
        sandbox_config: &PodSandboxConfig,
        now: i64,
    ) -> Result<ContainerId> {
        let meta = config.metadata.clone().unwrap_or_default();
        let action = "create_container";
        let Some(home) = self.sandboxes.iter().find(|s| s.sandbox.id == *sandbox) else { return Err(not_found(action)) };
        let (pod, died) = (home.pod.clone(), home.died);
        if !home.sandbox.ready {
            if !died {
                self.violation(format!("container {} of pod {pod} made in a sandbox that is down", meta.name));
            }
            return Err(failed(action, "the sandbox is not running"));
        }
        let same = |c: &&ContainerRecord| c.pod.uid == pod.uid && *c.container.name == *meta.name;
        if self.containers.iter().filter(same).any(|c| c.container.restart_count == meta.attempt) {
            return Err(failed(action, format!("name of container {} {} of pod {pod} is reserved", meta.name, meta.attempt)));
        }
        let annotation = |key: &str| config.annotations.get(key).cloned().unwrap_or_default();
        let image = config.image.clone().unwrap_or_default();
        let id = ContainerId::from(self.new_id("container"));
        let container = Container {
            id: id.clone(),
            sandbox: sandbox.clone(),
            name: meta.name.as_str().into(),
            restart_count: annotation(names::RESTART_COUNT).parse().unwrap_or(0),
            hash: annotation(names::CONTAINER_HASH),
            phase: ContainerPhase::Created,
            created_at: now,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            termination_message: String::new(),
            image: image.user_specified_image,
            image_id: image.image,
            log_path: format!("{}/{}", sandbox_config.log_directory, config.log_path),
            hook: config.annotations.get(names::PRE_STOP_HANDLER).map(|h| Box::new((h.clone(), annotation(names::CONTAINER_PORTS)))),
            limits: config.linux.as_ref().and_then(|linux| linux.resources.as_ref()).map(limits),
            user: None,
            recursive_read_only: config.mounts.iter().filter(|m| m.recursive_read_only).map(|m| m.container_path.clone()).collect(),
        };
        let life = self.faults.life(&meta.name, meta.attempt);
        let grace = annotation(names::TERMINATION_GRACE_PERIOD).parse().ok();
        let uid = pod.uid.clone();
        self.add_container(ContainerRecord { pod, container, life, grace });
        self.hint(&uid);
        Ok(id)
    }

    /// Starts a container, and says how it lives.
    pub(super) fn start_container(&mut self, id: &ContainerId, now: i64) -> Result<Life> {
        let Some(record) = self.containers.iter().find(|c| c.container.id == *id) else { return Err(not_found("start_container")) };
        let (pod, name, life) = (record.pod.clone(), record.container.name.clone(), record.life);
        if record.container.phase != ContainerPhase::Created {
            return Err(failed("start_container", format!("container {id} is {:?}", record.container.phase)));
        }
        let twin = |c: &ContainerRecord| c.pod.uid == pod.uid && c.container.name == name && c.container.phase == ContainerPhase::Running;
        if self.containers.iter().any(twin) {
            self.violation(format!("a second running container {name} of pod {pod}"));
        }
        if self.faults.doomed.contains(&pod.uid) {
            self.violation(format!("container {name} started of pod {pod}, which is gone"));
        }
        self.started.push((pod.name.to_string(), name.to_string()));
        let Some(record) = self.container_mut(id) else { return Err(not_found("start_container")) };
        let c = &mut record.container;
        (c.phase, c.started_at) = (ContainerPhase::Running, now);
        if life.unstartable {
            (c.phase, c.finished_at, c.exit_code, c.reason) = (ContainerPhase::Exited, now, 128, "StartError".to_owned());
        }
        self.hint(&pod.uid);
        if life.unstartable { Err(failed("start_container", "no such file or directory")) } else { Ok(life) }
    }

    pub(super) fn remove_container(&mut self, id: &ContainerId) {
        let Some(at) = self.containers.iter().position(|c| c.container.id == *id) else { return };
        let record = self.containers.remove(at);
        if record.container.phase == ContainerPhase::Running {
            self.violation(format!("container {} of pod {} removed while it runs", record.container.name, record.pod));
        }
        self.hint(&record.pod.uid);
    }
}

fn limits(resources: &LinuxContainerResources) -> Limits {
    Limits {
        cpu_shares: resources.cpu_shares,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        memory: resources.memory_limit_in_bytes,
    }
}
