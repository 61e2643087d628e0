//! What a worker knows, and how it takes letters and reports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::time::Instant;

use crate::api::events::EventType;
use crate::model::clock::until;
use crate::model::{ContainerId, PodRef};
use crate::pods::act::Job;
use crate::pods::context::Context;
use crate::pods::log_files;
use crate::pods::mailbox::{Letters, Mailbox};
use crate::pods::plan::{View, VolumeState, finished};
use crate::pods::probes::{self, Verdicts};
use crate::pods::progress::Progress;
use crate::pods::resize::{self, Given, Resize, Resources};
use crate::pods::spec;
use crate::pods::stage::{Cause, End, Event, Stage};
use crate::pods::status::{self, Inputs};
use crate::runtime::{Container, ContainerPhase, Image, ObservedPod};
use crate::volumes::PodVolumes;

/// Grace for a pod that nobody knows (`kubelet_pods.go`: unknown runtime pods are killed with a second).
const ORPHAN_GRACE: Duration = Duration::from_secs(1);
/// Wait between tries to look at the runtime.
const LOOK_RETRY: Duration = Duration::from_secs(1);

/// One pod's worker.
pub struct Worker {
    pub(super) ctx: Arc<Context>,
    pub(super) name: PodRef,
    /// The object that the status goes to: the pod's own, or a static pod's mirror, as soon as there is one.
    object: Option<PodRef>,
    /// The object, without its status.
    pub(super) pod: Option<Arc<Pod>>,
    pub(super) gone: bool,
    pub(super) stage: Stage,
    pub(super) observed: ObservedPod,
    /// What is known of the runtime may be wrong: nothing is decided before a look.
    pub(super) look: bool,
    /// A look is due, but not before what is to be done now.
    pub(super) look_later: bool,
    blind_until: Option<Instant>,
    volumes: Option<Arc<PodVolumes>>,
    mailbox: Arc<Mailbox>,
    resize: Resize,
    verdicts: Verdicts,
    prober: Option<probes::Handle>,
    end: Option<End>,
    refresh_at: Option<Instant>,
    images: HashMap<String, Image>,
    pub(super) memory: crate::pods::memory::Memory,
    status: Arc<PodStatus>,
    published: bool,
    finish_asked: bool,
}

impl Worker {
    pub(super) fn new(ctx: Arc<Context>, name: PodRef, observed: ObservedPod, mailbox: Arc<Mailbox>) -> Self {
        Self {
            ctx,
            name,
            object: None,
            pod: None,
            gone: false,
            stage: Stage::Syncing,
            look: observed.unread.is_some(),
            observed,
            look_later: false,
            blind_until: None,
            volumes: None,
            mailbox,
            resize: Resize::default(),
            verdicts: Verdicts::default(),
            prober: None,
            end: None,
            refresh_at: None,
            images: HashMap::new(),
            memory: Default::default(),
            status: Arc::default(),
            published: false,
            finish_asked: false,
        }
    }

    /// Takes letters in.
    pub(super) fn receive(&mut self, letters: Letters) {
        if let Some(pod) = letters.desired {
            self.take_object(*pod);
        }
        if let Some(mirror) = letters.mirror {
            self.take_mirror(*mirror);
        }
        if let Some(granted) = letters.granted {
            self.take_resources(&granted);
        }
        if let Some(pending) = letters.pending.filter(|pending| *pending != self.resize.pending) {
            self.resize.pending = pending;
            self.published = false;
        }
        self.gone |= letters.gone;
        self.look |= letters.look;
        for (id, kind, success) in letters.probed {
            self.verdicts.set(id, kind, success);
            self.published = false;
        }
        if let Some(end) = letters.end.filter(|_| self.end.is_none()) {
            self.end = Some(end);
            self.published = false;
        }
    }

