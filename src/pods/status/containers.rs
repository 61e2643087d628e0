//! Container statuses (upstream: `kubelet_pods.go`, `convertToAPIContainerStatuses`).

use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    VolumeMountStatus,
};

use super::compute::Inputs;
use crate::model::clock::api_time;
use crate::pods::memory::Subject;
use crate::pods::plan::{View, anew, will_restart};
use crate::pods::{resize, spec};
use crate::runtime::{Container, ContainerPhase};

/// Reason of a container that was removed so that all of its pod's begin anew.
pub const RESTARTING_ALL: &str = "RestartingAllContainers";
/// What goes with it.
const REMOVED_TO_RESTART: &str = "The container is removed because RestartAllContainers in place";

/// Exit code for a container that ended unseen.
pub(super) const EXIT_UNKNOWN: i32 = 137;

/// Which of a pod's lists a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// initContainers.
    Init,
    /// containers.
    Regular,
    /// ephemeralContainers.
    Ephemeral,
}

/// Statuses of the given containers. `previous` are the last known ones of the same kind.
pub fn statuses(inputs: &Inputs, specs: &[Spec], previous: &[ContainerStatus], kind: Kind) -> Vec<ContainerStatus> {
    let mut list: Vec<_> = specs.iter().map(|c| status(inputs, c, previous.iter().find(|p| p.name == c.name), kind)).collect();
    if kind != Kind::Init {
        // Init containers keep the order of the spec; the others are sorted, so that a status never changes for its order alone.
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    list
}

fn status(inputs: &Inputs, spec: &Spec, previous: Option<&ContainerStatus>, kind: Kind) -> ContainerStatus {
    let init = kind == Kind::Init;
    // An instance counts from its start: one that is made and can't be started is removed again, and its number goes to the next one.
    let begun = |c: &&Container| *c.name == *spec.name && c.phase != ContainerPhase::Created;
    let mut records = inputs.view.observed.containers.iter().filter(begun);
    let newest = records.next();
    let before = records.find(|c| c.phase == ContainerPhase::Exited);
    let mut status = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        volume_mounts: volume_mounts(spec, inputs.view.observed.containers.iter().find(begun)),
        resources: spec.resources.clone(),
        allocated_resources: spec.resources.as_ref().and_then(|r| r.requests.clone()),
        // Nobody probes ephemeral containers, and nobody waits for them.
        started: (kind != Kind::Ephemeral).then_some(false),
        ..Default::default()
    };
    match newest {
        Some(record) => {
            from_record(inputs, &mut status, record);
            // A record that was told and is gone since (made, never started, removed) takes no restart back.
            status.restart_count = status.restart_count.max(previous.map_or(0, |p| p.restart_count));
            status.last_state = before.map(|c| terminated(inputs, c)).or_else(|| older_end(inputs, previous, record));
            if is_due(inputs, record) {
                status.resources = previous.and_then(|p| p.resources.clone()).or(status.resources.take());
            }
            if record.phase == ContainerPhase::Running && kind != Kind::Ephemeral {
                let verdict = inputs.view.verdict(spec, record);
                status.started = Some(verdict.started);
                status.ready = verdict.ready;
            }
        }
        None if kind != Kind::Ephemeral && begins_anew(inputs, previous) => removed_to_restart(&mut status, previous),
        None if init && !spec::is_sidecar(spec) && !has_ended(previous) && past_init(inputs) => done_long_ago(&mut status, previous),
        None => lost(inputs, &mut status, previous),
    }
    let ended = newest.filter(|c| c.phase == ContainerPhase::Exited);
    keep_known_ends(&mut status, previous);
    if let Some(waiting) = waiting(inputs, spec, newest) {
        if let Some(record) = ended {
            status.last_state = Some(terminated(inputs, record));
        }
        status.state = Some(ContainerState { waiting: Some(waiting), ..Default::default() });
    }
    if init && !spec::is_sidecar(spec) {
        // A regular init container is "ready" when it has done its work.
        let end = status.state.as_ref().and_then(|s| s.terminated.as_ref());
        status.ready = end.is_some_and(|t| t.exit_code == 0);
    }
    status
}

/// What is allocated to a running container is not in force yet: what it had is.
fn is_due(inputs: &Inputs, record: &Container) -> bool {
    inputs.view.pod.is_some_and(|pod| resize::due(&inputs.view, pod).iter().any(|due| due.id == record.id))
}

