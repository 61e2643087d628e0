//! Pod conditions that the node owns (upstream: `pkg/kubelet/status/generate.go`).

use std::fmt::Write;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use crate::model::clock::api_time;
use crate::pods::plan::anew;
use crate::pods::resize::Resize;
use crate::pods::spec;

/// Types that the node writes; others belong to somebody else and are never touched.
pub const OWNED: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    anew::CONDITION,
    "PodResizePending",
    "PodResizeInProgress",
];

/// What conditions depend on beside the status.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// There is a ready sandbox with its network.
    pub sandbox_ready: bool,
    /// All containers begin anew; `None` for a pod whose never do.
    pub restarting: Option<bool>,
    /// What the pod may use.
    pub resize: &'a Resize,
    /// New limits are on their way, and what went wrong with them.
    pub resizing: Option<Option<String>>,
}

/// Conditions that somebody else writes.
pub fn foreign_conditions(status: &PodStatus) -> Vec<PodCondition> {
    status.conditions.iter().flatten().filter(|c| !OWNED.contains(&&*c.type_)).cloned().collect()
}

/// Puts somebody else's conditions in the place of those known before.
pub fn replace_foreign_conditions(status: &mut PodStatus, foreign: Vec<PodCondition>) {
    let list = status.conditions.get_or_insert_default();
    list.retain(|c| OWNED.contains(&&*c.type_));
    list.extend(foreign);
}

/// What one condition says.
struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn holds() -> Self {
        Self { holds: true, reason: None, message: None }
    }
    fn fails(reason: &'static str, message: impl Into<Option<String>>) -> Self {
        Self { holds: false, reason: Some(reason), message: message.into() }
    }
}

/// All owned conditions.
pub fn conditions(pod: &Pod, status: &PodStatus, previous: &PodStatus, facts: Facts, now: i64) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or_default();
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let regular = status.container_statuses.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(pod, phase, init, regular);
    let ready = match containers_ready.holds {
        true => readiness_gates(pod, previous),
        false => Verdict { holds: false, reason: containers_ready.reason, message: containers_ready.message.clone() },
    };
    let verdicts = [
        Some(Verdict { holds: facts.sandbox_ready, reason: None, message: None }),
        Some(initialized(pod, phase, init, regular)),
        Some(ready),
        Some(containers_ready),
        Some(Verdict::holds()),
        facts.restarting.map(|restarting| begins_anew(phase, restarting)),
        facts.resize.pending.clone().map(|p| Verdict { holds: true, reason: Some(p.reason), message: Some(p.message) }),
        facts.resizing.map(|error| Verdict { holds: true, reason: error.is_some().then_some("Error"), message: error }),
    ];
    OWNED.iter().zip(verdicts).filter_map(|(kind, verdict)| Some(condition(kind, verdict?, pod, previous, now))).collect()
}

/// The node ends the pod for its own reasons. Others may have said so before (KEP-3329).
pub fn add_disruption(all: &mut Vec<PodCondition>, pod: &Pod, message: &str, now: i64) {
    let (kind, reason) = ("DisruptionTarget", "TerminationByKubelet");
    if all.iter().any(|c| c.type_ == kind && c.status == "True" && c.reason.as_deref() == Some(reason)) {
        return;
    }
    all.retain(|c| c.type_ != kind);
    let verdict = Verdict { holds: true, reason: Some(reason), message: Some(message.to_owned()) };
    all.push(condition(kind, verdict, pod, &PodStatus::default(), now));
}

/// Whether all containers begin anew.
fn begins_anew(phase: &str, restarting: bool) -> Verdict {
    match terminal(phase) {
        Some(verdict) => verdict,
        None if restarting => Verdict {
            holds: true,
            reason: Some("RestartAllContainersStarted"),
            message: Some("container exited with restart policy rule".to_owned()),
        },
        None => Verdict { holds: false, reason: None, message: None },
    }
}

/// A condition keeps the time of its last transition as long as its status stays.
fn condition(kind: &str, verdict: Verdict, pod: &Pod, previous: &PodStatus, now: i64) -> PodCondition {
    let word = if verdict.holds { "True" } else { "False" };
    let old = previous.conditions.iter().flatten().find(|c| c.type_ == kind);
    let since = old.filter(|c| c.status == word).and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: word.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: Some(since.unwrap_or_else(|| api_time(now))),
        observed_generation: pod.metadata.generation,
        ..Default::default()
    }
}

fn terminal(phase: &str) -> Option<Verdict> {
    match phase {
        "Succeeded" => Some(Verdict::fails("PodCompleted", None)),
        "Failed" => Some(Verdict::fails("PodFailed", None)),
        _ => None,
    }
}

fn containers_ready(pod: &Pod, phase: &str, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Verdict {
    if let Some(verdict) = terminal(phase) {
        return verdict;
    }
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c)).map(|c| (c, init));
    let all = sidecars.chain(spec::containers(pod).iter().map(|c| (c, regular)));
    let (unready, unknown) = sort_out(all.map(|(c, list)| (&*c.name, list.iter().find(|s| s.name == c.name).map(|s| s.ready))));
    verdict_of(&unready, &unknown, "unready", "ContainersNotReady")
}

fn initialized(pod: &Pod, phase: &str, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { holds: true, reason: Some("PodCompleted"), message: None };
    }
    if regular.iter().any(spec::has_ever_run) {
        return Verdict::holds();
    }
    let done = spec::init_containers(pod).iter().map(|c| {
        let status = init.iter().find(|s| s.name == c.name);
        (&*c.name, status.map(|s| if spec::is_sidecar(c) { s.started.unwrap_or(false) } else { s.ready }))
    });
    let (incomplete, unknown) = sort_out(done);
    verdict_of(&incomplete, &unknown, "incomplete", "ContainersNotInitialized")
}

/// Names whose answer is no, and names without an answer.
fn sort_out<'a>(answers: impl Iterator<Item = (&'a str, Option<bool>)>) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut no, mut unknown) = (vec![], vec![]);
    for (name, answer) in answers {
        match answer {
            Some(true) => {}
            Some(false) => no.push(name),
            None => unknown.push(name),
        }
    }
    (no, unknown)
}

fn verdict_of(bad: &[&str], unknown: &[&str], word: &str, reason: &'static str) -> Verdict {
    let mut message = String::new();
    if !unknown.is_empty() {
        let _ = write!(message, "containers with unknown status: [{}]", unknown.join(" "));
    }
    if !bad.is_empty() {
        let comma = if message.is_empty() { "" } else { ", " };
        let _ = write!(message, "{comma}containers with {word} status: [{}]", bad.join(" "));
    }
    if message.is_empty() { Verdict::holds() } else { Verdict::fails(reason, message) }
}

/// Conditions that others must set before the pod counts as ready (KEP-580).
fn readiness_gates(pod: &Pod, previous: &PodStatus) -> Verdict {
    let gates = pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten());
    let problems: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match previous.conditions.iter().flatten().find(|c| c.type_ == *kind) {
                None => Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
                Some(c) if c.status != "True" => {
                    Some(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", c.status))
                }
                Some(_) => None,
            }
        })
        .collect();
    if problems.is_empty() { Verdict::holds() } else { Verdict::fails("ReadinessGatesNotReady", problems.join(", ")) }
}
