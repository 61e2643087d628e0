use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::*;
use crate::model::PodRef;
use crate::pods::fixture::*;
use crate::pods::memory::{Memory, Subject};
use crate::pods::plan::View;
use crate::pods::probes::Verdicts;
use crate::pods::stage::{Cause, End, Stage};
use crate::pods::status::writer::Urgency;
use crate::runtime::ObservedPod;

struct Case {
    pod: Pod,
    observed: ObservedPod,
    stage: Stage,
    verdicts: Verdicts,
    end: Option<End>,
    memory: Memory,
    previous: PodStatus,
    now: i64,
}

impl Case {
    fn new(pod: Pod, observed: ObservedPod) -> Self {
        Self {
            pod,
            observed,
            stage: Stage::Syncing,
            verdicts: Verdicts::default(),
            end: None,
            memory: Memory::default(),
            previous: PodStatus::default(),
            now: 100 * S,
        }
    }
    fn status(&self) -> PodStatus {
        let view = View {
            pod: Some(&self.pod),
            status: &self.previous,
            stage: self.stage,
            observed: &self.observed,
            volumes: crate::pods::plan::VolumeState::Ready,
            verdicts: &self.verdicts,
            end: self.end.as_ref(),
            resize: &crate::pods::resize::NONE,
            memory: &self.memory,
            now: self.now,
        };
        let node_ips = ["192.168.0.1".parse().expect("an address")];
        let deleting = self.stage != Stage::Syncing;
        compute(&Inputs { view, previous: &self.previous, node_ips: &node_ips, runtime_name: "containerd", deleting }).expect("a pod")
    }
    fn phase(&self) -> String {
        self.status().phase.expect("a phase")
    }
}

fn up(containers: Vec<crate::runtime::Container>) -> ObservedPod {
    seen(vec![sandbox(0)], containers)
}

fn condition(status: &PodStatus, kind: &str) -> (String, String, String) {
    let c = status.conditions.iter().flatten().find(|c| c.type_ == kind).expect("the condition");
    (c.status.clone(), c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default())
}

fn waiting(c: &ContainerStatus) -> (&str, &str) {
    let w = c.state.as_ref().and_then(|s| s.waiting.as_ref()).expect("waiting");
    (w.reason.as_deref().unwrap_or_default(), w.message.as_deref().unwrap_or_default())
}

fn only(status: &PodStatus) -> &ContainerStatus {
    &status.container_statuses.as_ref().expect("containers")[0]
}

#[test]
fn phases() {
    let never = || pod("Never", &["a", "b"]);
    let always = || pod("Always", &["a", "b"]);
    for (name, case, expected) in [
        ("nothing yet", Case::new(always(), nothing()), "Pending"),
        ("one of two", Case::new(always(), up(vec![running("a", 0)])), "Pending"),
        ("both", Case::new(always(), up(vec![running("a", 0), running("b", 0)])), "Running"),
        ("one crashed, again soon", Case::new(always(), up(vec![running("a", 0), exited("b", 0, 1)])), "Running"),
        ("all crashed, again soon", Case::new(always(), up(vec![exited("a", 0, 1), exited("b", 0, 1)])), "Running"),
        ("done, but not yet down", Case::new(never(), up(vec![exited("a", 0, 0), exited("b", 0, 0)])), "Running"),
    ] {
        assert_eq!(case.phase(), expected, "{name}");
    }
    for (policy, codes, expected) in [("Never", (0, 0), "Succeeded"), ("Never", (0, 1), "Failed"), ("Always", (0, 0), "Succeeded")] {
        let mut case = Case::new(pod(policy, &["a", "b"]), up(vec![exited("a", 0, codes.0), exited("b", 0, codes.1)]));
        case.stage = Stage::Terminated { cause: Cause::Completed, released: false };
        assert_eq!(case.phase(), expected, "{policy} {codes:?}");
    }
    let mut case = Case::new(always(), nothing());
    case.stage = Stage::Terminated { cause: Cause::Deleted, released: false };
    assert_eq!(case.phase(), "Failed", "a pod that never ran did not succeed");
    case.previous.phase = Some("Succeeded".into());
    assert_eq!(case.phase(), "Succeeded", "terminal phases never change");
}

#[test]
fn init_containers_keep_a_pod_pending() {
    let with_init = |policy| pod_with_init(policy, &["i"], &["a"]);
    let case = Case::new(with_init("Always"), up(vec![running("i", 0)]));
    assert_eq!(case.phase(), "Pending");
    let status = case.status();
    assert_eq!(waiting(only(&status)).0, "PodInitializing");
    let expected = ("False".into(), "ContainersNotInitialized".into(), "containers with incomplete status: [i]".into());
    assert_eq!(condition(&status, "Initialized"), expected);
    let done = Case::new(with_init("Always"), up(vec![running("a", 0), exited("i", 0, 0)])).status();
    assert_eq!(done.phase.as_deref(), Some("Running"));
    assert!(done.init_container_statuses.expect("init")[0].ready);
    let mut failed = Case::new(with_init("Never"), up(vec![exited("i", 0, 1)]));
    failed.stage = Stage::Terminated { cause: Cause::Completed, released: false };
    assert_eq!(failed.phase(), "Failed");
}