fn from_record(inputs: &Inputs, status: &mut ContainerStatus, record: &Container) {
    status.image = if record.image.is_empty() { status.image.clone() } else { record.image.clone() };
    status.image_id = record.image_id.clone();
    status.container_id = Some(api_id(inputs, record));
    status.restart_count = i32::try_from(record.restart_count).unwrap_or(i32::MAX);
    status.state = Some(match record.phase {
        ContainerPhase::Running => {
            ContainerState { running: Some(ContainerStateRunning { started_at: Some(api_time(record.started_at)) }), ..Default::default() }
        }
        ContainerPhase::Exited => terminated(inputs, record),
        ContainerPhase::Created | ContainerPhase::Unknown => {
            ContainerState { waiting: Some(ContainerStateWaiting::default()), ..Default::default() }
        }
    });
}

/// The container's id as the API writes it, with the runtime's name in front.
fn api_id(inputs: &Inputs, record: &Container) -> String {
    format!("{}://{}", inputs.runtime_name, record.id)
}

fn terminated(inputs: &Inputs, record: &Container) -> ContainerState {
    let message = [&record.message, &record.termination_message].into_iter().find(|m| !m.is_empty());
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(api_id(inputs, record)),
            exit_code: record.exit_code,
            reason: Some(record.reason.clone()).filter(|r| !r.is_empty()),
            message: message.cloned(),
            started_at: (record.started_at > 0).then(|| api_time(record.started_at)),
            finished_at: (record.finished_at > 0).then(|| api_time(record.finished_at)),
            signal: None,
        }),
        ..Default::default()
    }
}

/// The end of the instance before, as the API server remembers it when the runtime does not any more.
fn older_end(inputs: &Inputs, previous: Option<&ContainerStatus>, record: &Container) -> Option<ContainerState> {
    let previous = previous?;
    let is_this = previous.container_id.as_deref() == Some(&*api_id(inputs, record));
    let ended = |state: &Option<ContainerState>| state.clone().filter(|s| s.terminated.is_some());
    let own = if is_this { None } else { ended(&previous.state) };
    own.or_else(|| ended(&previous.last_state))
}

fn has_ended(previous: Option<&ContainerStatus>) -> bool {
    previous.and_then(|p| p.state.as_ref()).is_some_and(|s| s.terminated.is_some())
}

/// Regular containers exist in the pod's sandbox: its init containers are done, whoever has removed their records.
fn past_init(inputs: &Inputs) -> bool {
    let observed = inputs.view.observed;
    let regular = |c: &Container| inputs.view.pod.is_some_and(|pod| spec::containers(pod).iter().any(|s| *s.name == *c.name));
    observed.sandboxes.first().is_some_and(|s| observed.containers.iter().any(|c| c.sandbox == s.id && regular(c)))
}

/// An init container whose record is gone and whose work is known to be done (upstream: `kubelet_pods.go`, "Unable to get init container
/// status from container runtime and pod has been initialized, treat it as exited normally").
fn done_long_ago(status: &mut ContainerStatus, previous: Option<&ContainerStatus>) {
    status.restart_count = previous.map_or(0, |p| p.restart_count);
    let message = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally";
    status.state = Some(unseen_end("Completed", message, 0));
}

/// All containers begin anew, and this one was there.
fn begins_anew(inputs: &Inputs, previous: Option<&ContainerStatus>) -> bool {
    let was_there = previous.and_then(|p| p.state.as_ref()).is_some_and(|s| s.waiting.is_none());
    was_there && inputs.view.pod.is_some_and(|pod| anew::has_begun(&inputs.view, pod))
}

fn removed_to_restart(status: &mut ContainerStatus, previous: Option<&ContainerStatus>) {
    status.restart_count = previous.map_or(0, |p| p.restart_count).saturating_add(1);
    status.last_state = Some(unseen_end(RESTARTING_ALL, REMOVED_TO_RESTART, EXIT_UNKNOWN));
    let waiting = ContainerStateWaiting { reason: Some(RESTARTING_ALL.to_owned()), message: Some(REMOVED_TO_RESTART.to_owned()) };
    status.state = Some(ContainerState { waiting: Some(waiting), ..Default::default() });
}

