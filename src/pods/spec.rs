//! Reading a pod's spec: the questions that the other files ask, with upstream's defaults.

pub use crate::model::resources::is_sidecar;
use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, EphemeralContainer, Pod, PodSpec, PodStatus};

/// When ended containers are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// After an exit code other than 0.
    OnFailure,
    /// Never.
    Never,
}

fn of(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

/// A pod that the node itself brings (upstream: `types/pod_update.go`, `IsStaticPod`).
pub fn is_static(pod: &Pod) -> bool {
    let source = pod.metadata.annotations.as_ref().and_then(|a| a.get(SOURCE));
    source.is_some_and(|source| source != "api")
}

/// A pod that others make room for (upstream: `types/pod_update.go`, `IsCriticalPod`).
pub fn is_critical(pod: &Pod) -> bool {
    let mirror = pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key("kubernetes.io/config.mirror"));
    is_static(pod) || mirror || of(pod).and_then(|s| s.priority).is_some_and(|priority| priority >= CRITICAL_PRIORITY)
}

/// The priority from which on a pod is critical (`system-cluster-critical`).
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// Where a pod comes from: "file", "http" or "api".
const SOURCE: &str = "kubernetes.io/config.source";

/// A pod of the API server, whatever it says of itself: static pods are critical, and who makes pods must not make such (upstream:
/// `config/config.go`, which overwrites the annotation too).
pub fn of_the_api_server(mut pod: Pod) -> Pod {
    if let Some(source) = pod.metadata.annotations.as_mut().and_then(|annotations| annotations.get_mut(SOURCE)) {
        "api".clone_into(source);
    }
    pod
}

/// Regular containers.
pub fn containers(pod: &Pod) -> &[Container] {
    of(pod).map_or(&[], |s| &s.containers)
}

/// Init containers, sidecars among them.
pub fn init_containers(pod: &Pod) -> &[Container] {
    of(pod).and_then(|s| s.init_containers.as_deref()).unwrap_or_default()
}

/// Ephemeral containers: added to a pod that runs, started once.
pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    of(pod).and_then(|s| s.ephemeral_containers.as_deref()).unwrap_or_default()
}

/// An ephemeral container as a container like others, without what only others have.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        name: e.name,
        image: e.image,
        command: e.command,
        args: e.args,
        working_dir: e.working_dir,
        env: e.env,
        env_from: e.env_from,
        volume_mounts: e.volume_mounts,
        volume_devices: e.volume_devices,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        image_pull_policy: e.image_pull_policy,
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        tty: e.tty,
        ..Container::default()
    }
}

/// A container of any kind by name.
pub fn any_container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let ephemeral = || ephemeral_containers(pod).iter().find(|c| c.name == name).map(|c| Cow::Owned(as_container(c)));
    container(pod, name).map(Cow::Borrowed).or_else(ephemeral)
}

/// The container whose processes an ephemeral one sees.
pub fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let ephemeral = ephemeral_containers(pod).iter().find(|c| c.name == name)?;
    ephemeral.target_container_name.as_deref().filter(|target| !target.is_empty())
}

/// A container by name, ephemeral ones left out.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    containers(pod).iter().chain(init_containers(pod)).find(|c| c.name == name)
}

/// Names of containers whose image or resources differ between two versions of a pod.
pub fn redefined<'a>(old: &Pod, new: &'a Pod) -> impl Iterator<Item = &'a str> {
    let all = init_containers(new).iter().chain(containers(new));
    let differs = |c: &&Container| container(old, &c.name).is_none_or(|o| o.image != c.image || o.resources != c.resources);
    all.filter(differs).map(|c| &*c.name)
}

/// The field path that events about a container carry.
pub fn field_path(pod: &Pod, name: &str) -> String {
    let kind = match name {
        _ if init_containers(pod).iter().any(|c| c.name == name) => "initContainers",
        _ if ephemeral_containers(pod).iter().any(|c| c.name == name) => "ephemeralContainers",
        _ => "containers",
    };
    format!("spec.{kind}{{{name}}}")
}

/// Restart policy; `Always` when unset, as the API server defaults it.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    match of(pod).and_then(|s| s.restart_policy.as_deref()) {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// Whether the pod lives in the node's network namespace.
pub fn host_network(pod: &Pod) -> bool {
    of(pod).and_then(|s| s.host_network).unwrap_or(false)
}

/// Name of the RuntimeClass, if any.
pub fn runtime_class(pod: &Pod) -> Option<&str> {
    of(pod)?.runtime_class_name.as_deref()
}

/// Grace period in seconds: that of the deletion, else the spec's, else 30. The API server sets no upper bound, and no timer reaches
/// beyond a century.
pub fn grace_period(pod: &Pod) -> u64 {
    let seconds = pod.metadata.deletion_grace_period_seconds.or_else(|| of(pod).and_then(|s| s.termination_grace_period_seconds));
    u64::try_from(seconds.unwrap_or(30)).unwrap_or(0).min(u64::from(u32::MAX))
}

/// A name of the pod or of a container that can't be part of a path. The API server lets none through, but paths are made of them.
pub fn bad_name(pod: &Pod) -> Option<&str> {
    let meta = &pod.metadata;
    let own = [&meta.namespace, &meta.name, &meta.uid].map(|n| n.as_deref().unwrap_or_default());
    let containers = containers(pod).iter().chain(init_containers(pod)).map(|c| &*c.name);
    let containers = containers.chain(ephemeral_containers(pod).iter().map(|c| &*c.name));
    own.into_iter().chain(containers).find(|n| matches!(*n, "" | "." | "..") || n.contains(['/', '\0']))
}

/// Phase `Succeeded` or `Failed`: the pod never runs again.
pub fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// A container's status, of any kind.
pub fn container_status<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|c| c.name == name)
}

/// Whether a status says that the pod never runs again.
pub fn has_ended(status: &PodStatus) -> bool {
    status.phase.as_deref().is_some_and(is_terminal)
}

/// The restart count for a container that the runtime has no record of: 0, or one more than the API server remembers. A status that
/// has noticed the loss already counts it.
pub fn lost_restarts(status: &PodStatus, name: &str) -> u32 {
    let Some(known) = container_status(status, name) else { return 0 };
    let count = u32::try_from(known.restart_count).unwrap_or(0);
    match (&known.container_id, &known.last_state) {
        (Some(_), _) => count.saturating_add(1),
        (None, Some(last)) if last.terminated.is_some() => count,
        (None, _) => 0,
    }
}

/// Whether a status tells that a container has run, or still does.
pub fn has_begun(status: &PodStatus, name: &str) -> bool {
    container_status(status, name).is_some_and(has_ever_run)
}

/// Whether a container's status tells that it has run, or still does.
pub fn has_ever_run(status: &ContainerStatus) -> bool {
    let ran = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    [&status.state, &status.last_state].into_iter().flatten().any(ran)
}
