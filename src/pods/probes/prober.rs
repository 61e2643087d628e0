//! The task that makes a pod's probes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Kind;
use super::attempt::{Outcome, Subject, attempt};
use super::schedule::Schedule;
use crate::api::events::EventType;
use crate::api::random_part;
use crate::model::clock::until;
use crate::model::{ContainerId, PodRef};
use crate::pods::context::Context;
use crate::pods::mailbox::Mailbox;
use crate::pods::spec;

/// A running instance of a container that has probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which instance.
    pub id: ContainerId,
    /// Its container's name.
    pub name: String,
    /// When it was started, nanoseconds since the epoch.
    pub started_at: i64,
    /// Startup is over: the other probes may begin.
    pub started: bool,
}

/// What there is to probe.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// The pod.
    pub pod: Option<Arc<Pod>>,
    /// Its address, as its status shows it.
    pub pod_ip: String,
    /// The pod goes down: only readiness is still asked.
    pub going_down: bool,
    /// What runs.
    pub targets: Vec<Target>,
}

impl Scene {
    fn is_same(&self, other: &Self) -> bool {
        let same_pod = match (&self.pod, &other.pod) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same_pod && self.pod_ip == other.pod_ip && self.going_down == other.going_down && self.targets == other.targets
    }
}

/// A pod's prober. Dropped, it asks no more.
pub struct Handle {
    scene: watch::Sender<Scene>,
    task: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Handle {
    /// Starts the task of one pod. Results go to `mailbox`.
    pub fn start(ctx: Arc<Context>, name: PodRef, mailbox: Arc<Mailbox>) -> Self {
        let (scene, scenes) = watch::channel(Scene::default());
        let prober = Prober { ctx, name, mailbox, scene: Scene::default(), began: Instant::now(), probes: BTreeMap::new() };
        let task = tokio::spawn(prober.run(scenes)).abort_handle();
        Self { scene, task }
    }

    /// Tells what there is to probe.
    pub fn show(&self, scene: Scene) {
        self.scene.send_if_modified(|old| {
            let differs = !old.is_same(&scene);
            if differs {
                *old = scene;
            }
            differs
        });
    }
}

type Key = (ContainerId, Kind);

struct Prober {
    ctx: Arc<Context>,
    name: PodRef,
    mailbox: Arc<Mailbox>,
    scene: Scene,
    began: Instant,
    probes: BTreeMap<Key, Schedule>,
}

impl Prober {
    async fn run(mut self, mut scenes: watch::Receiver<Scene>) {
        let mut attempts: FuturesUnordered<BoxFuture<'static, (Key, Outcome)>> = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            for key in self.due(now) {
                if let Some(attempt) = self.begin(key, now) {
                    attempts.push(attempt);
                }
            }
            let next = self.next();
            tokio::select! {
                changed = scenes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let scene = scenes.borrow_and_update().clone();
                    self.look(scene);
                }
                Some((key, outcome)) = attempts.next(), if !attempts.is_empty() => self.end(key, outcome),
                () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
            }
        }
    }

    /// Takes a new scene in: new instances get schedules, those that are gone lose theirs.
    fn look(&mut self, scene: Scene) {
        self.scene = scene;
        let Some(pod) = self.scene.pod.clone() else { return self.probes.clear() };
        let now = Instant::now();
        let mut old = std::mem::take(&mut self.probes);
        for target in &self.scene.targets {
            let Some(container) = spec::container(&pod, &target.name) else { continue };
            for kind in Kind::ALL {
                if self.scene.going_down && kind != Kind::Readiness {
                    continue;
                }
                let Some(probe) = kind.of(container) else { continue };
                let key = (target.id.clone(), kind);
                let schedule = old.remove(&key).unwrap_or_else(|| {
                    let period = Duration::from_secs(probe.period_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(10));
                    let delay = Duration::from_secs(probe.initial_delay_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0));
                    let ran_before = since(target.started_at, self.ctx.clock.now()) > self.began.elapsed();
                    // After a start of the agent on a busy node the probes must not all come at once.
                    let anchor = if ran_before { now + random_part(period) } else { self.began };
                    let eligible = now + until(self.ctx.clock.now(), target.started_at.saturating_add(nanos(delay)));
                    Schedule::new(kind, probe, anchor, if ran_before { eligible.max(anchor) } else { eligible }, now)
                });
                self.probes.insert(key, schedule);
            }
        }
    }

    fn target(&self, id: &ContainerId) -> Option<&Target> {
        self.scene.targets.iter().find(|target| target.id == *id)
    }

    fn times(&self) -> impl Iterator<Item = (&Key, Instant)> {
        self.probes.iter().filter_map(|(key, schedule)| Some((key, schedule.due(self.target(&key.0)?.started)?)))
    }

    fn due(&self, now: Instant) -> Vec<Key> {
        self.times().filter(|(_, at)| *at <= now).map(|(key, _)| key.clone()).collect()
    }

    fn next(&self) -> Option<Instant> {
        self.times().map(|(_, at)| at).min()
    }

    fn container<'a>(&self, pod: &'a Pod, id: &ContainerId) -> Option<&'a Spec> {
        spec::container(pod, &self.target(id)?.name)
    }

    fn begin(&mut self, key: Key, now: Instant) -> Option<BoxFuture<'static, (Key, Outcome)>> {
        let pod = Arc::clone(self.scene.pod.as_ref()?);
        let container = self.container(&pod, &key.0)?.name.clone();
        self.probes.get_mut(&key)?.begin(now);
        let (runtime, pod_ip) = (Arc::clone(&self.ctx.runtime), self.scene.pod_ip.clone());
        Some(Box::pin(async move {
            let found = spec::container(&pod, &container).and_then(|container| Some((container, key.1.of(container)?)));
            let Some((container, probe)) = found else { return (key, Outcome::Error("the probe is gone".to_owned())) };
            let outcome = attempt(&Subject { runtime: &*runtime, probe, container, id: &key.0, pod_ip: &pod_ip }).await;
            (key, outcome)
        }))
    }

    fn end(&mut self, key: Key, outcome: Outcome) {
        // An instance that is gone by now: of no interest.
        let Some(schedule) = self.probes.get_mut(&key) else { return };
        let result = match &outcome {
            Outcome::Success | Outcome::Warning(_) => Some(true),
            Outcome::Failure(_) => Some(false),
            Outcome::Error(_) => None,
        };
        let news = schedule.end(result, Instant::now());
        self.tell(&key, outcome);
        if let Some(success) = news {
            self.mailbox.probed(key.0, key.1, success);
        }
    }

    fn tell(&self, key: &Key, outcome: Outcome) {
        let word = key.1.word();
        let (reason, message) = match outcome {
            Outcome::Success => return,
            Outcome::Warning(output) => ("ProbeWarning", format!("{word} probe warning: {output}")),
            Outcome::Failure(output) => ("Unhealthy", format!("{word} probe failed: {output}")),
            Outcome::Error(error) => ("Unhealthy", format!("{word} probe errored and resulted in unknown state: {error}")),
        };
        let (Some(pod), Some(target)) = (&self.scene.pod, self.target(&key.0)) else { return };
        let path = spec::field_path(pod, &target.name);
        self.ctx.recorder.pod_event(&self.name, Some(&path), EventType::Warning, reason, message);
    }
}

fn since(then: i64, now: i64) -> Duration {
    Duration::from_nanos(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
