//! A pod's status from what a worker sees.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};

use super::conditions::Facts;
use super::containers::{EXIT_UNKNOWN, Kind, unseen_end};
use super::{conditions, containers, own_resources, phase};
use crate::model::clock::api_time;
use crate::model::qos::QosClass;
use crate::pods::memory::Subject;
use crate::pods::plan::{View, VolumeState, anew};
use crate::pods::stage::{End, Stage};
use crate::pods::{resize, spec};

/// All that a status depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What the plan sees too.
    pub view: View<'a>,
    /// The last known status.
    pub previous: &'a PodStatus,
    /// Node addresses, primary family first.
    pub node_ips: &'a [IpAddr],
    /// The runtime's name, `containerd`.
    pub runtime_name: &'a str,
    /// The object carries a deletion timestamp.
    pub deleting: bool,
}

/// Computes the status. `None` for a pod without an API object: there is nobody to tell.
pub fn compute(inputs: &Inputs) -> Option<PodStatus> {
    let pod = inputs.view.pod?;
    let previous = inputs.previous;
    if let Some(end) = inputs.view.end.filter(|end| end.rejected) {
        return Some(rejected(pod, previous, end));
    }
    let mut status = PodStatus {
        init_container_statuses: nonempty(containers::statuses(
            inputs,
            spec::init_containers(pod),
            previous.init_container_statuses.as_deref().unwrap_or_default(),
            Kind::Init,
        )),
        container_statuses: nonempty(containers::statuses(
            inputs,
            spec::containers(pod),
            previous.container_statuses.as_deref().unwrap_or_default(),
            Kind::Regular,
        )),
        start_time: Some(previous.start_time.clone().unwrap_or_else(|| api_time(inputs.view.now))),
        qos_class: Some(previous.qos_class.clone().unwrap_or_else(|| QosClass::of(pod).as_str().to_owned())),
        observed_generation: pod.metadata.generation,
        reason: previous.reason.clone(),
        message: previous.message.clone(),
        resource_claim_statuses: previous.resource_claim_statuses.clone(),
        ephemeral_container_statuses: nonempty(containers::statuses(
            inputs,
            &spec::ephemeral_containers(pod).iter().map(spec::as_container).collect::<Vec<_>>(),
            previous.ephemeral_container_statuses.as_deref().unwrap_or_default(),
            Kind::Ephemeral,
        )),
        nominated_node_name: previous.nominated_node_name.clone(),
        ..Default::default()
    };
    let stopped = matches!(inputs.view.stage, Stage::Terminated { .. } | Stage::Finished);
    if stopped {
        close_lost_containers(pod, &mut status);
    }
    // Reason and message come with the phase.
    if let Some(end) = inputs.view.end.filter(|_| stopped) {
        (status.reason, status.message) = (Some(end.reason.clone()), Some(end.message.clone()));
    }
    status.phase = Some(decide_phase(inputs, &status, stopped).to_owned());
    if status.phase.as_deref() == Some("Succeeded") {
        (status.reason, status.message) = (None, None);
    }
    addresses(inputs, &mut status);
    own_resources::put(pod, previous, inputs.view.resize.changed, &mut status);
    let sandbox_ready = inputs.view.observed.sandboxes.first().is_some_and(|s| {
        // Here the sandbox is made beside the volumes; upstream makes it after them, and the condition tells of both.
        let volumes = inputs.view.volumes != VolumeState::Missing || inputs.view.observed.containers.iter().any(|c| c.sandbox == s.id);
        s.ready && (s.host_network || !s.ips.is_empty()) && volumes
    });
    let restarting = anew::is_possible(pod).then(|| anew::is_under_way(&inputs.view, pod));
    let facts = Facts { sandbox_ready, restarting, resize: inputs.view.resize, resizing: resizing(&inputs.view, pod) };
    let mut all = conditions::conditions(pod, &status, previous, facts, inputs.view.now);
    all.extend(conditions::foreign_conditions(previous));
    if let Some(message) = inputs.view.end.and_then(|end| end.disruption.as_deref()) {
        conditions::add_disruption(&mut all, pod, message, inputs.view.now);
    }
    status.conditions = Some(all);
    Some(status)
}

/// An allocation is not in force yet, and what went wrong with the last try, if anything did.
fn resizing(view: &View, pod: &Pod) -> Option<Option<String>> {
    let under_way = view.stage.cause().is_none() && (view.resize.changed || !resize::due(view, pod).is_empty());
    under_way.then(|| view.memory.problems.get(&Subject::Resize).map(|problem| problem.message.clone()))
}

