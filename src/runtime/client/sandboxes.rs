//! Calls about one sandbox.

use proto::cri::{
    LinuxContainerResources, PodSandboxConfig, PodSandboxStatusRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StopPodSandboxRequest, UpdatePodSandboxResourcesRequest,
};

use super::call::{filled, fine_when_gone, garbage, within};
use super::{CriRuntime, Result, Sandbox, SandboxId, convert};

pub(super) async fn run(cri: &CriRuntime, config: PodSandboxConfig, handler: &str) -> Result<SandboxId> {
    let action = format!("create sandbox of pod {}", convert::pod_name(&config));
    let message = RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
    let mut client = cri.runtime();
    // Twice the usual time: the network plug-ins of all other pods may be at work (kuberuntime, RunPodSandbox).
    let answer = within(&action, cri.timeout * 2, message, |r| async move { client.run_pod_sandbox(r).await }).await?;
    filled(&action, "sandbox id", answer.pod_sandbox_id).map(SandboxId::from)
}

pub(super) async fn stop(cri: &CriRuntime, id: &SandboxId) -> Result<()> {
    let message = StopPodSandboxRequest { pod_sandbox_id: id.to_string() };
    let mut client = cri.runtime();
    let action = format!("stop sandbox {id}");
    fine_when_gone(within(action, cri.timeout * 2, message, |r| async move { client.stop_pod_sandbox(r).await }).await)
}

pub(super) async fn remove(cri: &CriRuntime, id: &SandboxId) -> Result<()> {
    let message = RemovePodSandboxRequest { pod_sandbox_id: id.to_string() };
    let mut client = cri.runtime();
    let action = format!("remove sandbox {id}");
    fine_when_gone(within(action, cri.timeout * 2, message, |r| async move { client.remove_pod_sandbox(r).await }).await)
}

pub(super) async fn update(
    cri: &CriRuntime,
    id: &SandboxId,
    overhead: LinuxContainerResources,
    resources: LinuxContainerResources,
) -> Result<()> {
    let message = UpdatePodSandboxResourcesRequest { pod_sandbox_id: id.to_string(), overhead: Some(overhead), resources: Some(resources) };
    let mut client = cri.runtime();
    let action = format!("set the limits of sandbox {id}");
    within(action, cri.timeout, message, |r| async move { client.update_pod_sandbox_resources(r).await }).await.map(drop)
}

pub(super) async fn status(cri: &CriRuntime, id: &SandboxId) -> Result<Sandbox> {
    let action = format!("ask for the state of sandbox {id}");
    let message = PodSandboxStatusRequest { pod_sandbox_id: id.to_string(), verbose: false };
    let mut client = cri.runtime();
    let answer = within(&action, cri.timeout, message, |r| async move { client.pod_sandbox_status(r).await }).await?;
    let status = answer.status.ok_or_else(|| garbage(&action, "no status"))?;
    convert::sandbox(status).map_err(|what| garbage(&action, what))
}
