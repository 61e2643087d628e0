//! [`Runtime`] over the CRI.
//!
//! In: calls. Out: answers that were checked, or errors that say what was being done. Owns: one connection to the runtime's socket
//! (two, when images are served elsewhere). Survives a restart: nothing.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use proto::cri::image_service_client::ImageServiceClient;
use proto::cri::runtime_service_client::RuntimeServiceClient;
use proto::cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};
use tonic::transport::Channel;

use super::*;

mod call;
mod containers;
mod convert;
mod endpoint;
mod events;
mod images;
mod observe;
mod sandboxes;
mod streams;
mod system;
mod termination;

pub use endpoint::EndpointError;

/// Upstream's limit for one answer: a list of all containers of a full node with long annotations.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A container runtime behind a unix socket. Clones share the connection.
#[derive(Debug, Clone)]
pub struct CriRuntime {
    runtime: Channel,
    images: Channel,
    /// runtimeRequestTimeout; other deadlines follow from it.
    timeout: Duration,
}

impl CriRuntime {
    /// A client of the runtime at `endpoint` (`unix:///run/containerd/containerd.sock`, or the path alone), with images served by
    /// `image_endpoint` where that is another one. Nothing is connected before the first call.
    pub fn new(endpoint: &str, image_endpoint: Option<&str>, timeout: Duration) -> std::result::Result<Self, EndpointError> {
        let runtime = endpoint::channel("containerRuntimeEndpoint", endpoint)?;
        let images = match image_endpoint.filter(|i| !i.is_empty() && *i != endpoint) {
            Some(other) => endpoint::channel("imageServiceEndpoint", other)?,
            None => runtime.clone(),
        };
        Ok(Self { runtime, images, timeout })
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.runtime.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.images.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

#[async_trait]
impl Runtime for CriRuntime {
    async fn version(&self) -> Result<RuntimeVersion> {
        system::version(self).await
    }
    async fn health(&self) -> Result<RuntimeHealth> {
        system::health(self).await
    }
    async fn cgroup_driver(&self) -> Result<CgroupDriver> {
        system::cgroup_driver(self).await
    }
    async fn update_pod_cidr(&self, cidr: &str) -> Result<()> {
        system::update_pod_cidr(self, cidr).await
    }

    async fn list_pods(&self) -> Result<Vec<ObservedPod>> {
        observe::all(self).await
    }
    async fn outlines(&self) -> Result<Vec<Outline>> {
        observe::outlines(self).await
    }
    async fn observe_pod(&self, uid: &PodUid) -> Result<Option<ObservedPod>> {
        observe::one(self, uid).await
    }
    async fn sandbox(&self, id: &SandboxId) -> Result<Sandbox> {
        sandboxes::status(self, id).await
    }
    async fn container(&self, id: &ContainerId) -> Result<Container> {
        containers::status(self, id).await
    }
    fn events(&self) -> BoxStream<'static, Option<PodUid>> {
        events::hints(self.clone())
    }

    async fn run_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<SandboxId> {
        sandboxes::run(self, config, handler).await
    }
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        sandboxes::stop(self, id).await
    }
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        sandboxes::remove(self, id).await
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<ContainerId> {
        containers::create(self, sandbox, config, sandbox_config).await
    }
    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        containers::start(self, id).await
    }
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        containers::stop(self, id, grace).await
    }
    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        containers::remove(self, id).await
    }
    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        containers::reopen_log(self, id).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        images::status(self, reference).await
    }
    async fn images(&self) -> Result<Vec<Image>> {
        images::list(self).await
    }
    async fn pull_image(&self, reference: &str, auth: Option<&RegistryAuth>, sandbox_config: &PodSandboxConfig) -> Result<String> {
        images::pull(self, reference, auth, sandbox_config).await
    }
    async fn remove_image(&self, reference: &str) -> Result<()> {
        images::remove(self, reference).await
    }
    async fn file_systems(&self) -> Result<FileSystems> {
        images::file_systems(self).await
    }

    async fn exec(&self, id: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        containers::exec(self, id, command, timeout).await
    }
    async fn update_container(&self, id: &ContainerId, resources: LinuxContainerResources) -> Result<()> {
        containers::update(self, id, resources).await
    }
    async fn container_usage(&self, id: &ContainerId) -> Result<ContainerUsage> {
        containers::usage(self, id).await
    }
    async fn update_sandbox(&self, id: &SandboxId, overhead: LinuxContainerResources, resources: LinuxContainerResources) -> Result<()> {
        sandboxes::update(self, id, overhead, resources).await
    }

    async fn exec_url(&self, id: &ContainerId, request: &StreamRequest) -> Result<String> {
        streams::exec(self, id, request).await
    }
    async fn attach_url(&self, id: &ContainerId, request: &StreamRequest) -> Result<String> {
        streams::attach(self, id, request).await
    }
    async fn port_forward_url(&self, id: &SandboxId, ports: &[u16]) -> Result<String> {
        streams::port_forward(self, id, ports).await
    }
}

#[cfg(test)]
mod tests;
