//! The way up: volumes, sandbox, init containers, containers (upstream: `kuberuntime_manager.go`, `computePodActions`).

use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use super::{Action, Plan, Start, View, VolumeState, anew, is_alive, leftovers};
use crate::pods::memory::{Memory, Subject};
use crate::pods::{resize, restarts, spec};
use crate::runtime::{Container, ContainerPhase, Sandbox};

/// Plans for a pod that shall run.
pub fn plan(view: &View, pod: &Pod) -> Plan {
    let mut plan = Plan::default();
    let current = usable_sandbox(view, pod);
    leftovers::stop(view, pod, current, &mut plan);
    let stop_again_at = view.memory.waits_until(&Subject::Stop, view.now);
    if plan.actions.is_empty() && current.is_some() && anew::is_under_way(view, pod) {
        plan.actions.push(anew::reset(view, pod));
    }
    if !plan.actions.is_empty() {
        if let Some(at) = stop_again_at {
            plan.actions.clear();
            plan.wait(at);
        }
        return plan;
    }
    if current.is_none() && !wants_sandbox(view, pod) {
        return plan;
    }
    if view.volumes != VolumeState::Ready {
        match view.memory.waits_until(&Subject::Volumes, view.now) {
            Some(at) => plan.wait(at),
            None => plan.actions.push(Action::SetUpVolumes),
        }
    }
    let Some(sandbox) = current else {
        match view.memory.waits_until(&Subject::Sandbox, view.now) {
            Some(at) => plan.wait(at),
            None => {
                let attempt = view.observed.sandboxes.iter().map(|s| s.attempt.saturating_add(1)).max().unwrap_or(0);
                plan.actions.push(Action::RunSandbox { attempt });
                plan.actions.push(Action::PrepareImages { names: first_container(pod), attempt });
            }
        }
        return plan;
    };
    let usable = match view.volumes {
        VolumeState::Ready => true,
        // A refresh comes first; when it fails, such as for a ConfigMap that was deleted, containers start with what is there.
        VolumeState::Stale => view.memory.problems.contains_key(&Subject::Volumes),
        VolumeState::Missing => false,
    };
    if !usable {
        return plan;
    }
    resize(view, pod, &mut plan);
    let ready = init_containers(view, pod, sandbox, &mut plan);
    if ready {
        regular_containers(view, pod, sandbox, &mut plan);
    }
    ephemeral_containers(view, pod, &mut plan);
    let mut dead = dead_containers(view).chain(dead_sandboxes(view)).peekable();
    match stop_again_at {
        None => plan.actions.extend(dead),
        Some(at) if dead.peek().is_some() => plan.wait(at),
        Some(_) => {}
    }
    plan
}

/// New limits, in force without a restart.
fn resize(view: &View, pod: &Pod, plan: &mut Plan) {
    let due: Vec<_> = resize::due(view, pod).into_iter().filter(|due| !due.restart).collect();
    if due.is_empty() && !view.resize.changed {
        return;
    }
    match view.memory.waits_until(&Subject::Resize, view.now) {
        Some(at) => plan.wait(at),
        None => plan.actions.push(Action::Resize(due)),
    }
}

/// Whether every container has ended for good, so that the pod goes down by itself.
pub fn finished(view: &View, pod: &Pod) -> bool {
    if init_failed(view, pod) || stranded(view, pod) {
        return true;
    }
    let containers = spec::containers(pod);
    !containers.is_empty()
        && containers.iter().all(|c| match newest(view, &c.name) {
            Some(r) => r.phase == ContainerPhase::Exited && !will_restart(pod, view.memory, r),
            None => gone_for_good(view, pod, c),
        })
}

/// The runtime has forgotten a container that has run, in a pod that restarts nothing.
fn gone_for_good(view: &View, pod: &Pod, container: &Spec) -> bool {
    restarts::policy(pod, container) == spec::RestartPolicy::Never
        && spec::has_begun(view.status, &container.name)
        && !anew::was_removed(view, &container.name)
}