    fn take_object(&mut self, mut pod: Pod) {
        let theirs = pod.status.take().unwrap_or_default();
        if self.pod.is_none() {
            // The first sight of the object: its status is where ours goes on from.
            self.status = Arc::new(theirs);
            if !spec::is_static(&pod) {
                self.object = Some(self.name.clone());
                self.ctx.writer.base(&self.name, pod.metadata.resource_version.as_deref(), Arc::clone(&self.status));
            }
        } else if !spec::is_static(&pod) {
            let foreign = status::foreign_conditions(&theirs);
            if foreign != status::foreign_conditions(&self.status) {
                let mut mine = PodStatus::clone(&self.status);
                status::replace_foreign_conditions(&mut mine, foreign);
                self.status = Arc::new(mine);
            }
            self.heed_end(&theirs);
            self.ctx.writer.seen(&self.name.uid, pod.metadata.resource_version.as_deref(), theirs);
        }
        if let Some(old) = &self.pod {
            for name in spec::redefined(old, &pod) {
                self.images.remove(name);
                self.memory.redefined(name);
            }
        }
        let metadata_changed = self
            .pod
            .as_ref()
            .is_some_and(|old| old.metadata.labels != pod.metadata.labels || old.metadata.annotations != pod.metadata.annotations);
        if metadata_changed && self.volumes.is_some() {
            // Labels and annotations may be files in a volume.
            self.refresh_at = Some(Instant::now());
        }
        self.allocate(pod);
    }

    /// What runs has what was allocated before, as far as nothing else is known of it.
    fn allocate(&mut self, pod: Pod) {
        if self.pod.as_ref().is_some_and(|old| Resources::of(old) != Resources::of(&pod)) {
            self.resize.changed = true;
            for record in self.observed.containers.iter().filter(|record| record.phase == ContainerPhase::Running) {
                if let (Some(limits), Some(before)) = (record.limits, self.resize.wanted.get(&*record.name)) {
                    let given = Given { limits, memory_request: before.memory_request };
                    self.memory.in_force.entry(record.id.clone()).or_insert(given);
                }
            }
        }
        self.resize.wanted = resize::given(&pod, &self.ctx.translate);
        self.pod = Some(Arc::new(pod));
        self.published = false;
    }

    /// Resources are allocated that the object as it came did not have yet.
    fn take_resources(&mut self, granted: &Resources) {
        let Some(old) = &self.pod else { return };
        let mut pod = Pod::clone(old);
        granted.put_into(&mut pod);
        self.allocate(pod);
    }

    /// Another object has come to stand for the static pod, or the same one has changed. What it says of the pod counts for nothing,
    /// but for the conditions that others write.
    fn take_mirror(&mut self, mut mirror: Pod) {
        let (object, version) = (PodRef::of(&mirror), mirror.metadata.resource_version.take());
        let theirs = mirror.status.take().unwrap_or_default();
        let foreign = status::foreign_conditions(&theirs);
        if foreign != status::foreign_conditions(&self.status) {
            let mut mine = PodStatus::clone(&self.status);
            status::replace_foreign_conditions(&mut mine, foreign);
            self.status = Arc::new(mine);
            self.published = false;
        }
        if self.object.as_ref() == Some(&object) {
            return self.ctx.writer.seen(&object.uid, version.as_deref(), theirs);
        }
        if let Some(old) = self.object.replace(object.clone()) {
            self.ctx.writer.forget(&old.uid);
        }
        self.ctx.writer.base(&object, version.as_deref(), Arc::new(theirs));
        self.ctx.writer.set(&object, Arc::clone(&self.status), status::Urgency::Now);
    }

    /// Somebody else has ended the pod, such as the pod garbage collector for a node that was out of reach: the phase stays as they set it,
    /// and the pod goes down (upstream: `pod_workers.go`, UpdatePod).
    fn heed_end(&mut self, theirs: &PodStatus) {
        if spec::has_ended(theirs) && !spec::has_ended(&self.status) {
            let mut mine = PodStatus::clone(&self.status);
            mine.phase.clone_from(&theirs.phase);
            mine.reason.clone_from(&theirs.reason);
            mine.message.clone_from(&theirs.message);
            self.status = Arc::new(mine);
        }
    }

