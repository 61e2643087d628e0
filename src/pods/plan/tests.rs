use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerRestartRule, ContainerRestartRuleOnExitCodes, EphemeralContainer, Pod, PodStatus};

use super::*;
use crate::pods::fixture::*;
use crate::pods::memory::Subject;
use crate::pods::stage::Cause;
use crate::runtime::{Container, ContainerPhase, Sandbox};

struct Case {
    pod: Pod,
    observed: ObservedPod,
    stage: Stage,
    volumes: VolumeState,
    verdicts: Verdicts,
    end: Option<End>,
    memory: Memory,
    now: i64,
}

impl Case {
    fn new(pod: Pod, observed: ObservedPod) -> Self {
        Self {
            pod,
            observed,
            stage: Stage::Syncing,
            volumes: VolumeState::Ready,
            verdicts: Verdicts::default(),
            end: None,
            memory: Memory::default(),
            now: 100 * S,
        }
    }
    fn plan(&self) -> Plan {
        plan(&self.view(&PodStatus::default()))
    }
    fn view<'a>(&'a self, status: &'a PodStatus) -> View<'a> {
        View {
            pod: Some(&self.pod),
            status,
            stage: self.stage,
            observed: &self.observed,
            volumes: self.volumes,
            verdicts: &self.verdicts,
            end: self.end.as_ref(),
            resize: &crate::pods::resize::NONE,
            memory: &self.memory,
            now: self.now,
        }
    }
    fn actions(&self) -> Vec<String> {
        self.plan().actions.iter().map(brief).collect()
    }
    fn finished(&self) -> bool {
        finished(&self.view(&PodStatus::default()), &self.pod)
    }
}

/// Short words for actions, so that tables can be read.
fn brief(action: &Action) -> String {
    match action {
        Action::SetUpVolumes => "volumes".into(),
        Action::RunSandbox { attempt } => format!("sandbox {attempt}"),
        Action::PrepareImages { names, .. } => format!("images {}", names.join(",")),
        Action::StartContainers(list) => {
            let each: Vec<_> = list.iter().map(|s| format!("{}#{}", s.name, s.restart_count)).collect();
            format!("start {}", each.join(","))
        }
        Action::Resize(list) => format!("resize {}", list.iter().map(|d| d.id.to_string()).collect::<Vec<_>>().join(",")),
        Action::ResetContainers(list) => {
            list.iter().map(|r| format!("reset {}{}", r.id, if r.stop { "!" } else { "" })).collect::<Vec<_>>().join(", ")
        }
        Action::StopContainer { id, grace, .. } => format!("stop {id} {}s", grace.as_secs()),
        Action::RemoveContainer(id) => format!("remove {id}"),
        Action::StopSandbox(id) => format!("stop {id}"),
        Action::RemoveSandbox(id) => format!("remove {id}"),
        Action::Unmount => "unmount".into(),
        Action::Release => "release".into(),
    }
}

fn up(containers: Vec<Container>) -> ObservedPod {
    seen(vec![sandbox(0)], containers)
}

fn not_ready(s: Sandbox) -> Sandbox {
    Sandbox { ready: false, ..s }
}

#[test]
fn a_new_pod_comes_up_in_two_steps() {
    let mut case = Case::new(pod("Always", &["a", "b"]), nothing());
    case.volumes = VolumeState::Missing;
    assert_eq!(case.actions(), ["volumes", "sandbox 0", "images a"]);
    case.observed = up(vec![]);
    assert_eq!(case.actions(), ["volumes"], "no container starts without its volumes");
    case.volumes = VolumeState::Ready;
    assert_eq!(case.actions(), ["start a#0,b#0"]);
    case.observed = up(vec![running("b", 0), running("a", 0)]);
    assert_eq!(case.plan(), Plan::default());
}

#[test]
fn init_containers_go_first_and_in_order() {
    let case = |containers| Case::new(pod_with_init("Always", &["i", "j"], &["a"]), up(containers)).actions();
    assert_eq!(case(vec![]), ["start i#0"]);
    assert_eq!(case(vec![running("i", 0)]), [""; 0]);
    assert_eq!(case(vec![exited("i", 0, 0)]), ["start j#0"]);
    assert_eq!(case(vec![exited("i", 0, 3)]), ["start i#1"]);
    assert_eq!(case(vec![exited("j", 0, 0), exited("i", 0, 0)]), ["start a#0"]);
    assert_eq!(case(vec![running("a", 0)]), [""; 0], "records of init containers may be gone while the pod runs");
    assert_eq!(case(vec![running("j", 0)]), [""; 0], "and those of the first ones while a later one does");
    assert_eq!(case(vec![exited("j", 0, 0)]), ["start a#0"]);
    assert_eq!(case(vec![exited("a", 0, 1)]), ["start a#1"]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let case = Case::new(pod_with_init("Never", &["i"], &["a"]), up(vec![exited("i", 0, 3)]));
    assert_eq!(case.actions(), [""; 0]);
    assert!(case.finished());
}

#[test]
fn a_sidecar_keeps_running_and_holds_nobody_up() {
    let mut with_sidecar = pod_with_init("Always", &["i"], &["a"]);
    with_sidecar.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].restart_policy = Some("Always".into());
    let case = |containers| Case::new(with_sidecar.clone(), up(containers)).actions();
    assert_eq!(case(vec![]), ["start i#0"]);
    assert_eq!(case(vec![running("i", 0)]), ["start a#0"]);
    assert_eq!(case(vec![running("a", 0), exited("i", 0, 0)]), ["start i#1"]);
}