/// An init container has failed that is not tried again.
fn init_failed(view: &View, pod: &Pod) -> bool {
    let failed = |r: &Container| r.phase == ContainerPhase::Exited && r.exit_code != 0 && !will_restart(pod, view.memory, r);
    spec::init_containers(pod).iter().filter(|c| !spec::is_sidecar(c)).any(|c| newest(view, &c.name).is_some_and(failed))
}

/// The sandbox of a pod that restarts nothing is gone, and some of its containers have run: those that have not never will. (Upstream
/// leaves such a pod as it is until somebody deletes it.)
fn stranded(view: &View, pod: &Pod) -> bool {
    has_run(view, pod)
        && spec::restart_policy(pod) == spec::RestartPolicy::Never
        && usable_sandbox(view, pod).is_none()
        && !view.observed.containers.iter().any(|c| is_alive(c.phase))
}

/// Whether a regular container was ever started, as far as the runtime or the status remembers.
fn has_run(view: &View, pod: &Pod) -> bool {
    let in_runtime = |name: &str| newest(view, name).is_some_and(|r| r.phase != ContainerPhase::Created);
    spec::containers(pod).iter().any(|c| in_runtime(&c.name) || spec::has_begun(view.status, &c.name))
}

/// The sandbox that containers may live in: the newest one, ready, the only ready one, with the wanted network and an address.
fn usable_sandbox<'a>(view: &View<'a>, pod: &Pod) -> Option<&'a Sandbox> {
    let newest = view.observed.sandboxes.first()?;
    let host = spec::host_network(pod);
    let alone = view.observed.sandboxes.iter().filter(|s| s.ready).count() == 1;
    (newest.ready && alone && newest.host_network == host && (host || !newest.ips.is_empty())).then_some(newest)
}

/// Whether a sandbox is worth making: for the first time, or for containers that will be started in it.
fn wants_sandbox(view: &View, pod: &Pod) -> bool {
    if view.observed.sandboxes.is_empty() {
        return true;
    }
    if spec::restart_policy(pod) == spec::RestartPolicy::Never && has_run(view, pod) {
        return false;
    }
    spec::containers(pod)
        .iter()
        .any(|c| newest(view, &c.name).is_none_or(|r| r.phase != ContainerPhase::Exited || will_restart(pod, view.memory, r)))
}

/// The container that is started first in a new sandbox: no other one's image is waited for.
fn first_container(pod: &Pod) -> Vec<String> {
    let mut all = spec::init_containers(pod).iter().chain(spec::containers(pod));
    all.next().map(|c| c.name.clone()).into_iter().collect()
}

/// Walks the init containers in order. Says whether all are done, so that the regular ones may start.
fn init_containers(view: &View, pod: &Pod, sandbox: &Sandbox, plan: &mut Plan) -> bool {
    let init = spec::init_containers(pod);
    // Records of init containers may be gone while a regular container exists: then they were done before it.
    let past_init = spec::containers(pod).iter().any(|c| newest(view, &c.name).is_some_and(|r| r.sandbox == sandbox.id));
    let known = |c: &Spec| newest(view, &c.name).filter(|r| r.sandbox == sandbox.id);
    // And so may those of the first ones while a later one exists.
    let reached = init.iter().rposition(|c| known(c).is_some()).unwrap_or(0);
    for (index, c) in init.iter().enumerate() {
        let record = known(c);
        let sidecar = spec::is_sidecar(c);
        match record.map(|r| (r.phase, r.exit_code)) {
            Some((ContainerPhase::Running, _)) if sidecar => {
                // The next one waits until this one is started.
                if !past_init && record.is_some_and(|r| !view.verdict(c, r).started) {
                    return false;
                }
            }
            Some((ContainerPhase::Running | ContainerPhase::Created | ContainerPhase::Unknown, _)) => return past_init,
            Some((ContainerPhase::Exited, 0)) if !sidecar => {}
            _ if past_init && !sidecar => {}
            None if index < reached && !sidecar => {}
            Some((ContainerPhase::Exited, _)) if !sidecar && record.is_some_and(|r| !will_restart(pod, view.memory, r)) => return false,
            _ => {
                start(view, c, plan);
                if !past_init {
                    return false;
                }
            }
        }
    }
    true
}

