//! The runtime itself: version, health, cgroup driver, pod network.

use proto::cri::{
    NetworkConfig, RuntimeConfig, RuntimeConfigRequest, RuntimeStatus, StatusRequest, StatusResponse, UpdateRuntimeConfigRequest,
    VersionRequest,
};

use super::call::{filled, garbage, within};
use super::{CgroupDriver, CriRuntime, Error, ErrorKind, Result, RuntimeHandler, RuntimeHealth, RuntimeVersion};

pub(super) async fn version(cri: &CriRuntime) -> Result<RuntimeVersion> {
    const ACTION: &str = "ask the container runtime for its version";
    let mut client = cri.runtime();
    let answer = within(ACTION, cri.timeout, VersionRequest { version: "v1".into() }, |r| async move { client.version(r).await }).await?;
    let name = filled(ACTION, "name", answer.runtime_name)?;
    let version = filled(ACTION, "version", answer.runtime_version)?;
    Ok(RuntimeVersion { name, version: version.strip_prefix('v').unwrap_or(&version).to_owned() })
}

pub(super) async fn health(cri: &CriRuntime) -> Result<RuntimeHealth> {
    let mut client = cri.runtime();
    let action = "ask the container runtime for its status";
    let answer = within(action, cri.timeout, StatusRequest { verbose: false }, |r| async move { client.status(r).await }).await?;
    Ok(to_health(answer))
}

pub(super) fn to_health(answer: StatusResponse) -> RuntimeHealth {
    let status = answer.status.unwrap_or_default();
    let handlers = answer.runtime_handlers.into_iter().map(|h| {
        let features = h.features.unwrap_or_default();
        let (recursive_read_only_mounts, user_namespaces) = (features.recursive_read_only_mounts, features.user_namespaces);
        RuntimeHandler { name: h.name, recursive_read_only_mounts, user_namespaces }
    });
    RuntimeHealth {
        runtime_error: problem(&status, "RuntimeReady"),
        network_error: problem(&status, "NetworkReady"),
        handlers: handlers.collect(),
        supplemental_groups_policy: answer.features.is_some_and(|f| f.supplemental_groups_policy),
    }
}

fn problem(status: &RuntimeStatus, condition: &str) -> Option<String> {
    match status.conditions.iter().find(|c| c.r#type == condition) {
        Some(c) if c.status => None,
        // Upstream's form, which tools look for (`pkg/kubelet/container/runtime.go`, RuntimeCondition.String).
        Some(c) => Some(format!("{condition}={} reason:{} message:{}", c.status, c.reason, c.message)),
        None => Some(format!("the container runtime reports no condition {condition}")),
    }
}

pub(super) async fn cgroup_driver(cri: &CriRuntime) -> Result<CgroupDriver> {
    const ACTION: &str = "ask the container runtime for its cgroup driver";
    let mut client = cri.runtime();
    let answer = within(ACTION, cri.timeout, RuntimeConfigRequest {}, |r| async move { client.runtime_config(r).await }).await?;
    // Runtimes that know the call but not the answer leave the field out.
    let Some(linux) = answer.linux else { return Err(Error { action: ACTION.into(), kind: ErrorKind::Unimplemented }) };
    match proto::cri::CgroupDriver::try_from(linux.cgroup_driver) {
        Ok(proto::cri::CgroupDriver::Systemd) => Ok(CgroupDriver::Systemd),
        Ok(proto::cri::CgroupDriver::Cgroupfs) => Ok(CgroupDriver::Cgroupfs),
        Err(_) => Err(garbage(ACTION, format!("cgroup driver number {}", linux.cgroup_driver))),
    }
}

pub(super) async fn update_pod_cidr(cri: &CriRuntime, cidr: &str) -> Result<()> {
    let network_config = Some(NetworkConfig { pod_cidr: cidr.to_owned() });
    let message = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
    let mut client = cri.runtime();
    let action = format_args!("tell the container runtime the pod CIDR {cidr}").to_string();
    within(action, cri.timeout, message, |r| async move { client.update_runtime_config(r).await }).await.map(drop)
}
