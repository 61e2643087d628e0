//! What a change of status means: whether it is worth a call at once, and an event.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::writer::Urgency;

/// At once: a phase other than Pending, readiness, an address, a container that ran, ended or can't run, a resize. All else waits a moment for company.
pub fn urgency(old: &PodStatus, new: &PodStatus) -> Urgency {
    let phase = old.phase != new.phase && new.phase.as_deref() != Some("Pending");
    let now = phase || ready(old) != ready(new) || telling(old) != telling(new) || resizing(old) != resizing(new);
    if now { Urgency::Now } else { Urgency::Soon }
}

/// How far a resize is, on which somebody waits.
fn resizing(status: &PodStatus) -> Vec<(&str, Option<&str>)> {
    let conditions = status.conditions.iter().flatten().filter(|c| c.type_.starts_with("PodResize"));
    conditions.map(|c| (&*c.type_, c.reason.as_deref())).collect()
}

/// Containers that wait in a crash loop, and did not before, or for an earlier end.
pub fn new_crash_loops<'a>(old: &PodStatus, new: &'a PodStatus) -> impl Iterator<Item = &'a str> {
    let known: Vec<_> = telling(old).into_iter().filter(in_crash_loop).map(|(name, count, _)| (name.to_owned(), count)).collect();
    let now = telling(new).into_iter().filter(in_crash_loop);
    now.filter(move |(name, count, _)| !known.iter().any(|(n, c)| n == name && c == count)).map(|(name, ..)| name)
}

fn in_crash_loop(telling: &(&str, i32, &str)) -> bool {
    telling.2 == "CrashLoopBackOff"
}

fn ready(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// States of containers, those that only wait for their turn left out.
fn telling(status: &PodStatus) -> Vec<(&str, i32, &str)> {
    let lists = [status.container_statuses.as_deref(), status.init_container_statuses.as_deref()];
    lists.into_iter().flatten().flatten().filter_map(|c| state(c).map(|s| (&*c.name, c.restart_count, s))).collect()
}

fn state(c: &ContainerStatus) -> Option<&str> {
    let state = c.state.as_ref()?;
    if state.running.is_some() {
        return Some("");
    }
    if state.terminated.is_some() {
        return Some("ended");
    }
    let reason = state.waiting.as_ref()?.reason.as_deref()?;
    (!matches!(reason, "ContainerCreating" | "PodInitializing")).then_some(reason)
}
