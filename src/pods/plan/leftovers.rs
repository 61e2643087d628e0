//! What must go before anything can start: what lives outside the current sandbox, was made from another definition, or is in no known state.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::sync::newest;
use super::{Action, Plan, View, Why, order};
use crate::model::hash::container_hash;
use crate::pods::memory::wait;
use crate::pods::{resize, restarts, spec};
use crate::runtime::{Container, ContainerPhase, Sandbox};

/// How long a container that was made may take to start before it counts as left behind.
const START_TIME: Duration = Duration::from_secs(3);

/// Stops what lives outside the current sandbox, containers whose definition changed, and containers in no known state.
pub(super) fn stop(view: &View, pod: &Pod, current: Option<&Sandbox>, plan: &mut Plan) {
    let grace = Duration::from_secs(spec::grace_period(pod));
    let due = resize::due(view, pod);
    for c in &view.observed.containers {
        let (why, grace) = match c.phase {
            ContainerPhase::Running if current.is_none_or(|s| s.id != c.sandbox) => (Why::SandboxChanged, grace),
            ContainerPhase::Unknown => (Why::UnknownState, grace),
            ContainerPhase::Running if changed(pod, c) => (Why::DefinitionChanged, grace),
            // Several live instances of one container: only the newest is kept.
            ContainerPhase::Running if newest(view, &c.name).is_some_and(|n| n.id != c.id) => (Why::NewerInstance, grace),
            ContainerPhase::Running if due.iter().any(|due| due.restart && due.id == c.id) => (Why::Resized, grace),
            ContainerPhase::Running => match failed_probe(view, pod, c) {
                Some((why, own)) => (why, own.unwrap_or(grace)),
                None => continue,
            },
            ContainerPhase::Created => {
                // Made but not started: the agent or the runtime ended in between. Starting over is simpler than finding out
                // with which configuration it was made. But the runtime may still be at a start that an agent before this one asked for.
                match wait(c.created_at, START_TIME, view.now) {
                    Some(give_up_at) => plan.wait(give_up_at),
                    None => plan.actions.push(Action::RemoveContainer(c.id.clone())),
                }
                continue;
            }
            ContainerPhase::Exited => continue,
        };
        plan.actions.push(Action::stop(view, c, grace, why));
    }
    if current.is_none() {
        order::set(pod, &mut plan.actions);
    }
    if current.is_none() && plan.actions.is_empty() {
        let ready = view.observed.sandboxes.iter().filter(|s| s.ready);
        plan.actions.extend(ready.map(|s| Action::StopSandbox(s.id.clone())));
    }
}

/// A container in the spec whose running instance was made from another definition. Ephemeral containers never change.
fn changed(pod: &Pod, record: &Container) -> bool {
    let mut specs = spec::containers(pod).iter().chain(spec::init_containers(pod));
    specs.find(|c| *c.name == *record.name).is_some_and(|c| !record.hash.is_empty() && record.hash != container_hash(c))
}

/// A probe that has failed too often, and its own grace period. The container starts again unless nothing of its kind ever does.
fn failed_probe(view: &View, pod: &Pod, record: &Container) -> Option<(Why, Option<Duration>)> {
    let container = spec::container(pod, &record.name)?;
    let (probe, grace) = view.verdict(container, record).failed?;
    // Rules are about exit codes, and there is none yet.
    let restarts = restarts::policy(pod, container) != spec::RestartPolicy::Never;
    Some((Why::FailedProbe { probe, restarts }, grace))
}
