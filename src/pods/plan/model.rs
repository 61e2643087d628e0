//! Random pods and random orders of events for the pure plan, against a runtime that does what it is told. Whatever happens: init
//! containers keep their order, nothing that is over for good starts again, counts only grow, no container runs twice at a time, and a pod that is deleted
//! ends.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, ContainerRestartRule, ContainerRestartRuleOnExitCodes, Pod, PodStatus, Probe};
use proptest::prelude::*;

use super::*;
use crate::pods::fixture::{S, container, nothing, pod, record};
use crate::pods::memory::Subject;
use crate::pods::probes::Kind;
use crate::pods::resize::NONE;
use crate::pods::stage::{Cause, Event as StageEvent};
use crate::pods::status::{self, Inputs};
use crate::pods::{restarts, spec};
use crate::runtime::Sandbox;

/// What happens to a pod. Numbers choose among its containers.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Wait(i64),
    Exit(usize, i32),
    Probe(usize, u8, bool),
    SandboxDies,
    AgentRestarts,
    Image(usize),
    Fails(usize),
    Delete,
}

#[derive(Debug, Clone)]
struct Shape {
    policy: &'static str,
    init: Vec<Option<bool>>,
    regular: Vec<(Option<&'static str>, u8)>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let policies = || prop::sample::select(vec!["Always", "OnFailure", "Never"]);
    // Sidecar or not, and whether a sidecar has a startup probe.
    let init = prop::collection::vec(prop::sample::select(vec![None, None, Some(false), Some(true)]), 0..3);
    let own = prop::option::weighted(0.3, policies());
    let regular = prop::collection::vec((own, 0..6u8), 1..3);
    (policies(), init, regular).prop_map(|(policy, init, regular)| Shape { policy, init, regular })
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => prop::sample::select(vec![0, 1, 3, 11, 61, 700]).prop_map(Happening::Wait),
        6 => (0..5usize, prop::sample::select(vec![0, 0, 1, 42])).prop_map(|(c, code)| Happening::Exit(c, code)),
        4 => (0..5usize, 0..3u8, any::<bool>()).prop_map(|(c, kind, success)| Happening::Probe(c, kind, success)),
        1 => Just(Happening::SandboxDies),
        1 => Just(Happening::AgentRestarts),
        1 => (0..5usize).prop_map(Happening::Image),
        1 => (0..5usize).prop_map(Happening::Fails),
        1 => Just(Happening::Delete),
    ];
    prop::collection::vec(one, 1..40)
}

fn build(shape: &Shape) -> Pod {
    let mut pod = pod(shape.policy, &[]);
    let spec = pod.spec.as_mut().unwrap();
    let init = shape.init.iter().enumerate().map(|(n, kind)| Spec {
        restart_policy: kind.map(|_| "Always".to_owned()),
        startup_probe: kind.filter(|probed| *probed).map(|_| Probe::default()),
        ..container(&format!("i{n}"))
    });
    spec.init_containers = Some(init.collect());
    spec.containers = shape
        .regular
        .iter()
        .enumerate()
        .map(|(n, (own, extra))| {
            let rule = |action: &str| ContainerRestartRule {
                action: action.into(),
                exit_codes: Some(ContainerRestartRuleOnExitCodes { operator: "In".into(), values: Some(vec![42]) }),
            };
            let rules = own.and(match extra {
                1 => Some(vec![rule("Restart")]),
                2 => Some(vec![rule("RestartAllContainers")]),
                _ => None,
            });
            let liveness_probe = (*extra == 3).then(Probe::default);
            Spec { restart_policy: own.map(Into::into), restart_policy_rules: rules, liveness_probe, ..container(&format!("c{n}")) }
        })
        .collect();
    pod
}

struct Model {
    pod: Pod,
    observed: ObservedPod,
    status: PodStatus,
    stage: Stage,
    memory: Memory,
    verdicts: Verdicts,
    volumes: VolumeState,
    now: i64,
    made: u32,
    /// The greatest restart count that was told of each container.
    counts: BTreeMap<String, i32>,
    /// Containers that were stopped or removed by the node, or whose definition changed, or that an agent forgot about: others may follow whatever the policy is.
    excused: bool,
}

impl Model {
    fn new(pod: Pod) -> Self {
        Self {
            pod,
            observed: nothing(),
            status: PodStatus::default(),
            stage: Stage::Syncing,
            memory: Memory::default(),
            verdicts: Verdicts::default(),
            volumes: VolumeState::Missing,
            now: 100 * S,
            made: 0,
            counts: BTreeMap::new(),
            excused: false,
        }
    }

