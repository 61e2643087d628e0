//! The floor: the three calls that bring a pod up, and those that take it down, made by a bare client and no agent.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::cri::runtime_service_client::RuntimeServiceClient;
use proto::cri::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::pods::{GRACE, IMAGE};
use crate::agent::RUNTIME_SOCKET;
use crate::error::{Doing as _, Error, Result};
use crate::node::Node;

/// A client of a node's containerd.
#[derive(Clone)]
pub struct Floor {
    runtime: RuntimeServiceClient<Channel>,
    cgroup: String,
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
        let logs = node.folder().join("var-log/bench");
        std::fs::create_dir_all(&logs).doing(|| format!("making {}", logs.display()))?;
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://containerd").connect_with_connector(connect).await;
        let channel = channel.map_err(|error| Error::Other(format!("connecting to containerd on {}: {error}", node.name())))?;
        Ok(Self { runtime: RuntimeServiceClient::new(channel), cgroup })
    }

    /// Brings a pod up; gives it and the time that it took.
    pub async fn up(&self, name: &str) -> Result<(BarePod, Duration)> {
        let failed = |status: tonic::Status| Error::Other(format!("starting {name} by bare calls: {}", status.message()));
        let mut runtime = self.runtime.clone();
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata { name: name.into(), uid: name.into(), namespace: "bench".into(), attempt: 0 }),
            hostname: name.into(),
            log_directory: "/var/log/bench".into(),
            linux: Some(LinuxPodSandboxConfig { cgroup_parent: self.cgroup.clone(), ..LinuxPodSandboxConfig::default() }),
            ..PodSandboxConfig::default()
        };
        let start = Instant::now();
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let sandbox = runtime.run_pod_sandbox(request).await.map_err(failed)?.into_inner().pod_sandbox_id;
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.into(), ..ImageSpec::default() }),
            log_path: format!("{name}.log"),
            ..ContainerConfig::default()
        };
        let request = CreateContainerRequest { pod_sandbox_id: sandbox.clone(), config: Some(container), sandbox_config: Some(config) };
        let container = runtime.create_container(request).await.map_err(failed)?.into_inner().container_id;
        runtime.start_container(StartContainerRequest { container_id: container.clone() }).await.map_err(failed)?;
        Ok((BarePod { sandbox, container }, start.elapsed()))
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
