//! Calls about one container.

use std::time::Duration;

use proto::cri::{
    ContainerConfig, ContainerFilter, ContainerStatsRequest, ContainerStatusRequest, CreateContainerRequest, ExecSyncRequest,
    LinuxContainerResources, ListContainersRequest, PodSandboxConfig, RemoveContainerRequest, ReopenContainerLogRequest,
    StartContainerRequest, StopContainerRequest, UInt64Value, UpdateContainerResourcesRequest,
};

use super::call::{filled, fine_when_gone, garbage, within};
use super::{Container, ContainerId, ContainerUsage, CriRuntime, ExecOutput, Result, SandboxId, convert, termination};

/// How much later than the runtime a command's deadline is kept here.
const EXEC_MARGIN: Duration = Duration::from_secs(2);

pub(super) async fn create(
    cri: &CriRuntime,
    sandbox: &SandboxId,
    config: ContainerConfig,
    sandbox_config: PodSandboxConfig,
) -> Result<ContainerId> {
    let name = config.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
    let action = format!("create container {name} of pod {}", convert::pod_name(&sandbox_config));
    let message =
        CreateContainerRequest { pod_sandbox_id: sandbox.to_string(), config: Some(config), sandbox_config: Some(sandbox_config) };
    let mut client = cri.runtime();
    let answer = within(&action, cri.timeout, message, |r| async move { client.create_container(r).await }).await?;
    filled(&action, "container id", answer.container_id).map(ContainerId::from)
}

pub(super) async fn start(cri: &CriRuntime, id: &ContainerId) -> Result<()> {
    let message = StartContainerRequest { container_id: id.to_string() };
    let mut client = cri.runtime();
    let action = format!("start container {id}");
    within(action, cri.timeout, message, |r| async move { client.start_container(r).await }).await.map(drop)
}

pub(super) async fn stop(cri: &CriRuntime, id: &ContainerId, grace: Duration) -> Result<()> {
    // Whole seconds, rounded up: a container never gets less time than it was promised.
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    let message = StopContainerRequest { container_id: id.to_string(), timeout: i64::try_from(seconds).unwrap_or(i64::MAX) };
    let mut client = cri.runtime();
    let action = format!("stop container {id}");
    let deadline = grace.saturating_add(cri.timeout);
    fine_when_gone(within(action, deadline, message, |r| async move { client.stop_container(r).await }).await)
}

pub(super) async fn remove(cri: &CriRuntime, id: &ContainerId) -> Result<()> {
    let message = RemoveContainerRequest { container_id: id.to_string() };
    let mut client = cri.runtime();
    let action = format!("remove container {id}");
    fine_when_gone(within(action, cri.timeout, message, |r| async move { client.remove_container(r).await }).await)
}

pub(super) async fn exec(cri: &CriRuntime, id: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput> {
    // The runtime knows whole seconds only; what it doesn't end, the deadline here does, a little later so that the runtime comes first.
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    let message =
        ExecSyncRequest { container_id: id.to_string(), cmd: command.to_vec(), timeout: i64::try_from(seconds).unwrap_or(i64::MAX) };
    let mut client = cri.runtime();
    let action = format!("run a command in container {id}");
    let deadline = timeout.saturating_add(EXEC_MARGIN);
    let answer = within(action, deadline, message, |r| async move { client.exec_sync(r).await }).await?;
    let output = [answer.stdout, answer.stderr].concat();
    Ok(ExecOutput { exit_code: answer.exit_code, output })
}

pub(super) async fn update(cri: &CriRuntime, id: &ContainerId, resources: LinuxContainerResources) -> Result<()> {
    let message = UpdateContainerResourcesRequest { container_id: id.to_string(), linux: Some(resources), ..Default::default() };
    let mut client = cri.runtime();
    let action = format!("set the limits of container {id}");
    within(action, cri.timeout, message, |r| async move { client.update_container_resources(r).await }).await.map(drop)
}

pub(super) async fn usage(cri: &CriRuntime, id: &ContainerId) -> Result<ContainerUsage> {
    let message = ContainerStatsRequest { container_id: id.to_string() };
    let mut client = cri.runtime();
    let action = format!("ask what container {id} uses");
    let answer = within(action, cri.timeout, message, |r| async move { client.container_stats(r).await }).await?;
    let Some(stats) = answer.stats else { return Ok(ContainerUsage::default()) };
    let layer = stats.writable_layer.unwrap_or_default();
    let number = |value: Option<UInt64Value>| value.map_or(0, |value| value.value);
    let memory = stats.memory.unwrap_or_default();
    Ok(ContainerUsage {
        memory: memory.usage_bytes.map(|bytes| bytes.value),
        working_set: number(memory.working_set_bytes),
        written_bytes: number(layer.used_bytes),
        written_inodes: number(layer.inodes_used),
    })
}

pub(super) async fn reopen_log(cri: &CriRuntime, id: &ContainerId) -> Result<()> {
    let message = ReopenContainerLogRequest { container_id: id.to_string() };
    let mut client = cri.runtime();
    let action = format!("reopen the log of container {id}");
    within(action, cri.timeout, message, |r| async move { client.reopen_container_log(r).await }).await.map(drop)
}

/// Lines of the list, all conditions of the filter met.
pub(super) async fn list(cri: &CriRuntime, filter: ContainerFilter) -> Result<Vec<proto::cri::Container>> {
    let mut client = cri.runtime();
    let message = ListContainersRequest { filter: Some(filter) };
    Ok(within("list containers", cri.timeout, message, |r| async move { client.list_containers(r).await }).await?.containers)
}

/// A container's state, but for its sandbox, which is empty.
pub(super) async fn status(cri: &CriRuntime, id: &ContainerId) -> Result<Container> {
    let action = format!("ask for the state of container {id}");
    let message = ContainerStatusRequest { container_id: id.to_string(), verbose: false };
    let mut client = cri.runtime();
    let answer = within(&action, cri.timeout, message, |r| async move { client.container_status(r).await }).await?;
    let status = answer.status.ok_or_else(|| garbage(&action, "no status"))?;
    let source = termination::Source::of(&status);
    let mut container = convert::container(status).map_err(|what| garbage(&action, what))?;
    if let Some(source) = source {
        container.termination_message = source.read().await;
    }
    Ok(container)
}