#[test]
fn a_running_pod_is_ready_and_has_addresses() {
    let status = Case::new(pod("Always", &["a"]), up(vec![running("a", 2)])).status();
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&status, kind).0, "True", "{kind}");
    }
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(status.observed_generation, Some(1));
    let c = only(&status);
    assert_eq!((c.restart_count, c.ready, c.started), (2, true, Some(true)));
    assert_eq!(c.container_id.as_deref(), Some("containerd://a-2"));
}

#[test]
fn a_crash_loop_says_so_and_keeps_the_last_end() {
    let mut case = Case::new(pod("Always", &["a"]), up(vec![exited("a", 1, 7), exited("a", 0, 5)]));
    case.observed.containers[0].finished_at = 99 * S;
    case.memory.restarted("a", 90 * S, 90 * S, Duration::from_secs(300));
    let status = case.status();
    let c = only(&status);
    assert_eq!(waiting(c), ("CrashLoopBackOff", "back-off 10s restarting failed container=a pod=web_default(u1)"));
    let last = c.last_state.as_ref().and_then(|s| s.terminated.as_ref()).expect("the last end");
    assert_eq!((last.exit_code, last.container_id.as_deref()), (7, Some("containerd://a-1")));
    assert!(!c.ready);
    assert_eq!(condition(&status, "Ready").1, "ContainersNotReady");
    assert_eq!(new_crash_loops(&PodStatus::default(), &status).collect::<Vec<_>>(), ["a"]);
    assert_eq!(new_crash_loops(&status, &status).count(), 0, "told once for each end");
}

#[test]
fn a_container_that_can_not_start_says_why() {
    let mut case = Case::new(pod("Always", &["a"]), up(vec![]));
    let retry = Duration::from_secs(10);
    case.memory.failed(Subject::Container("a".into()), "ErrImagePull", "no such image".into(), case.now, retry, retry);
    let status = case.status();
    assert_eq!(waiting(only(&status)), ("ErrImagePull", "no such image"));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[test]
fn a_container_that_vanished_is_not_taken_for_one_that_never_ran() {
    let mut case = Case::new(pod("Always", &["a"]), up(vec![running("a", 3)]));
    case.previous = case.status();
    case.observed.containers.clear();
    let status = case.status();
    let c = only(&status);
    assert_eq!(c.restart_count, 4);
    let last = c.last_state.as_ref().and_then(|s| s.terminated.as_ref()).expect("an end");
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    case.stage = Stage::Terminated { cause: Cause::Deleted, released: false };
    let closed = case.status();
    assert_eq!(closed.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_termination_message_outlives_the_pods_directory() {
    let mut case = Case::new(pod("Never", &["a"]), up(vec![exited("a", 0, 1)]));
    case.observed.containers[0].termination_message = "why".into();
    case.previous = case.status();
    case.observed.containers[0].termination_message.clear();
    let status = case.status();
    let end = only(&status).state.as_ref().and_then(|s| s.terminated.as_ref()).expect("an end");
    assert_eq!(end.message.as_deref(), Some("why"));
}

#[test]
fn readiness_gates_and_others_conditions() {
    let mut gated = pod("Always", &["a"]);
    gated.spec.as_mut().expect("spec").readiness_gates =
        Some(vec![k8s_openapi::api::core::v1::PodReadinessGate { condition_type: "gate".into() }]);
    let mut case = Case::new(gated, up(vec![running("a", 0)]));
    assert_eq!(condition(&case.status(), "Ready").1, "ReadinessGatesNotReady");
    let gate = k8s_openapi::api::core::v1::PodCondition { type_: "gate".into(), status: "True".into(), ..Default::default() };
    case.previous.conditions = Some(vec![gate]);
    let status = case.status();
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(condition(&status, "gate").0, "True", "others' conditions are kept");
    let pod = PodRef { namespace: "default".into(), name: "web".into(), uid: "u1".into() };
    let patch = super::patch::patch(&pod, &status, None);
    let kinds: Vec<_> = patch["status"]["conditions"].as_array().expect("a list").iter().map(|c| c["type"].clone()).collect();
    assert!(!kinds.contains(&"gate".into()) && kinds.len() == 5, "but never written: {kinds:?}");
    assert_eq!(patch["metadata"]["uid"], "u1");
    assert!(patch["status"]["reason"].is_null());
}

#[test]
fn transition_times_stay_while_nothing_changes() {
    let mut case = Case::new(pod("Always", &["a"]), up(vec![running("a", 0)]));
    case.previous = case.status();
    case.now += 50 * S;
    assert_eq!(case.status(), case.previous);
    case.observed.containers[0] = exited("a", 0, 1);
    let changed = case.status();
    let time = |s: &PodStatus| s.conditions.iter().flatten().find(|c| c.type_ == "Ready").and_then(|c| c.last_transition_time.clone());
    assert_ne!(time(&changed), time(&case.previous));
    assert_eq!(changed.start_time, case.previous.start_time);
}

#[test]
fn what_somebody_waits_for_is_urgent() {
    let mut case = Case::new(pod("Always", &["a"]), nothing());
    let empty = PodStatus::default();
    let creating = case.status();
    assert_eq!(urgency(&empty, &creating), Urgency::Soon);
    case.observed = up(vec![]);
    let sandboxed = case.status();
    assert_eq!(urgency(&creating, &sandboxed), Urgency::Soon);
    case.observed = up(vec![running("a", 0)]);
    let ready = case.status();
    assert_eq!(urgency(&sandboxed, &ready), Urgency::Now);
    case.observed = up(vec![exited("a", 0, 1)]);
    assert_eq!(urgency(&ready, &case.status()), Urgency::Now);
}