#[test]
fn restart_policies() {
    for (policy, code, again) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let case = Case::new(pod(policy, &["a"]), up(vec![exited("a", 4, code)]));
        let expected: &[&str] = if again { &["start a#5"] } else { &[] };
        assert_eq!(case.actions(), expected, "{policy} {code}");
        assert_eq!(case.finished(), !again, "{policy} {code}");
    }
}

#[test]
fn a_crash_loop_waits_and_others_go_on() {
    let mut case = Case::new(pod("Always", &["a", "b"]), up(vec![exited("a", 1, 1)]));
    case.observed.containers[0].finished_at = 99 * S;
    case.memory.restarted("a", 90 * S, 90 * S, Duration::from_secs(300));
    assert_eq!(case.actions(), ["start b#0"]);
    assert_eq!(case.plan().wake_at, Some(109 * S));
    case.now = 109 * S;
    assert_eq!(case.actions(), ["start a#2,b#0"]);
}

#[test]
fn a_failed_start_waits_without_holding_up_the_others() {
    let mut case = Case::new(pod("Always", &["a", "b"]), up(vec![]));
    let wait = Duration::from_secs(10);
    case.memory.failed(Subject::Container("a".into()), "ErrImagePull", "m".into(), case.now, wait, wait);
    assert_eq!(case.actions(), ["start b#0"]);
    assert_eq!(case.plan().wake_at, Some(110 * S));
}

#[test]
fn a_dead_sandbox_is_replaced_after_its_containers_are_stopped() {
    let mut case = Case::new(pod("Always", &["a"]), seen(vec![not_ready(sandbox(0))], vec![running("a", 0)]));
    assert_eq!(case.actions(), ["stop a-0 30s"]);
    case.observed.containers = vec![exited("a", 0, 137)];
    assert_eq!(case.actions(), ["sandbox 1", "images a"]);
    case.observed.sandboxes.insert(0, sandbox(1));
    assert_eq!(case.actions(), ["start a#1"]);
}

#[test]
fn a_dead_sandbox_is_not_replaced_for_containers_that_are_done() {
    let dead = |policy, code| Case::new(pod(policy, &["a"]), seen(vec![not_ready(sandbox(0))], vec![exited("a", 0, code)])).actions();
    assert_eq!(dead("Never", 1), [""; 0]);
    assert_eq!(dead("OnFailure", 0), [""; 0]);
    assert_eq!(dead("OnFailure", 1), ["sandbox 1", "images a"]);
    assert_eq!(dead("Always", 0), ["sandbox 1", "images a"]);
}

#[test]
fn sandboxes_that_can_not_be_used_are_stopped_first() {
    let no_ip = Sandbox { ips: vec![], ..sandbox(0) };
    assert_eq!(Case::new(pod("Always", &["a"]), seen(vec![no_ip], vec![])).actions(), ["stop s0"]);
    let other_network = Sandbox { host_network: true, ..sandbox(0) };
    assert_eq!(Case::new(pod("Always", &["a"]), seen(vec![other_network], vec![])).actions(), ["stop s0"]);
    let two = seen(vec![sandbox(1), sandbox(0)], vec![]);
    assert_eq!(Case::new(pod("Always", &["a"]), two).actions(), ["stop s1", "stop s0"]);
}

#[test]
fn what_was_left_half_made_is_cleared() {
    let half = record("a", 0, ContainerPhase::Created);
    let mut case = Case::new(pod("Always", &["a"]), up(vec![half]));
    assert_eq!(case.actions(), ["remove a-0"]);
    case.now = 2 * S;
    assert_eq!(case.plan(), Plan { actions: vec![], wake_at: Some(4 * S) }, "the runtime may be about to start it");
    let unknown = record("a", 0, ContainerPhase::Unknown);
    assert_eq!(Case::new(pod("Always", &["a"]), up(vec![unknown])).actions(), ["stop a-0 30s"]);
    let twice = up(vec![running("a", 1), running("a", 0)]);
    assert_eq!(Case::new(pod("Always", &["a"]), twice).actions(), ["stop a-0 30s"]);
}

