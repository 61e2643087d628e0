//! Beginning anew: an exit that a rule speaks of has all containers of the pod stopped and removed, and started again from the first init
//! container on, in the same sandbox with the same volumes (KEP-5532; upstream: `computePodActions`, `getContainersToReset`).

use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use super::sync::newest;
use super::{Action, Reset, View, is_alive};
use crate::pods::status::RESTARTING_ALL;
use crate::pods::{restarts, spec};
use crate::runtime::{Container, ContainerPhase};

/// The condition that says so in the API, which outlives the records of the exit.
pub const CONDITION: &str = "AllContainersRestarting";

/// Whether a rule of the pod could ask for it.
pub fn is_possible(pod: &Pod) -> bool {
    lasting(pod).any(|c| c.restart_policy_rules.iter().flatten().any(|rule| rule.action == "RestartAllContainers"))
}

/// Whether the pod has begun to: as the API was told, or by an exit that the runtime still knows of.
pub fn has_begun(view: &View, pod: &Pod) -> bool {
    is_possible(pod)
        && view.stage.cause().is_none()
        && (is_told(view) || lasting(pod).any(|c| newest(view, &c.name).is_some_and(|r| is_source(c, r))))
}

/// Whether records are left that must go before it is over.
pub fn is_under_way(view: &View, pod: &Pod) -> bool {
    has_begun(view, pod) && view.observed.containers.iter().any(|r| of(pod, r).is_some())
}

/// Whether a container is missing because it was removed to begin anew.
pub fn was_removed(view: &View, name: &str) -> bool {
    let last = spec::container_status(view.status, name).and_then(|s| s.last_state.as_ref()?.terminated.as_ref());
    last.is_some_and(|end| end.reason.as_deref() == Some(RESTARTING_ALL))
}

/// What goes, in order: those whose exits asked for it last, so that an agent that is killed in between still sees why.
pub(super) fn reset(view: &View, pod: &Pod) -> Action {
    let of_kind = |specs: &[Spec], sources: bool| -> Vec<Reset> {
        let with_records = specs.iter().flat_map(|c| view.observed.containers.iter().filter(|r| *r.name == *c.name).map(move |r| (c, r)));
        let chosen = with_records.filter(|(c, r)| is_source(c, r) == sources);
        chosen.map(|(c, r)| Reset { id: r.id.clone(), name: c.name.clone(), stop: is_alive(r.phase) }).collect()
    };
    let (regular, init) = (spec::containers(pod), spec::init_containers(pod));
    Action::ResetContainers([of_kind(regular, false), of_kind(init, false), of_kind(regular, true), of_kind(init, true)].concat())
}

fn is_told(view: &View) -> bool {
    view.status.conditions.iter().flatten().any(|c| c.type_ == CONDITION && c.status == "True")
}

fn is_source(container: &Spec, record: &Container) -> bool {
    record.phase == ContainerPhase::Exited && restarts::restarts_all(container, record.exit_code)
}

fn lasting(pod: &Pod) -> impl Iterator<Item = &Spec> {
    spec::init_containers(pod).iter().chain(spec::containers(pod))
}

fn of<'a>(pod: &'a Pod, record: &Container) -> Option<&'a Spec> {
    spec::container(pod, &record.name)
}