    /// What a plan may see. `None` while the runtime's state is not known, and before the object is.
    pub(super) fn view(&self) -> Option<View<'_>> {
        (self.sees() && (self.pod.is_some() || self.stage != Stage::Syncing)).then(|| self.any_view())
    }

    fn any_view(&self) -> View<'_> {
        View {
            pod: self.pod.as_deref(),
            status: &self.status,
            stage: self.stage,
            observed: &self.observed,
            volumes: match &self.volumes {
                None => VolumeState::Missing,
                Some(_) if self.refresh_at.is_some_and(|at| at <= Instant::now()) => VolumeState::Stale,
                Some(_) => VolumeState::Ready,
            },
            verdicts: &self.verdicts,
            end: self.end.as_ref(),
            resize: &self.resize,
            memory: &self.memory,
            now: self.ctx.clock.now(),
        }
    }

    /// Whether what is known of the runtime may be relied on.
    pub(super) fn sees(&self) -> bool {
        !self.look
    }

    /// When the worker must wake by itself.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let refresh = self.refresh_at.filter(|_| self.stage == Stage::Syncing && self.volumes.is_some());
        let refresh = refresh.filter(|at| *at > Instant::now());
        let deadline = self.deadline().map(|at| Instant::now() + until(self.ctx.clock.now(), at));
        [refresh, self.blind_until, deadline].into_iter().flatten().min()
    }

    /// Asks the runtime, when something may have changed.
    pub(super) async fn look_if_needed(&mut self) {
        if !self.look || self.blind_until.is_some_and(|at| at > Instant::now()) {
            return;
        }
        match self.ctx.runtime.observe_pod(&self.name.uid).await {
            Ok(found) => {
                let mut found = found
                    .unwrap_or_else(|| ObservedPod { grace_period: self.observed.grace_period, ..ObservedPod::empty(self.name.clone()) });
                keep_final_records(&self.observed, &mut found);
                self.observed = found;
                self.verdicts.retain(|id| self.observed.containers.iter().any(|c| c.id == *id));
                self.look = false;
                self.look_later = false;
                self.blind_until = None;
                self.published = false;
            }
            Err(error) => {
                if self.blind_until.is_none() {
                    tracing::warn!(pod = %self.name, %error, "Can't look at the pod, will try again");
                }
                self.blind_until = Some(Instant::now() + LOOK_RETRY);
            }
        }
    }

    /// When the pod has been active for as long as it may, nanoseconds since the epoch; `None` if that does not matter (any more).
    fn deadline(&self) -> Option<i64> {
        let undecided = self.stage == Stage::Syncing && self.end.is_none() && !spec::has_ended(&self.status);
        let seconds = self.pod.as_ref().filter(|_| undecided)?.spec.as_ref()?.active_deadline_seconds?;
        let start = i64::try_from(self.status.start_time.as_ref()?.0.as_nanosecond()).ok()?;
        Some(start.saturating_add(seconds.saturating_mul(1_000_000_000)))
    }

    /// A pod that has been active for too long ends (upstream: `active_deadline.go`).
    fn heed_deadline(&mut self) {
        if self.deadline().is_none_or(|at| at > self.ctx.clock.now()) {
            return;
        }
        let (reason, message) = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
        self.ctx.recorder.pod_event(&self.name, None, EventType::Normal, reason, message);
        self.end = Some(End {
            reason: reason.to_owned(),
            message: message.to_owned(),
            grace: None,
            disruption: None,
            fails: true,
            rejected: false,
        });
        self.published = false;
    }

    /// Starts the way down when somebody or something asks for it.
    pub(super) fn decide_to_terminate(&mut self) {
        self.heed_deadline();
        let grace = |pod: &Pod| Duration::from_secs(spec::grace_period(pod));
        let event = match &self.pod {
            _ if self.stage == Stage::Finished => None,
            None => self.gone.then_some(Event::Terminate { cause: Cause::Gone, grace: ORPHAN_GRACE }),
            Some(pod) if self.gone => Some(Event::Terminate { cause: Cause::Gone, grace: grace(pod) }),
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => Some(Event::Terminate { cause: Cause::Deleted, grace: grace(pod) }),
            Some(pod) if self.end.is_some() && self.stage == Stage::Syncing => {
                let given = self.end.as_ref().and_then(|end| end.grace);
                Some(Event::Terminate { cause: Cause::Completed, grace: given.unwrap_or_else(|| grace(pod)) })
            }
            Some(pod) if self.stage == Stage::Syncing => {
                let done = spec::has_ended(&self.status) || (self.sees() && finished(&self.any_view(), pod));
                done.then(|| Event::Terminate { cause: Cause::Completed, grace: grace(pod) })
            }
            Some(_) => None,
        };
        if let Some(event) = event {
            let before = self.stage;
            self.stage = self.stage.step(event);
            self.published &= before == self.stage;
        }
    }

    /// Asks for the final delete once nothing of the pod is left that its object stands for.
    pub(super) fn finish_object(&mut self) {
        if self.stage == (Stage::Terminated { cause: Cause::Deleted, released: true }) && !self.finish_asked {
            self.publish();
            self.ctx.writer.finish(&self.name.uid);
            self.finish_asked = true;
        }
    }

    /// Everything that acts need, by value: they run beside the worker, not inside it.
    pub(super) fn job(&self) -> Job {
        Job {
            ctx: Arc::clone(&self.ctx),
            name: self.name.clone(),
            pod: self.pod.clone(),
            sandbox: self.observed.sandboxes.first().cloned(),
            volumes: self.volumes.clone(),
            images: self.images.clone(),
            records: self.observed.containers.iter().map(|c| (c.id.clone(), c.clone())).collect(),
        }
    }

    /// Takes an act's report in.
    pub(super) fn apply(&mut self, report: Progress) {
        use crate::pods::memory::Subject;
        self.published = false;
        let now = self.ctx.clock.now();
        match report {
            Progress::Volumes(volumes) => {
                self.refresh_at = self.ctx.volumes.next_refresh(&self.name.uid);
                self.volumes = Some(Arc::new(volumes));
                self.memory.succeeded(&Subject::Volumes);
            }
            Progress::Sandbox(sandbox) => {
                self.memory.succeeded(&Subject::Sandbox);
                self.observed.sandboxes.retain(|s| s.id != sandbox.id);
                self.observed.sandboxes.insert(0, sandbox);
            }
            Progress::SandboxStopped(id) => {
                for s in self.observed.sandboxes.iter_mut().filter(|s| s.id == id) {
                    s.ready = false;
                }
            }
            Progress::SandboxRemoved(id) => {
                self.observed.sandboxes.retain(|s| s.id != id);
                self.observed.containers.retain(|c| c.sandbox != id);
            }
            Progress::Image(name, image) => {
                self.images.insert(name, image);
            }
            Progress::Started(start, record) => {
                self.images.remove(&start.name);
                if let Some(exit) = start.previous_exit {
                    self.memory.restarted(&start.name, exit, now, self.ctx.settings.crash_loop_max);
                }
                let id = record.id.clone();
                self.put(record, true);
                self.limited(&id);
            }
            Progress::Limited(id) => self.limited(&id),
            Progress::Resized => {
                self.resize.changed = false;
                if let Some(pod) = &self.pod {
                    let message = resize::message("completed", pod, None);
                    self.ctx.recorder.pod_event(&self.name, None, EventType::Normal, "ResizeCompleted", message);
                }
            }
            Progress::PreStopping(id) => {
                self.memory.pre_stopped.insert(id);
            }
            Progress::Stopped(record) => self.put(record, false),
            Progress::ContainerRemoved(id) => {
                self.memory.decided.remove(&id);
                self.memory.pre_stopped.remove(&id);
                self.memory.in_force.remove(&id);
                self.observed.containers.retain(|c| c.id != id);
            }
            Progress::Released => {
                self.volumes = None;
                self.stage = self.stage.step(Event::Released);
            }
            Progress::Failed { subject, reason, message, retry } => {
                if let Subject::Container(name) = &subject {
                    self.images.remove(name);
                }
                self.memory.failed(subject, &reason, message, now, retry.0, retry.1);
            }
            Progress::Succeeded(subject) => self.memory.succeeded(&subject),
            Progress::Uncertain => self.look = true,
        }
    }

    /// An instance has the limits that are allocated to its container.
    fn limited(&mut self, id: &ContainerId) {
        let name = self.observed.containers.iter().find(|c| c.id == *id).map(|c| &*c.name);
        if let Some(given) = name.and_then(|name| self.resize.wanted.get(name)) {
            self.memory.in_force.insert(id.clone(), *given);
        }
    }

    fn put(&mut self, record: Container, new: bool) {
        let list = &mut self.observed.containers;
        match list.iter_mut().find(|c| c.id == record.id) {
            Some(old) => *old = record,
            None if new => list.insert(0, record),
            None => {}
        }
    }

    /// Computes the status and hands it on, when anything changed. A pod that could not be read whole says nothing about itself.
    pub(super) fn publish(&mut self) {
        if self.published || self.observed.unread.is_some() {
            return;
        }
        self.published = true;
        let inputs = Inputs {
            view: self.any_view(),
            previous: &self.status,
            node_ips: &self.ctx.settings.node_ips,
            runtime_name: &self.ctx.settings.runtime_name,
            deleting: self.pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()),
        };
        let new = status::compute(&inputs).filter(|_| !self.gone);
        if let Some(new) = new.filter(|new| *new != *self.status) {
            let urgency = status::urgency(&self.status, &new);
            self.tell_back_offs(&new);
            self.status = Arc::new(new);
            if let Some(object) = &self.object {
                self.ctx.writer.set(object, Arc::clone(&self.status), urgency);
            }
        }
        if spec::has_ended(&self.status) {
            self.ctx.admission.release(&self.name.uid);
        }
        self.show_to_prober();
        let status = self.pod.as_ref().map(|_| &self.status);
        self.ctx.directory.write(&self.name.uid, self.pod.as_ref(), status, &self.observed);
    }

    /// Tells the prober what runs. It is there as long as there is something to probe, or will be.
    fn show_to_prober(&mut self) {
        let over = matches!(self.stage, Stage::Terminated { .. } | Stage::Finished);
        let Some(pod) = self.pod.as_ref().filter(|pod| !over && probes::probed(pod).next().is_some()) else {
            self.prober = None;
            return;
        };
        let view = self.any_view();
        let running = |name: &str| view.observed.containers.iter().find(|c| &*c.name == name && c.phase == ContainerPhase::Running);
        let targets = probes::probed(pod).filter_map(|container| {
            let record = running(&container.name)?;
            Some(probes::Target {
                id: record.id.clone(),
                name: container.name.clone(),
                started_at: record.started_at,
                started: view.verdict(container, record).started,
            })
        });
        let scene = probes::Scene {
            pod: Some(Arc::clone(pod)),
            pod_ip: self.status.pod_ip.clone().unwrap_or_default(),
            going_down: self.stage.cause().is_some(),
            targets: targets.collect(),
        };
        let start = || probes::Handle::start(Arc::clone(&self.ctx), self.name.clone(), Arc::clone(&self.mailbox));
        self.prober.get_or_insert_with(start).show(scene);
    }

    /// An event for each container that has begun to wait in a crash loop.
    fn tell_back_offs(&self, new: &PodStatus) {
        let Some(pod) = &self.pod else { return };
        for container in status::new_crash_loops(&self.status, new) {
            let name = &self.name;
            let message = format!("Back-off restarting failed container {container} in pod {}_{}({})", name.name, name.namespace, name.uid);
            let path = spec::field_path(pod, container);
            self.ctx.recorder.pod_event(name, Some(&path), EventType::Warning, "BackOff", message);
        }
    }

    /// The last thing that a worker does.
    pub(super) fn farewell(&mut self) {
        self.ctx.admission.release(&self.name.uid);
        if let Some(object) = &self.object {
            self.ctx.writer.forget(&object.uid);
        }
        self.ctx.images.forget(&self.name.uid);
        log_files::remove_pod(&self.ctx.translate.pod_logs_dir, &self.name);
        tracing::info!(pod = %self.name, uid = %self.name.uid, "Nothing is left of the pod");
    }
}

/// An ended container's record never changes, but its termination message is lost with the pod's directory.
fn keep_final_records(old: &ObservedPod, new: &mut ObservedPod) {
    for record in new.containers.iter_mut().filter(|c| c.phase == ContainerPhase::Exited) {
        if let Some(known) = old.containers.iter().find(|c| c.id == record.id && c.phase == ContainerPhase::Exited) {
            *record = known.clone();
        }
    }
}