/// A pod that never ran here (upstream: `kubelet.go`, `rejectPod`).
fn rejected(pod: &Pod, previous: &PodStatus, end: &End) -> PodStatus {
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(end.reason.clone()),
        message: Some(end.message.clone()),
        qos_class: Some(previous.qos_class.clone().unwrap_or_else(|| QosClass::of(pod).as_str().to_owned())),
        observed_generation: pod.metadata.generation,
        ..previous.clone()
    }
}

/// The phase; once terminal it stays, and it turns terminal only when nothing runs any more, because controllers start a
/// replacement at that moment.
fn decide_phase(inputs: &Inputs, status: &PodStatus, stopped: bool) -> &'static str {
    match inputs.previous.phase.as_deref() {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    let pod = inputs.view.pod.expect("computed for pods with an object only");
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let regular = status.container_statuses.as_deref().unwrap_or_default();
    let now = match inputs.view.end {
        // Who had to make room may have ended well all the same, as upstream sees it.
        Some(end) if stopped && end.fails => "Failed",
        _ => phase::phase(pod, init, regular, stopped),
    };
    match (stopped, spec::is_terminal(now)) {
        (true, false) => "Failed",
        (false, true) => match inputs.previous.phase.as_deref() {
            Some("Running") => "Running",
            _ if regular.iter().any(has_begun) => "Running",
            _ => "Pending",
        },
        _ => now,
    }
}

fn has_begun(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
}

/// When a pod is down for good, containers whose end nobody saw count as failed: all regular ones once the pod has been initialized, and
/// init containers up to the last one that has begun (upstream: `status_manager.go`, `TerminatePod`).
fn close_lost_containers(pod: &Pod, status: &mut PodStatus) {
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let regular = status.container_statuses.as_deref().unwrap_or_default();
    let initialized = is_initialized(pod, init, regular);
    let reached = init.iter().rposition(spec::has_ever_run).map_or(1, |last| last + 1);
    if initialized {
        status.container_statuses.iter_mut().flatten().for_each(close);
    }
    status.init_container_statuses.iter_mut().flatten().take(reached).for_each(close);
}

fn close(c: &mut ContainerStatus) {
    if c.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        return;
    }
    c.state = Some(unseen_end("ContainerStatusUnknown", "The container could not be located when the pod was terminated", EXIT_UNKNOWN));
    c.ready = false;
    c.started = Some(false);
}

/// Whether regular containers could have begun (upstream: `status_manager.go`, `hasPodInitialized`).
fn is_initialized(pod: &Pod, init: &[ContainerStatus], regular: &[ContainerStatus]) -> bool {
    let Some(last) = spec::init_containers(pod).last() else { return true };
    let done = |c: &ContainerStatus| match spec::is_sidecar(last) {
        true => c.started == Some(true) && c.state.as_ref().is_some_and(|s| s.running.is_some()),
        false => [&c.state, &c.last_state].into_iter().flatten().filter_map(|s| s.terminated.as_ref()).any(|t| t.exit_code == 0),
    };
    regular.iter().any(spec::has_ever_run) || init.iter().find(|c| c.name == last.name).is_some_and(done)
}

/// Host and pod addresses. A pod on the host network has the node's; others have their sandbox's, in the order of the node's families.
fn addresses(inputs: &Inputs, status: &mut PodStatus) {
    let Some(pod) = inputs.view.pod else { return };
    let host = inputs.node_ips;
    status.host_ip = host.first().map(IpAddr::to_string);
    status.host_ips = nonempty(host.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
    let mut ips: Vec<IpAddr> = match inputs.view.observed.sandboxes.first() {
        Some(s) if s.ready && spec::host_network(pod) => host.to_vec(),
        Some(s) if s.ready => s.ips.clone(),
        _ => vec![],
    };
    if let Some(primary) = host.first() {
        ips.sort_by_key(|ip| ip.is_ipv4() != primary.is_ipv4());
    }
    if ips.is_empty() {
        // A pod that went down keeps the address that it had.
        status.pod_ip = inputs.previous.pod_ip.clone();
        status.pod_ips = inputs.previous.pod_ips.clone();
    } else {
        status.pod_ip = ips.first().map(IpAddr::to_string);
        status.pod_ips = Some(ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect());
    }
}

fn nonempty<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}
