//! The floor: what the runtime needs for the same pods when nobody asks it anything else.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use hyper_util::rt::TokioIo;
use proto::cri::runtime_service_client::RuntimeServiceClient;
use proto::cri::{self, ContainerConfig, ContainerMetadata, ImageSpec, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::agent::RUNTIME_SOCKET;
use crate::bench::median;
use crate::bench::report::Figures;
use crate::cgroups;
use crate::error::{Error, Result};
use crate::lab::Lab;

/// The image of sandboxes, and of the benchmark's pods.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.2";

/// A client of a node's containerd.
pub struct Floor {
    runtime: RuntimeServiceClient<Channel>,
    cgroup: String,
}

impl Floor {
    /// Connects to the first node's containerd.
    pub async fn connect(lab: &Lab) -> Result<Self> {
        let node = lab.node(0);
        // The node's files as the host sees them.
        let socket = format!("/proc/{}/root{RUNTIME_SOCKET}", node.place().first_pid());
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://containerd").connect_with_connector(connector).await;
        let channel = channel.map_err(|error| Error::Other(format!("connecting to containerd: {error}")))?;
        let cgroup = cgroups::name(lab.folder().file_name().unwrap_or_default().to_str().unwrap_or_default(), node.name());
        Ok(Self { runtime: RuntimeServiceClient::new(channel), cgroup: format!("{cgroup}/floor") })
    }

    /// Pods one after the other.
    pub async fn singles(&self, count: usize, figures: &mut Figures) -> Result<()> {
        let (mut ready, mut gone) = (Vec::new(), Vec::new());
        for index in 0..count {
            let start = Instant::now();
            let pod = self.start(&format!("single-{index}")).await?;
            ready.push(start.elapsed());
            tokio::time::sleep(Duration::from_millis(300)).await;
            let start = Instant::now();
            self.end(pod).await?;
            gone.push(start.elapsed());
        }
        figures.time("pod_ready", median(ready)?);
        figures.time("pod_gone", median(gone)?);
        Ok(())
    }

    /// Pods all at once. More than a few calls side by side make it no faster: runc and the shims take the CPU.
    pub async fn burst(&self, count: usize, figures: &mut Figures) -> Result<()> {
        let start = Instant::now();
        let names: Vec<String> = (0..count).map(|index| format!("burst-{index}")).collect();
        let pods: Vec<Pod> = futures::stream::iter(&names).map(|name| self.start(name)).buffer_unordered(count).try_collect().await?;
        figures.time("burst", start.elapsed());
        futures::stream::iter(pods.into_iter().map(Ok)).try_for_each_concurrent(8, |pod| self.end(pod)).await
    }

    async fn start(&self, name: &str) -> Result<Pod> {
        let mut runtime = self.runtime.clone();
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata { name: name.into(), uid: name.into(), namespace: "floor".into(), attempt: 0 }),
            hostname: name.into(),
            log_directory: format!("/var/log/pods/floor_{name}"),
            linux: Some(LinuxPodSandboxConfig { cgroup_parent: format!("{}/{name}", self.cgroup), ..Default::default() }),
            ..Default::default()
        };
        let request = cri::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        let sandbox = runtime.run_pod_sandbox(request).await.map_err(failed("RunPodSandbox"))?.into_inner().pod_sandbox_id;
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "pause".into(), attempt: 0 }),
            image: Some(ImageSpec { image: PAUSE.into(), ..Default::default() }),
            log_path: "pause/0.log".into(),
            ..Default::default()
        };
        let request =
            cri::CreateContainerRequest { pod_sandbox_id: sandbox.clone(), config: Some(container), sandbox_config: Some(config) };
        let container = runtime.create_container(request).await.map_err(failed("CreateContainer"))?.into_inner().container_id;
        let request = cri::StartContainerRequest { container_id: container.clone() };
        runtime.start_container(request).await.map_err(failed("StartContainer"))?;
        Ok(Pod { sandbox, container })
    }

    /// What must have happened before a pod's object may go: the container has ended, and its sandbox is stopped.
    async fn end(&self, pod: Pod) -> Result<()> {
        let mut runtime = self.runtime.clone();
        runtime
            .stop_container(cri::StopContainerRequest { container_id: pod.container, timeout: 30 })
            .await
            .map_err(failed("StopContainer"))?;
        runtime.stop_pod_sandbox(cri::StopPodSandboxRequest { pod_sandbox_id: pod.sandbox }).await.map_err(failed("StopPodSandbox"))?;
        Ok(())
    }
}

struct Pod {
    sandbox: String,
    container: String,
}

fn failed(call: &str) -> impl FnOnce(tonic::Status) -> Error {
    move |status| Error::Other(format!("{call}: {status}"))
}
