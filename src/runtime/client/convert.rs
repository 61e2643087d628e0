//! The runtime's messages as the agent's types. Whatever makes no sense is an `Err` with what it is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto::cri::{ContainerState, ContainerStatus, NamespaceMode, PodSandboxConfig, PodSandboxState, PodSandboxStatus};

use crate::model::{ContainerId, PodRef, SandboxId};
use crate::runtime::{Container, ContainerPhase, Image, Limits, Sandbox, names};

/// `namespace/name` of a sandbox config, for texts.
pub(super) fn pod_name(config: &PodSandboxConfig) -> String {
    config.metadata.as_ref().map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default()
}

/// Whose a sandbox or container is, from its labels; `None` when it is not one of a node agent's.
pub(super) fn pod_ref(labels: &BTreeMap<String, String>) -> Option<PodRef> {
    let label = |name| labels.get(name).map(String::as_str).unwrap_or_default();
    let uid = labels.get(names::POD_UID).filter(|uid| !uid.is_empty())?;
    Some(PodRef { namespace: label(names::POD_NAMESPACE).into(), name: label(names::POD_NAME).into(), uid: uid.as_str().into() })
}

pub(super) fn sandbox_ready(state: i32) -> Result<bool, String> {
    match PodSandboxState::try_from(state) {
        Ok(PodSandboxState::SandboxReady) => Ok(true),
        Ok(PodSandboxState::SandboxNotready) => Ok(false),
        Err(_) => Err(format!("sandbox state number {state}")),
    }
}

pub(super) fn sandbox(status: PodSandboxStatus) -> Result<Sandbox, String> {
    let PodSandboxStatus { id, metadata, state, created_at, network, linux, .. } = status;
    if id.is_empty() {
        return Err("an empty sandbox id".into());
    }
    let options = linux.and_then(|l| l.namespaces).and_then(|n| n.options);
    let network = network.unwrap_or_default();
    let addresses = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|a| a.ip));
    let ips = addresses.filter(|a| !a.is_empty()).map(|a| a.parse::<IpAddr>().map_err(|_| format!("address {a:?} of sandbox {id}")));
    Ok(Sandbox {
        ips: ips.collect::<Result<_, _>>()?,
        attempt: metadata.unwrap_or_default().attempt,
        created_at,
        ready: sandbox_ready(state)?,
        host_network: options.is_some_and(|o| o.network == NamespaceMode::Node as i32),
        id: SandboxId::from(id),
    })
}

/// `None` for a number that stands for nothing.
pub(super) fn phase(state: i32) -> Option<ContainerPhase> {
    Some(match ContainerState::try_from(state).ok()? {
        ContainerState::ContainerCreated => ContainerPhase::Created,
        ContainerState::ContainerRunning => ContainerPhase::Running,
        ContainerState::ContainerExited => ContainerPhase::Exited,
        ContainerState::ContainerUnknown => ContainerPhase::Unknown,
    })
}

/// Without the sandbox, which a container's status does not name, and without the termination message, which is read from files.
pub(super) fn container(status: ContainerStatus) -> Result<Container, String> {
    if status.id.is_empty() {
        return Err("an empty container id".into());
    }
    let phase = phase(status.state).ok_or_else(|| format!("state number {} of container {}", status.state, status.id))?;
    let annotation = |name| status.annotations.get(name).map(String::as_str).unwrap_or_default();
    let name = match status.labels.get(names::CONTAINER_NAME) {
        Some(name) => name.as_str().into(),
        None => status.metadata.unwrap_or_default().name.into(),
    };
    let image = status.image.unwrap_or_default();
    Ok(Container {
        id: ContainerId::from(status.id),
        sandbox: SandboxId::from(""),
        name,
        restart_count: annotation(names::RESTART_COUNT).parse().unwrap_or(0),
        hash: annotation(names::CONTAINER_HASH).to_owned(),
        phase,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        termination_message: String::new(),
        image: if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image },
        image_id: if status.image_ref.is_empty() { status.image_id } else { status.image_ref },
        hook: hook(&status.annotations),
        log_path: status.log_path,
        limits: status.resources.and_then(|r| r.linux).map(|r| Limits {
            cpu_shares: r.cpu_shares,
            cpu_quota: r.cpu_quota,
            cpu_period: r.cpu_period,
            memory: r.memory_limit_in_bytes,
        }),
        user: status.user.and_then(|u| u.linux).map(Box::new),
        recursive_read_only: status.mounts.into_iter().filter(|m| m.recursive_read_only).map(|m| m.container_path).collect(),
    })
}

/// What is needed to run the hook of a container whose spec is gone.
fn hook(annotations: &BTreeMap<String, String>) -> Option<Box<(String, String)>> {
    let handler = annotations.get(names::PRE_STOP_HANDLER)?;
    Some(Box::new((handler.clone(), annotations.get(names::CONTAINER_PORTS).cloned().unwrap_or_default())))
}

pub(super) fn image(image: proto::cri::Image) -> Result<Image, String> {
    if image.id.is_empty() {
        return Err("an empty image id".into());
    }
    Ok(Image {
        id: image.id,
        tags: image.repo_tags,
        digests: image.repo_digests,
        size: image.size,
        uid: image.uid.map(|u| u.value),
        username: image.username,
        pinned: image.pinned,
    })
}
