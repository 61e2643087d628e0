//! The floor: the three calls that bring a pod up, and those that take it down, made by a bare client and no agent.
//!
//! What they ask for is what an agent asks for on behalf of such a pod, as far as it takes the runtime's time: namespaces, seccomp
//! profiles (compiling one takes runc 17 ms), resources, mounts. What the agent does itself (the pod's control group, the token,
//! the files) is there before the first call.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::cri::runtime_service_client::RuntimeServiceClient;
use proto::cri::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest, SecurityProfile, StartContainerRequest,
    StopContainerRequest, StopPodSandboxRequest,
};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use proto::cri::security_profile::ProfileType;

use super::pods::{GRACE, IMAGE};
use crate::agent::RUNTIME_SOCKET;
use crate::error::{Doing as _, Error, Result};
use crate::node::Node;

/// The folder of the floor's files, as seen on the node.
const FILES: &str = "/var/log/bench";
/// What each pod has mounted: the file, its path in the container, and whether it is read-only.
const MOUNTS: [(&str, &str, bool); 3] = [
    ("token", "/var/run/secrets/kubernetes.io/serviceaccount", true),
    ("hosts", "/etc/hosts", false),
    ("termination-log", "/dev/termination-log", false),
];

/// A client of a node's containerd.
#[derive(Clone)]
pub struct Floor {
    runtime: RuntimeServiceClient<Channel>,
    cgroup: String,
    mounts: Vec<Mount>,
}

/// A pod that was brought up.
pub struct BarePod {
    sandbox: String,
    container: String,
}

impl Floor {
    /// Connects. `cgroup` is where the containers' groups are made.
    pub async fn connect(node: &Node, cgroup: String) -> Result<Self> {
        let socket = PathBuf::from(format!("/proc/{}/root{RUNTIME_SOCKET}", node.place().first_pid()));
        let files = node.folder().join("var-log/bench");
        std::fs::create_dir_all(files.join("token")).doing(|| format!("making {}", files.display()))?;
        for name in ["hosts", "termination-log"] {
            std::fs::write(files.join(name), "").doing(|| format!("making {name}"))?;
        }
        let mounts = MOUNTS.map(|(file, container_path, readonly)| Mount {
            host_path: format!("{FILES}/{file}"),
            container_path: container_path.into(),
            readonly,
            ..Mount::default()
        });
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://containerd").connect_with_connector(connect).await;
        let channel = channel.map_err(|error| Error::Other(format!("connecting to containerd on {}: {error}", node.name())))?;
        Ok(Self { runtime: RuntimeServiceClient::new(channel), cgroup, mounts: mounts.to_vec() })
    }

    /// Brings a pod up; gives it and the time that it took.
    pub async fn up(&self, name: &str) -> Result<(BarePod, Duration)> {
        let failed = |status: tonic::Status| Error::Other(format!("starting {name} by bare calls: {}", status.message()));
        let mut runtime = self.runtime.clone();
        let (config, container) = (self.sandbox_config(name), self.container_config(name));
        let start = Instant::now();
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let sandbox = runtime.run_pod_sandbox(request).await.map_err(failed)?.into_inner().pod_sandbox_id;
        let request = CreateContainerRequest { pod_sandbox_id: sandbox.clone(), config: Some(container), sandbox_config: Some(config) };
        let container = runtime.create_container(request).await.map_err(failed)?.into_inner().container_id;
        runtime.start_container(StartContainerRequest { container_id: container.clone() }).await.map_err(failed)?;
        Ok((BarePod { sandbox, container }, start.elapsed()))
    }

    fn sandbox_config(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata { name: name.into(), uid: name.into(), namespace: "bench".into(), attempt: 0 }),
            hostname: name.into(),
            log_directory: FILES.into(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(profile(ProfileType::RuntimeDefault)),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    fn container_config(&self, name: &str) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.into(), ..ImageSpec::default() }),
            mounts: self.mounts.clone(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources { cpu_shares: 2, oom_score_adj: 1000, ..LinuxContainerResources::default() }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(profile(ProfileType::Unconfined)),
                    ..LinuxContainerSecurityContext::default()
                }),
            }),
            ..ContainerConfig::default()
        }
    }

    /// Stops a pod's processes: what has to happen between a pod's deletion and its end. Gives the time that it took.
    /// What is left is removed afterwards, as agents do it.
    pub async fn down(&self, pod: BarePod) -> Result<Duration> {
        let failed = |status: tonic::Status| Error::Other(format!("stopping a pod by bare calls: {}", status.message()));
        let mut runtime = self.runtime.clone();
        let start = Instant::now();
        let stop = StopContainerRequest { container_id: pod.container, timeout: GRACE };
        runtime.stop_container(stop).await.map_err(failed)?;
        runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod.sandbox.clone() }).await.map_err(failed)?;
        let taken = start.elapsed();
        runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod.sandbox }).await.map_err(failed)?;
        Ok(taken)
    }
}

fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into(), ..NamespaceOption::default() }
}

fn profile(kind: ProfileType) -> SecurityProfile {
    SecurityProfile { profile_type: kind.into(), ..SecurityProfile::default() }
}