fn regular_containers(view: &View, pod: &Pod, sandbox: &Sandbox, plan: &mut Plan) {
    for c in spec::containers(pod) {
        let wanted = match newest(view, &c.name) {
            None => !gone_for_good(view, pod, c),
            Some(r) if r.phase != ContainerPhase::Exited => false,
            Some(r) if r.sandbox == sandbox.id => will_restart(pod, view.memory, r),
            // A new sandbox starts all containers again but those that a policy of OnFailure holds for done.
            Some(r) => restarts::policy(pod, c) != spec::RestartPolicy::OnFailure || r.exit_code != 0,
        };
        if wanted {
            start(view, c, plan);
        }
    }
}

/// Ephemeral containers start whenever they come, beside all others, and once.
fn ephemeral_containers(view: &View, pod: &Pod, plan: &mut Plan) {
    for c in spec::ephemeral_containers(pod).iter().filter(|c| newest(view, &c.name).is_none() && !spec::has_begun(view.status, &c.name)) {
        let mut own = Plan::default();
        start(view, &spec::as_container(c), &mut own);
        plan.actions.append(&mut own.actions);
        if let Some(at) = own.wake_at {
            plan.wait(at);
        }
    }
}

/// Starts a container now, or notes when it may be started.
fn start(view: &View, c: &Spec, plan: &mut Plan) {
    let last = newest(view, &c.name);
    let after_crash = last.and_then(|r| view.memory.crash_loop_until(&c.name, r.finished_at, view.now));
    let after_problem = view.memory.waits_until(&Subject::Container(c.name.clone()), view.now);
    if let Some(at) = after_crash.max(after_problem) {
        plan.wait(at);
        return;
    }
    let start = Start {
        name: c.name.clone(),
        restart_count: last.map_or_else(|| spec::lost_restarts(view.status, &c.name), |r| r.restart_count.saturating_add(1)),
        previous_exit: last.map(|r| r.finished_at),
    };
    match plan.actions.iter_mut().find_map(|a| if let Action::StartContainers(list) = a { Some(list) } else { None }) {
        Some(list) => list.push(start),
        None => plan.actions.push(Action::StartContainers(vec![start])),
    }
}

/// Whether a container starts again after this end: by its rules and policies, or because it was stopped for that.
pub fn will_restart(pod: &Pod, memory: &Memory, record: &Container) -> bool {
    match memory.decided.get(&record.id) {
        Some(replaced) => *replaced,
        None => spec::container(pod, &record.name).is_some_and(|c| restarts::restarts(pod, c, record.exit_code)),
    }
}

/// The newest record of a container.
pub(super) fn newest<'a>(view: &View<'a>, name: &str) -> Option<&'a Container> {
    view.observed.containers.iter().find(|c| &*c.name == name)
}

/// Sandboxes that are down and empty; the newest one stays (`kuberuntime_gc.go`, `evictSandboxes`).
fn dead_sandboxes<'a>(view: &'a View<'a>) -> impl Iterator<Item = Action> + 'a {
    let empty = |s: &&Sandbox| !view.observed.containers.iter().any(|c| c.sandbox == s.id);
    view.observed.sandboxes.iter().skip(1).filter(|s| !s.ready).filter(empty).map(|s| Action::RemoveSandbox(s.id.clone()))
}

/// Ended instances beyond the newest ended one of each container: nobody asks for them (`--maximum-dead-containers-per-container` 1).
fn dead_containers<'a>(view: &'a View<'a>) -> impl Iterator<Item = Action> + 'a {
    view.observed
        .containers
        .iter()
        .enumerate()
        .filter(|(i, c)| {
            let newer_dead = |(j, o): (usize, &Container)| j < *i && o.name == c.name && o.phase == ContainerPhase::Exited;
            c.phase == ContainerPhase::Exited && view.observed.containers.iter().enumerate().any(newer_dead)
        })
        .map(|(_, c)| Action::RemoveContainer(c.id.clone()))
}
