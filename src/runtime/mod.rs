//! The container runtime, over the CRI: client, pod → CRI translation (pure), events, logs.
//!
//! In: configs made by `translate`. Out: what runs, as [`ObservedPod`]s, and hints that something changed. Owns: one gRPC
//! channel. Survives a restart: nothing here; the runtime itself is the memory.

pub mod client;
#[cfg(any(test, feature = "fakes"))]
pub mod fake;
pub mod host;
pub mod log;
pub mod names;
pub mod translate;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use proto::cri::{ContainerConfig, LinuxContainerResources, LinuxContainerUser, PodSandboxConfig};

use crate::model::{ContainerId, PodRef, PodUid, SandboxId};

/// Why a call to the runtime failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {kind}")]
pub struct Error {
    /// What was being done, to which object: `start container web of pod default/web`.
    pub action: String,
    /// The kind of failure, with the runtime's words.
    #[source]
    pub kind: ErrorKind,
}

/// Kinds of failure that callers tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// No socket, or the connection broke.
    #[error("the container runtime can't be reached: {0}")]
    Unavailable(String),
    /// No answer before the deadline.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The object does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// The runtime does not know the call.
    #[error("the runtime does not support this call")]
    Unimplemented,
    /// Anything else, in the runtime's words.
    #[error("{0}")]
    Failed(String),
    /// An answer that makes no sense, such as an empty id.
    #[error("the runtime answered nonsense: {0}")]
    Garbage(String),
}

impl Error {
    /// Whether the object is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound(_))
    }
}

/// Result of a call to the runtime.
pub type Result<T> = std::result::Result<T, Error>;

/// A sandbox as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Runtime's id.
    pub id: SandboxId,
    /// Which try this is, from its metadata: 0 for the first sandbox of a pod.
    pub attempt: u32,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// SANDBOX_READY.
    pub ready: bool,
    /// Pod addresses, the runtime's primary one first; empty for host network.
    pub ips: Vec<IpAddr>,
    /// Whether it lives in the host's network namespace.
    pub host_network: bool,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// A container as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Runtime's id.
    pub id: ContainerId,
    /// The sandbox it belongs to.
    pub sandbox: SandboxId,
    /// The container's name in the pod spec.
    pub name: Arc<str>,
    /// From annotation `io.kubernetes.container.restartCount`; 0 when missing or malformed.
    pub restart_count: u32,
    /// From annotation `io.kubernetes.container.hash`; empty when missing.
    pub hash: String,
    /// Phase.
    pub phase: ContainerPhase,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Nanoseconds since the epoch; 0 when it never started.
    pub started_at: i64,
    /// Nanoseconds since the epoch; 0 while it runs.
    pub finished_at: i64,
    /// Exit code, once exited.
    pub exit_code: i32,
    /// Runtime's reason (`Completed`, `Error`, `OOMKilled`, …).
    pub reason: String,
    /// Runtime's message.
    pub message: String,
    /// Termination message, once exited: from the file or the log, as the container's annotations ask for.
    pub termination_message: String,
    /// The image as the spec names it.
    pub image: String,
    /// What the API calls imageID: the repo digest where there is one, else the image's id.
    pub image_id: String,
    /// Path of the log file on the host.
    pub log_path: String,
    /// Annotation `io.kubernetes.container.preStopHandler` as it is, and that of the ports: for containers whose spec is gone.
    pub hook: Option<Box<(String, String)>>,
    /// The limits in force, where the runtime tells them.
    pub limits: Option<Limits>,
    /// Whom its first process began as, where the runtime tells it.
    pub user: Option<Box<LinuxContainerUser>>,
    /// Paths in it that are mounted read-only with everything below them.
    pub recursive_read_only: Vec<String>,
}

/// Limits of a container as its runtime has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// CPU shares as cgroup v1 counts them, 2 to 262144.
    pub cpu_shares: i64,
    /// Microseconds of CPU time in each period; 0 or less for no limit.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Bytes; 0 for no limit.
    pub memory: i64,
}