#[test]
fn a_changed_image_restarts_only_its_container() {
    let mut changed = pod("Always", &["a", "b"]);
    changed.spec.as_mut().unwrap().containers[0].image = Some("other".into());
    let mut case = Case::new(changed, up(vec![running("b", 0), running("a", 0)]));
    assert_eq!(case.actions(), ["stop a-0 30s"]);
    case.observed.containers[1] = exited("a", 0, 143);
    assert_eq!(case.actions(), ["start a#1"]);
}

#[test]
fn only_the_newest_ended_instance_is_kept() {
    let case = Case::new(pod("Always", &["a"]), up(vec![running("a", 3), exited("a", 2, 1), exited("a", 1, 1), exited("a", 0, 1)]));
    assert_eq!(case.actions(), ["remove a-1", "remove a-0"]);
}

#[test]
fn a_dead_sandbox_goes_when_nothing_in_it_is_worth_keeping() {
    let in_old = exited("a", 0, 1);
    let in_new = Container { sandbox: "s1".into(), ..running("a", 1) };
    let sandboxes = || vec![sandbox(1), not_ready(sandbox(0))];
    let with_last_end = Case::new(pod("Always", &["a"]), seen(sandboxes(), vec![in_new.clone(), in_old]));
    assert_eq!(with_last_end.actions(), [""; 0], "the last end is still shown");
    let empty = Case::new(pod("Always", &["a"]), seen(sandboxes(), vec![in_new]));
    assert_eq!(empty.actions(), ["remove s0"]);
}

#[test]
fn the_way_down() {
    let mut case = Case::new(pod("Always", &["a", "b"]), up(vec![running("b", 0), running("a", 0)]));
    case.stage = Stage::Terminating { cause: Cause::Deleted, grace: Duration::from_secs(1) };
    assert_eq!(case.actions(), ["stop b-0 1s", "stop a-0 1s"]);
    case.observed.containers = vec![exited("b", 0, 143), exited("a", 0, 143)];
    assert_eq!(case.actions(), ["stop s0", "unmount"]);
    case.observed.sandboxes[0].ready = false;
    assert_eq!(case.actions(), [""; 0]);
    assert!(is_down(&case.view(&PodStatus::default())));
    case.stage = Stage::Terminated { cause: Cause::Deleted, released: false };
    assert_eq!(case.actions(), ["release"]);
    case.stage = Stage::Terminated { cause: Cause::Deleted, released: true };
    assert_eq!(case.actions(), [""; 0], "logs can be read until the object is gone");
    case.stage = Stage::Terminated { cause: Cause::Gone, released: true };
    assert_eq!(case.actions(), ["remove s0"]);
}

#[test]
fn a_failed_stop_waits_before_the_next_try() {
    let mut case = Case::new(pod("Always", &["a"]), up(vec![running("a", 0)]));
    case.stage = Stage::Terminating { cause: Cause::Deleted, grace: Duration::from_secs(5) };
    case.memory.failed(Subject::Stop, "", "no".into(), case.now, Duration::from_secs(1), Duration::from_secs(9));
    assert_eq!(case.plan(), Plan { actions: vec![], wake_at: Some(101 * S) });
}

/// A rule that has all containers begin anew after exit code 42.
fn restart_all() -> ContainerRestartRule {
    let exit_codes = ContainerRestartRuleOnExitCodes { operator: "In".into(), values: Some(vec![42]) };
    ContainerRestartRule { action: "RestartAllContainers".into(), exit_codes: Some(exit_codes) }
}

#[test]
fn an_exit_that_a_rule_speaks_of_removes_all_its_source_last() {
    let mut pod = pod_with_init("Never", &["i"], &["a", "b"]);
    let spec = pod.spec.as_mut().unwrap();
    spec.containers[0].restart_policy = Some("Never".into());
    spec.containers[0].restart_policy_rules = Some(vec![restart_all()]);
    let mut case = Case::new(pod, up(vec![running("b", 0), exited("a", 0, 42), exited("i", 0, 0)]));
    assert_eq!(case.actions(), ["reset b-0!, reset i-0, reset a-0"]);
    case.observed.containers.remove(0);
    assert_eq!(case.actions(), ["reset i-0, reset a-0"], "an agent that was killed goes on");
    case.observed.containers.clear();
    assert_eq!(case.actions(), ["start i#0"]);
}

#[test]
fn ephemeral_containers_start_whenever_they_come_and_once() {
    let mut pod = pod_with_init("Always", &["i"], &["a"]);
    let debug = EphemeralContainer { name: "debug".into(), ..Default::default() };
    pod.spec.as_mut().unwrap().ephemeral_containers = Some(vec![debug]);
    let mut case = Case::new(pod, up(vec![running("i", 0)]));
    assert_eq!(case.actions(), ["start debug#0"], "also before the init containers are done");
    case.observed.containers.insert(0, exited("debug", 0, 1));
    assert_eq!(case.actions(), [""; 0]);
}