/// An end that nobody saw.
pub(super) fn unseen_end(reason: &str, message: &str, exit_code: i32) -> ContainerState {
    let (reason, message) = (Some(reason.to_owned()), Some(message.to_owned()));
    ContainerState { terminated: Some(ContainerStateTerminated { reason, message, exit_code, ..Default::default() }), ..Default::default() }
}

/// A container that the runtime knows nothing of: not made yet, or gone unseen.
fn lost(inputs: &Inputs, status: &mut ContainerStatus, previous: Option<&ContainerStatus>) {
    let initializing = inputs.view.pod.is_some_and(|p| !spec::init_containers(p).is_empty());
    let reason = if initializing { "PodInitializing" } else { "ContainerCreating" };
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message: None };
    status.state = Some(ContainerState { waiting: Some(waiting), ..Default::default() });
    let Some(previous) = previous else { return };
    status.restart_count = previous.restart_count;
    status.last_state = previous.last_state.clone().filter(|s| s.terminated.is_some());
    let state = previous.state.as_ref();
    if state.is_some_and(|s| s.terminated.is_some()) {
        let resources = (status.resources.take(), status.allocated_resources.take());
        *status = previous.clone();
        (status.resources, status.allocated_resources) = resources;
    } else if state.is_some_and(|s| s.running.is_some()) {
        let message = "The container could not be located when the pod was deleted.  The container used to be Running";
        status.last_state = Some(unseen_end("ContainerStatusUnknown", message, EXIT_UNKNOWN));
        if !inputs.deleting {
            status.restart_count = status.restart_count.saturating_add(1);
        }
    }
}

/// Why a container waits, if it does: for its first start, or after an end that its policy doesn't leave at that.
fn waiting(inputs: &Inputs, spec: &Spec, newest: Option<&Container>) -> Option<ContainerStateWaiting> {
    let View { pod: Some(pod), memory, now, .. } = inputs.view else { return None };
    if inputs.view.stage.cause().is_some() || newest.is_some_and(|c| c.phase == ContainerPhase::Running) {
        return None;
    }
    if let Some(record) = newest.filter(|c| c.phase == ContainerPhase::Exited) {
        if !will_restart(pod, memory, record) {
            return None;
        }
        if memory.crash_loop_until(&spec.name, record.finished_at, now).is_some() {
            let delay = memory.crash_loop_delay(&spec.name).unwrap_or_default();
            let message = format!(
                "back-off {} restarting failed container={} pod={}_{}({})",
                crate::config::duration::format(delay),
                spec.name,
                pod.metadata.name.as_deref().unwrap_or_default(),
                pod.metadata.namespace.as_deref().unwrap_or_default(),
                pod.metadata.uid.as_deref().unwrap_or_default()
            );
            return Some(ContainerStateWaiting { reason: Some("CrashLoopBackOff".to_owned()), message: Some(message) });
        }
    }
    let problem = memory.problems.get(&Subject::Container(spec.name.clone()))?;
    Some(ContainerStateWaiting { reason: Some(problem.reason.clone()), message: Some(problem.message.clone()) })
}

/// The end of an instance is told once; a later look may know less of it, as its termination message goes with the pod's directory.
fn keep_known_ends(status: &mut ContainerStatus, previous: Option<&ContainerStatus>) {
    let Some(previous) = previous else { return };
    let ends = [previous.state.as_ref(), previous.last_state.as_ref()];
    for state in [status.state.as_mut(), status.last_state.as_mut()].into_iter().flatten() {
        let Some(end) = state.terminated.as_mut().filter(|t| t.message.is_none()) else { continue };
        let known = ends.iter().flatten().filter_map(|s| s.terminated.as_ref()).find(|t| t.container_id == end.container_id);
        if let Some(known) = known {
            end.message.clone_from(&known.message);
        }
    }
}

fn volume_mounts(spec: &Spec, newest: Option<&Container>) -> Option<Vec<VolumeMountStatus>> {
    let recursive = |path: &String| match newest.is_some_and(|record| record.recursive_read_only.contains(path)) {
        true => "Enabled".to_owned(),
        false => "Disabled".to_owned(),
    };
    let mounts = spec.volume_mounts.as_ref()?.iter().map(|m| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only,
        recursive_read_only: m.read_only.filter(|r| *r).map(|_| recursive(&m.mount_path)),
        ..Default::default()
    });
    Some(mounts.collect())
}