/// All that the runtime knows about one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPod {
    /// Names as the labels of the sandbox or container tell them.
    pub pod: PodRef,
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first.
    pub containers: Vec<Container>,
    /// Annotation `io.kubernetes.pod.terminationGracePeriod` of any container, in seconds: for pods whose spec is gone.
    pub grace_period: Option<i64>,
    /// Why some of it could not be read. What is there is true then, but not the whole truth: nothing may be decided from it.
    pub unread: Option<Error>,
}

/// A pod as lists tell of it: enough to see whether anything has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Names as the labels of the sandbox or container tell them.
    pub pod: PodRef,
    /// Sandboxes, and whether each is ready.
    pub sandboxes: Vec<(SandboxId, bool)>,
    /// Containers.
    pub containers: Vec<(ContainerId, ContainerPhase)>,
}

impl Outline {
    /// A pod of which nothing is listed.
    pub fn empty(pod: PodRef) -> Self {
        Self { pod, sandboxes: vec![], containers: vec![] }
    }

    /// What a full look shows, in outline.
    fn of(observed: ObservedPod) -> Self {
        Self {
            pod: observed.pod,
            sandboxes: observed.sandboxes.into_iter().map(|s| (s.id, s.ready)).collect(),
            containers: observed.containers.into_iter().map(|c| (c.id, c.phase)).collect(),
        }
    }
}

impl ObservedPod {
    /// A pod of which the runtime knows nothing.
    pub fn empty(pod: PodRef) -> Self {
        Self { pod, sandboxes: vec![], containers: vec![], grace_period: None, unread: None }
    }
}

/// The runtime's own account of its health, from the CRI Status call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeHealth {
    /// RuntimeReady, or why not.
    pub runtime_error: Option<String>,
    /// NetworkReady, or why not.
    pub network_error: Option<String>,
    /// Handlers by name.
    pub handlers: Vec<RuntimeHandler>,
    /// features.supplemental_groups_policy.
    pub supplemental_groups_policy: bool,
}

/// One runtime handler and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeHandler {
    /// Name; empty for the default handler.
    pub name: String,
    /// Recursive read-only mounts.
    pub recursive_read_only_mounts: bool,
    /// User namespaces.
    pub user_namespaces: bool,
}

/// Name and version, as `containerd://2.4.2` is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// `containerd`.
    pub name: String,
    /// `2.4.2`, without a leading `v`.
    pub version: String,
}

/// Who manages the cgroup tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Slices made by systemd.
    Systemd,
    /// Plain directories.
    Cgroupfs,
}

/// An image that is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The runtime's id of the image: what a container config refers to.
    pub id: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Digests.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// User id that the image asks for.
    pub uid: Option<i64>,
    /// User name that the image asks for; empty when it gives a number or nothing.
    pub username: String,
    /// It is never to be removed: the image of sandboxes is.
    pub pinned: bool,
}

/// What a container takes of the node; zero where the runtime doesn't tell, as for one that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerUsage {
    /// Bytes of memory, all that is in use; `None` where the runtime doesn't tell.
    pub memory: Option<u64>,
    /// Bytes of memory, without file pages that nothing has touched for a while.
    pub working_set: u64,
    /// Bytes that it has written outside of volumes.
    pub written_bytes: u64,
    /// Files that it has made there.
    pub written_inodes: u64,
}

/// Paths on the host, each on the file system in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystems {
    /// Images.
    pub images: PathBuf,
    /// What containers write.
    pub containers: PathBuf,
}

/// Credentials for one registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryAuth {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
    /// Registry that they belong to.
    pub server: String,
    /// Identity token, in place of a password.
    pub identity_token: String,
}

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    /// Exit code.
    pub exit_code: i32,
    /// What it wrote: standard output, then standard error.
    pub output: Vec<u8>,
}

/// A stream that the API server's client wants to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// Command; empty for attach.
    pub command: Vec<String>,
    /// Pass stdin.
    pub stdin: bool,
    /// Pass stdout.
    pub stdout: bool,
    /// Pass stderr.
    pub stderr: bool,
    /// Make a terminal.
    pub tty: bool,
}