    fn view(&self) -> View<'_> {
        View {
            pod: Some(&self.pod),
            status: &self.status,
            stage: self.stage,
            observed: &self.observed,
            volumes: self.volumes,
            verdicts: &self.verdicts,
            end: None,
            resize: &NONE,
            memory: &self.memory,
            now: self.now,
        }
    }

    fn publish(&mut self) {
        let node_ips = ["192.168.0.1".parse().unwrap()];
        let deleting = self.stage.cause() == Some(Cause::Deleted);
        let inputs = Inputs { view: self.view(), previous: &self.status, node_ips: &node_ips, runtime_name: "r", deleting };
        let new = status::compute(&inputs).unwrap();
        for list in [&new.container_statuses, &new.init_container_statuses].into_iter().flatten() {
            for c in list {
                let before = self.counts.insert(c.name.clone(), c.restart_count).unwrap_or(0);
                assert!(c.restart_count >= before, "the count of {} fell from {before} to {}", c.name, c.restart_count);
            }
        }
        let ended = |status: &PodStatus| status.phase.clone().filter(|phase| spec::is_terminal(phase));
        if let Some(phase) = ended(&self.status) {
            assert_eq!(new.phase, Some(phase), "a phase that is over changed");
        }
        if ended(&new).is_some() {
            assert!(!self.observed.containers.iter().any(|c| is_alive(c.phase)), "it is over, and something runs");
        }
        self.status = new;
    }

    /// Lets the worker do all that it can do now.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.publish();
            if self.stage == Stage::Syncing && (spec::has_ended(&self.status) || finished(&self.view(), &self.pod)) {
                self.stage = self.stage.step(StageEvent::Terminate { cause: Cause::Completed, grace: Duration::from_secs(5) });
            }
            if is_down(&self.view()) {
                self.stage = self.stage.step(StageEvent::Stopped);
            }
            let plan = plan(&self.view());
            if plan.actions.is_empty() {
                self.publish();
                return;
            }
            plan.actions.into_iter().for_each(|action| self.act(action));
        }
        panic!("it never comes to rest: {:#?}", self.observed);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::SetUpVolumes => self.volumes = VolumeState::Ready,
            Action::RunSandbox { attempt } => {
                assert!(!self.observed.sandboxes.iter().any(|s| s.ready), "a second sandbox");
                let id = format!("s{attempt}").into();
                let sandbox =
                    Sandbox { id, attempt, created_at: self.now, ready: true, ips: vec!["10.0.0.1".parse().unwrap()], host_network: false };
                self.observed.sandboxes.insert(0, sandbox);
            }
            Action::StartContainers(list) => list.into_iter().for_each(|start| self.start(start)),
            Action::StopContainer { id, why, .. } => {
                if let Some(replaced) = why.is_replaced() {
                    self.memory.decided.insert(id.clone(), replaced);
                }
                self.excused = true;
                self.end(&id, 143);
            }
            Action::ResetContainers(list) => {
                self.excused = true;
                for reset in list {
                    self.observed.containers.retain(|c| c.id != reset.id);
                    self.publish();
                }
            }
            Action::RemoveContainer(id) => self.observed.containers.retain(|c| c.id != id),
            Action::StopSandbox(id) => self.observed.sandboxes.iter_mut().filter(|s| s.id == id).for_each(|s| s.ready = false),
            Action::RemoveSandbox(id) => {
                self.observed.sandboxes.retain(|s| s.id != id);
                self.observed.containers.retain(|c| c.sandbox != id);
            }
            Action::Release => self.stage = self.stage.step(StageEvent::Released),
            Action::PrepareImages { .. } | Action::Unmount | Action::Resize(_) => {}
        }
    }

    fn start(&mut self, start: Start) {
        assert_eq!(self.stage, Stage::Syncing, "{} starts in a pod that goes down", start.name);
        let sandbox = self.observed.sandboxes.first().expect("a sandbox").id.clone();
        let here = |name: &str| self.observed.containers.iter().find(|c| *c.name == *name && c.sandbox == sandbox);
        let all = |name: &str| self.observed.containers.iter().filter(|c| *c.name == *name).cloned().collect::<Vec<_>>();
        assert!(!all(&start.name).iter().any(|c| is_alive(c.phase)), "{} would run twice", start.name);
        let regular = spec::containers(&self.pod).iter().any(|c| c.name == start.name);
        let begun = spec::containers(&self.pod).iter().any(|c| here(&c.name).is_some());
        for before in spec::init_containers(&self.pod).iter().take_while(|c| regular || c.name != start.name) {
            let state = here(&before.name);
            let done = match spec::is_sidecar(before) {
                true => state.is_some_and(|r| r.phase == ContainerPhase::Running && self.view().verdict(before, r).started),
                false => state.is_some_and(|r| r.phase == ContainerPhase::Exited && r.exit_code == 0),
            };
            assert!(done || begun, "{} starts before {} is done", start.name, before.name);
        }
        if let Some(last) = all(&start.name).first() {
            assert!(start.restart_count > last.restart_count, "{} counts {} after {}", start.name, start.restart_count, last.restart_count);
            let spec = spec::container(&self.pod, &start.name).expect("in the spec");
            let over = !restarts::restarts(&self.pod, spec, last.exit_code) && last.sandbox == sandbox;
            assert!(!over || self.excused, "{} ended with {} and starts again", start.name, last.exit_code);
        }
        if let Some(exit) = start.previous_exit {
            self.memory.restarted(&start.name, exit, self.now, Duration::from_secs(300));
        }
        self.made += 1;
        let new = Container {
            id: format!("{}-{}", start.name, self.made).into(),
            sandbox,
            hash: crate::model::hash::container_hash(spec::container(&self.pod, &start.name).expect("in the spec")),
            created_at: self.now,
            started_at: self.now,
            ..record(&start.name, start.restart_count, ContainerPhase::Running)
        };
        self.observed.containers.insert(0, new);
    }

    fn end(&mut self, id: &ContainerId, code: i32) {
        let now = self.now;
        for c in self.observed.containers.iter_mut().filter(|c| c.id == *id && is_alive(c.phase)) {
            (c.phase, c.exit_code, c.finished_at) = (ContainerPhase::Exited, code, now);
        }
    }

    fn running(&self, n: usize) -> Option<Container> {
        let running: Vec<_> = self.observed.containers.iter().filter(|c| c.phase == ContainerPhase::Running).collect();
        running.get(n).map(|c| (*c).clone())
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wait(seconds) => self.now += seconds * S,
            Happening::Exit(n, code) => {
                if let Some(c) = self.running(n) {
                    self.end(&c.id, code);
                }
            }
            Happening::Probe(n, kind, success) => {
                let kind = [Kind::Startup, Kind::Liveness, Kind::Readiness][usize::from(kind)];
                if let Some(c) = self.running(n) {
                    self.verdicts.set(c.id, kind, success);
                }
            }
            Happening::SandboxDies => {
                self.observed.sandboxes.iter_mut().for_each(|s| s.ready = false);
                let ids: Vec<_> = self.observed.containers.iter().map(|c| c.id.clone()).collect();
                ids.iter().for_each(|id| self.end(id, 137));
            }
            Happening::AgentRestarts => {
                (self.memory, self.verdicts, self.volumes) = (Memory::default(), Verdicts::default(), VolumeState::Missing);
            }
            Happening::Image(n) => {
                let containers = &mut self.pod.spec.as_mut().unwrap().containers;
                let n = n % containers.len();
                containers[n].image = Some(format!("image:{}", self.made));
                self.excused = true;
            }
            Happening::Fails(n) => {
                let name = spec::containers(&self.pod)[n % spec::containers(&self.pod).len()].name.clone();
                self.memory.failed(
                    Subject::Container(name),
                    "ErrImagePull",
                    "no".into(),
                    self.now,
                    Duration::from_secs(1),
                    Duration::from_secs(10),
                );
            }
            Happening::Delete => {
                self.stage = self.stage.step(StageEvent::Terminate { cause: Cause::Deleted, grace: Duration::from_secs(5) });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_rules_hold(shape in shapes(), happenings in happenings()) {
        let mut model = Model::new(build(&shape));
        model.settle();
        for happening in happenings {
            model.happen(happening);
            model.settle();
        }
        model.happen(Happening::Delete);
        for _ in 0..5 {
            model.happen(Happening::Wait(61));
            model.settle();
        }
        prop_assert!(matches!(model.stage, Stage::Terminated { cause: Cause::Deleted, released: true }), "{:?}", model.stage);
        prop_assert!(spec::has_ended(&model.status), "{:?}", model.status.phase);
    }
}
