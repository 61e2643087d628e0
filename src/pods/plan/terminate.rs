//! The way down: stop containers, stop sandboxes, release volumes and cgroup, remove records.

use std::time::Duration;

use super::{Action, Plan, View, Why, order};
use crate::pods::memory::Subject;
use crate::pods::stage::Cause;
use crate::runtime::ContainerPhase;

/// Stops what runs.
pub fn stop(view: &View, grace: Duration) -> Plan {
    let mut plan = Plan::default();
    if let Some(at) = view.memory.waits_until(&Subject::Stop, view.now) {
        plan.wait(at);
        return plan;
    }
    let alive = view.observed.containers.iter().filter(|c| is_alive(c.phase));
    plan.actions.extend(alive.map(|c| Action::stop(view, c, grace, Why::Stopping)));
    if let Some(pod) = view.pod {
        order::set(pod, &mut plan.actions);
    }
    if plan.actions.is_empty() {
        // A sandbox that isn't ready may still hold network state, but the runtime gives that back when it is removed.
        plan.actions.extend(view.observed.sandboxes.iter().filter(|s| s.ready).map(|s| Action::StopSandbox(s.id.clone())));
        if !plan.actions.is_empty() {
            plan.actions.push(Action::Unmount);
        }
    }
    plan
}

/// Whether the runtime shows that nothing of the pod runs.
pub fn is_down(view: &View) -> bool {
    !view.observed.containers.iter().any(|c| is_alive(c.phase)) && !view.observed.sandboxes.iter().any(|s| s.ready)
}

/// Whether a container in this phase must be stopped.
pub fn is_alive(phase: ContainerPhase) -> bool {
    matches!(phase, ContainerPhase::Running | ContainerPhase::Unknown)
}

/// Gives back volumes and cgroup; once the object is gone, removes the runtime's records too.
pub fn release(view: &View, cause: Cause, released: bool) -> Plan {
    let mut plan = Plan::default();
    if let Some(at) = view.memory.waits_until(&Subject::Stop, view.now) {
        plan.wait(at);
        return plan;
    }
    if !released {
        plan.actions.push(Action::Release);
    } else if cause == Cause::Gone {
        plan.actions.extend(view.observed.sandboxes.iter().map(|s| Action::RemoveSandbox(s.id.clone())));
        let orphans = view.observed.containers.iter().filter(|c| !view.observed.sandboxes.iter().any(|s| s.id == c.sandbox));
        plan.actions.extend(orphans.map(|c| Action::RemoveContainer(c.id.clone())));
    }
    plan
}