/// The calls that the agent makes. Each has a deadline of its own; dropping the future cancels the call.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version.
    async fn version(&self) -> Result<RuntimeVersion>;
    /// Health.
    async fn health(&self) -> Result<RuntimeHealth>;
    /// The cgroup driver that the runtime was configured with; `Unimplemented` for containerd < 2.0.
    async fn cgroup_driver(&self) -> Result<CgroupDriver>;
    /// Tells the runtime the node's pod CIDR.
    async fn update_pod_cidr(&self, cidr: &str) -> Result<()>;

    /// Every pod that the runtime knows, with full container statuses. A pod that can't be read whole says so, and hides no other one.
    async fn list_pods(&self) -> Result<Vec<ObservedPod>>;
    /// Every pod in outline: a fraction of the work of [`Self::list_pods`], for a comparison that mostly finds nothing.
    async fn outlines(&self) -> Result<Vec<Outline>> {
        Ok(self.list_pods().await?.into_iter().map(Outline::of).collect())
    }
    /// One pod, or `None` when the runtime knows nothing of it.
    async fn observe_pod(&self, uid: &PodUid) -> Result<Option<ObservedPod>>;
    /// One sandbox's state.
    async fn sandbox(&self, id: &SandboxId) -> Result<Sandbox>;
    /// One container's state. Its sandbox is empty: only lists tell it.
    async fn container(&self, id: &ContainerId) -> Result<Container>;
    /// Hints: pods about which the runtime has news. `None` means that hints were lost: look at everything. Reconnects by itself.
    fn events(&self) -> BoxStream<'static, Option<PodUid>>;

    /// Makes and starts a sandbox.
    async fn run_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<SandboxId>;
    /// Stops a sandbox and all in it, by force. Fine when it is gone already.
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()>;
    /// Removes a sandbox and all in it. Fine when it is gone already.
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()>;

    /// Makes a container in a sandbox.
    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig, sandbox_config: PodSandboxConfig)
    -> Result<ContainerId>;
    /// Starts it.
    async fn start_container(&self, id: &ContainerId) -> Result<()>;
    /// Stops it: TERM, then KILL after `grace`. Returns when it has stopped. Fine when it is gone already.
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()>;
    /// Removes it. Fine when it is gone already.
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;
    /// Makes the runtime open the log file anew after it was renamed.
    async fn reopen_log(&self, id: &ContainerId) -> Result<()>;

    /// The image, when present.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;
    /// All images.
    async fn images(&self) -> Result<Vec<Image>>;
    /// Pulls an image; no deadline but the caller's. Returns the image reference.
    async fn pull_image(&self, reference: &str, auth: Option<&RegistryAuth>, sandbox_config: &PodSandboxConfig) -> Result<String>;
    /// Removes an image.
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// Where the runtime keeps its files.
    async fn file_systems(&self) -> Result<FileSystems>;

    /// Runs a command in a container and waits for its end. `timeout` is kept by the runtime too; a command that takes longer is
    /// [`ErrorKind::Deadline`].
    async fn exec(&self, id: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput>;
    /// Sets other limits on a container that runs.
    async fn update_container(&self, id: &ContainerId, resources: LinuxContainerResources) -> Result<()>;
    /// What a container takes, as far as the runtime tells.
    async fn container_usage(&self, id: &ContainerId) -> Result<ContainerUsage>;
    /// Tells the runtime other limits of a pod: what its pod overhead is, and what its containers have together.
    async fn update_sandbox(&self, id: &SandboxId, overhead: LinuxContainerResources, resources: LinuxContainerResources) -> Result<()>;

    /// A one-time URL on the runtime's streaming server.
    async fn exec_url(&self, id: &ContainerId, request: &StreamRequest) -> Result<String>;
    /// The same for attach.
    async fn attach_url(&self, id: &ContainerId, request: &StreamRequest) -> Result<String>;
    /// The same for port forwarding.
    async fn port_forward_url(&self, id: &SandboxId, ports: &[u16]) -> Result<String>;
}
