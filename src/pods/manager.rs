//! The one owner of the set of pods: it starts a worker for each, tells it what came, and finds what nobody wants any more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::admission::{Decision, Rejection};
use super::context::Context;
use super::log_files;
use super::mailbox::Mailbox;
use super::mirrors::{self, FullName};
use super::resize::{self, Pending, Resources};
use super::sources::{self, Delivery, Source};
use super::spec;
use super::stage::End;
use super::worker;
use crate::api::WatchEvent;
use crate::api::events::EventType;
use crate::model::hash::container_hash;
use crate::model::{PodRef, PodUid};
use crate::runtime::{self, ObservedPod, Outline};

/// How often everything is compared with the runtime, in case a hint was lost.
const RELIST: Duration = Duration::from_secs(60);
/// How long the first list waits for hints to come in.
const HINTS_FIRST: Duration = Duration::from_secs(1);
/// How long something that the runtime says about a pod without a worker may settle before it is looked into: most often it is the last
/// word about a pod that has just gone.
const SETTLE: Duration = Duration::from_secs(1);
/// Waits between tries to list the runtime's pods at the start.
const LIST_RETRY: Duration = Duration::from_secs(1);

/// Runs until dropped. `synced` turns true once every pod of the first snapshot has a worker.
pub async fn run(ctx: Arc<Context>, synced: watch::Sender<bool>) {
    // Hints first, then the list: what happens in between is seen twice, never missed. The first hint says that the others will come;
    // should it come later, it asks for another list.
    let mut hints = ctx.runtime.events();
    let _ = timeout(HINTS_FIRST, next(&mut hints)).await;
    let (sources, mut deliveries) = sources::watch(&ctx.sources);
    let mut pods = ctx.api.watch_pods();
    let known = list(&ctx).await;
    let gate = Arc::clone(&ctx);
    let mut manager = Manager::new(ctx, known, sources);
    let mut relist = interval_at(Instant::now() + RELIST, RELIST);
    relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        manager.ctx.heartbeat.beat();
        tokio::select! {
            event = next(&mut pods) => {
                manager.pod_event(event).await;
                if manager.ready && !*synced.borrow() {
                    synced.send_replace(true);
                }
            }
            Some(delivery) = deliveries.next(), if !manager.sources.is_empty() => {
                manager.delivered(delivery).await;
                if manager.ready && !*synced.borrow() {
                    synced.send_replace(true);
                }
            }
            hint = next(&mut hints) => match hint {
                Some(uid) => manager.hint(&uid),
                None => manager.relist(),
            },
            _ = relist.tick() => manager.relist(),
            Some(listed) = manager.lists.join_next(), if !manager.lists.is_empty() => manager.listed(listed),
            Some(found) = manager.strangers.join_next(), if !manager.strangers.is_empty() => manager.stranger(found),
            Some(ended) = manager.tasks.join_next(), if !manager.tasks.is_empty() => manager.ended(ended).await,
            () = gate.orders.arrived() => manager.obey(),
            () = gate.admission.freed(), if !(manager.waiting.is_empty() && manager.resizes.is_empty()) => manager.use_room().await,
        }
    }
}

/// Whether a mirror pod speaks of this static pod.
fn carries_on(mirror: &Pod, pod: &Pod) -> bool {
    let of = |pod: &Pod, name: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(name).cloned());
    of(mirror, "kubernetes.io/config.mirror") == of(pod, "kubernetes.io/config.hash")
}

/// The next item of a stream that never ends while the process lives.
async fn next<T>(stream: &mut BoxStream<'static, T>) -> T {
    match stream.next().await {
        Some(item) => item,
        None => std::future::pending().await,
    }
}

/// What the runtime has at the start. Nothing may be started before this is known, or it might run twice.
async fn list(ctx: &Context) -> HashMap<PodUid, ObservedPod> {
    let mut said = String::new();
    loop {
        let listed = ctx.runtime.list_pods().await;
        ctx.pleg.listed(listed.is_ok());
        match listed {
            Ok(pods) => return pods.into_iter().map(|p| (p.pod.uid.clone(), p)).collect(),
            Err(error) => {
                let text = error.to_string();
                if text != said {
                    tracing::error!(%error, "Can't list the runtime's pods, will keep trying; no pod is started before");
                    said = text;
                }
                sleep(LIST_RETRY).await;
            }
        }
    }
}

struct Worker {
    name: PodRef,
    /// The node's own pod: the API server has no say about it.
    is_static: bool,
    mailbox: Arc<Mailbox>,
    /// It was told that its pod is gone.
    gone: bool,
    /// The pod is there all the same: the API server's first answer came from a cache that was behind (`resourceVersion=0`). It starts
    /// anew once the worker is done with what ran.
    again: Option<Box<Pod>>,
}

impl Worker {
    fn gone(&mut self) {
        (self.gone, self.again) = (true, None);
        self.mailbox.gone();
    }
}

struct Manager {
    ctx: Arc<Context>,
    workers: HashMap<PodUid, Worker>,
    tasks: JoinSet<PodUid>,
    /// Critical pods for which others make room.
    waiting: Vec<Pod>,
    /// What is allocated to each pod.
    resizes: resize::Queue,
    /// What the runtime had at the start and nobody has asked for yet.
    known: HashMap<PodUid, ObservedPod>,
    /// The API server has told all pods once.
    told: bool,
    /// So have all other sources.
    ready: bool,
    /// The node's own sources of pods.
    sources: Vec<Source>,
    /// What they want, by source.
    statics: BTreeMap<Source, BTreeMap<PodUid, Pod>>,
    /// UIDs under which pods of another agent's are carried on, by the UID that their manifest has here.
    adopted: HashMap<PodUid, PodUid>,
    /// Mirror pods, as the API server has them.
    mirrors: BTreeMap<FullName, Pod>,
    /// The list that is being made, if any: it may take minutes, and no pod waits for it.
    lists: JoinSet<runtime::Result<Vec<Outline>>>,
    /// Something happened that no list shows yet.
    relist: bool,
    /// Looks at pods that nobody knows.
    strangers: JoinSet<(PodUid, runtime::Result<Option<ObservedPod>>)>,
    /// Those that a look is under way at, and whether the runtime has spoken of them again since.
    looked_at: HashMap<PodUid, bool>,
}

impl Manager {
    fn new(ctx: Arc<Context>, known: HashMap<PodUid, ObservedPod>, sources: Vec<Source>) -> Self {
        Self {
            ctx,
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            waiting: vec![],
            resizes: resize::Queue::default(),
            known,
            told: false,
            ready: false,
            sources,
            statics: BTreeMap::new(),
            adopted: HashMap::new(),
            mirrors: BTreeMap::new(),
            lists: JoinSet::new(),
            relist: false,
            strangers: JoinSet::new(),
            looked_at: HashMap::new(),
        }
    }

    async fn pod_event(&mut self, event: WatchEvent<Pod>) {
        match event {
            WatchEvent::Snapshot(pods) => self.snapshot(pods).await,
            WatchEvent::Applied(pod) if mirrors::is_mirror(&pod) => self.mirror(pod),
            WatchEvent::Applied(pod) => self.desired(spec::of_the_api_server(pod)).await,
            WatchEvent::Deleted(pod) if mirrors::is_mirror(&pod) => {
                let name = mirrors::full_name(&pod);
                if self.mirrors.get(&name).is_some_and(|known| known.metadata.uid == pod.metadata.uid) {
                    self.mirrors.remove(&name);
                }
                self.ctx.mirrors.gone(&pod);
            }
            WatchEvent::Deleted(pod) => {
                self.waiting.retain(|waiting| waiting.metadata.uid != pod.metadata.uid);
                if let Some(worker) = self.workers.get_mut(&PodRef::of(&pod).uid) {
                    worker.gone();
                }
            }
            WatchEvent::Failing(error) => tracing::warn!(%error, "Can't watch pods, will keep trying; those that run keep running"),
        }
    }

    async fn snapshot(&mut self, mut pods: Vec<Pod>) {
        let wanted: HashSet<PodUid> = pods.iter().map(|p| PodRef::of(p).uid).collect();
        // Those that came first are let in first (upstream: `HandlePodAdditions`).
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0));
        let (mirrored, own): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(mirrors::is_mirror);
        let there: HashSet<FullName> = mirrored.iter().map(mirrors::full_name).collect();
        self.mirrors.retain(|name, mirror| {
            let is_there = there.contains(name);
            if !is_there {
                self.ctx.mirrors.gone(mirror);
            }
            is_there
        });
        mirrored.into_iter().for_each(|pod| self.mirror(pod));
        for pod in own {
            self.desired(spec::of_the_api_server(pod)).await;
        }
        self.waiting.retain(|pod| wanted.contains(&PodRef::of(pod).uid));
        for (_, worker) in self.workers.iter_mut().filter(|(uid, worker)| !worker.is_static && !wanted.contains(*uid)) {
            worker.gone();
        }
        self.told = true;
        self.become_ready().await;
    }

    /// What one of the node's own sources has.
    async fn delivered(&mut self, (source, pods): Delivery) {
        let pods: Vec<Pod> = pods.into_iter().map(|pod| self.adopt(pod)).collect();
        let wanted = pods.into_iter().map(|pod| (PodRef::of(&pod).uid, pod)).collect();
        self.statics.insert(source, wanted);
        let known: HashSet<PodUid> = self.statics.values().flat_map(BTreeMap::keys).cloned().collect();
        for (_, worker) in self.workers.iter_mut().filter(|(uid, worker)| worker.is_static && !worker.gone && !known.contains(*uid)) {
            worker.gone();
        }
        self.start_statics().await;
        self.become_ready().await;
    }

    /// Starts static pods, as far as no other one of the same name is still there: a changed manifest is another pod, and waits until the
    /// one before it has ended.
    async fn start_statics(&mut self) {
        let wanted: Vec<Pod> = self.statics.values().flat_map(BTreeMap::values).cloned().collect();
        for mut pod in wanted {
            let name = PodRef::of(&pod);
            let namesake = |worker: &Worker| worker.is_static && worker.name.name == name.name && worker.name.namespace == name.namespace;
            if self.workers.values().any(namesake) {
                continue;
            }
            let mirror = self.mirrors.get(&mirrors::full_name(&pod)).cloned();
            if let Some(status) = mirror.as_ref().filter(|mirror| carries_on(mirror, &pod)).and_then(|mirror| mirror.status.clone()) {
                // What an agent before this one has told of the pod.
                pod.status = Some(status);
            }
            self.ctx.mirrors.want(&pod);
            self.desired(pod).await;
            if let (Some(mirror), Some(worker)) = (mirror, self.workers.get(&name.uid)) {
                worker.mailbox.mirror(mirror);
            }
        }
    }

    /// A pod that another agent has brought from the same manifest, such as the control plane before this agent came, is carried on under
    /// its UID, if what runs was made from the same containers.
    fn adopt(&mut self, mut pod: Pod) -> Pod {
        let own = PodRef::of(&pod);
        let same = |observed: &&ObservedPod| {
            let name = &observed.pod;
            let foreign = !name.uid.as_str().starts_with(sources::UID_MARK);
            let as_wanted =
                |record: &crate::runtime::Container| spec::container(&pod, &record.name).is_some_and(|c| container_hash(c) == record.hash);
            let named = name.name == own.name && name.namespace == own.namespace;
            foreign && named && !observed.containers.is_empty() && observed.containers.iter().all(as_wanted)
        };
        let found = self.known.values().find(same).map(|observed| observed.pod.uid.clone());
        if let Some(uid) = found.filter(|_| !self.ready) {
            tracing::info!(pod = %own, %uid, "A static pod that another agent has started is carried on");
            self.adopted.insert(own.uid.clone(), uid);
        }
        if let Some(uid) = self.adopted.get(&own.uid) {
            pod.metadata.uid = Some(uid.to_string());
            pod.metadata.annotations.get_or_insert_default().insert("kubernetes.io/config.hash".to_owned(), uid.to_string());
        }
        pod
    }

    /// A mirror pod is there, or has changed.
    fn mirror(&mut self, pod: Pod) {
        let name = mirrors::full_name(&pod);
        self.ctx.mirrors.seen(&pod);
        let is_of = |worker: &&Worker| worker.is_static && *worker.name.name == *name.1 && *worker.name.namespace == *name.0;
        if let Some(worker) = self.workers.values().find(is_of).filter(|_| pod.metadata.deletion_timestamp.is_none()) {
            worker.mailbox.mirror(pod.clone());
        }
        self.mirrors.insert(name, pod);
    }

    /// Only once every source has told what it wants is anything cleaned up.
    async fn become_ready(&mut self) {
        let all = self.told && self.sources.iter().all(|source| self.statics.contains_key(source));
        if all && !self.ready {
            self.ready = true;
            self.ctx.mirrors.synced();
            for (_, observed) in std::mem::take(&mut self.known) {
                self.orphan(observed.pod.clone(), Some(observed));
            }
            self.leftovers_on_disk().await;
            self.retry_resizes();
            if self.relist {
                self.relist();
            }
        }
    }

    /// Directories, logs and cgroups of pods that neither the API server nor the runtime knows.
    async fn leftovers_on_disk(&mut self) {
        let mut pods = log_files::pods_on_disk(&self.ctx.translate.pod_logs_dir);
        let mut uids = match self.ctx.volumes.pods_on_disk().await {
            Ok(uids) => uids,
            Err(error) => {
                tracing::warn!(%error, "Can't list the pods' directories; leftovers stay until the next start");
                vec![]
            }
        };
        match self.ctx.cgroups.pods_on_disk().await {
            Ok(more) => uids.extend(more),
            Err(error) => tracing::warn!(%error, "Can't list the pods' cgroups; leftovers stay until the next start"),
        }
        pods.extend(uids.into_iter().map(|uid| PodRef { namespace: "".into(), name: "".into(), uid }));
        for pod in pods {
            if !self.workers.contains_key(&pod.uid) {
                self.orphan(pod, None);
            }
        }
    }

    async fn desired(&mut self, pod: Pod) {
        let name = PodRef::of(&pod);
        if let Some(worker) = self.workers.get_mut(&name.uid) {
            match worker.gone {
                true => worker.again = Some(Box::new(pod)),
                false => self.hand_over(&name, pod),
            }
            return;
        }
        let pod = self.resizes.begin(pod);
        self.waiting.retain(|waiting| waiting.metadata.uid != pod.metadata.uid);
        let over = pod.metadata.deletion_timestamp.is_some() || pod.status.as_ref().is_some_and(spec::has_ended);
        let decision = if over { Decision::Admitted } else { self.ctx.admission.decide(&pod).await };
        let end = match decision {
            Decision::Admitted => None,
            Decision::Rejected(rejection) => Some(self.reject(&name, rejection)),
            Decision::After(victims) => {
                self.preempt(&name, &victims);
                self.waiting.push(pod);
                return;
            }
        };
        // A UID that the first list doesn't hold can't be in the runtime: only this agent makes sandboxes.
        let observed = self.known.remove(&name.uid).unwrap_or_else(|| ObservedPod::empty(name.clone()));
        let is_static = spec::is_static(&pod);
        self.spawn(name.clone(), Some(pod), observed);
        if let Some(worker) = self.workers.get_mut(&name.uid) {
            worker.is_static = is_static;
        }
        if let (Some(end), Some(worker)) = (end, self.workers.get(&name.uid)) {
            worker.mailbox.end(end);
        }
    }

    /// A new version of a pod goes to its worker, with the resources that it has or now gets.
    fn hand_over(&mut self, name: &PodRef, pod: Pod) {
        let (pod, pending) = if pod.metadata.deletion_timestamp.is_none() && self.resizes.differs(&pod) {
            match self.grant(name, &pod) {
                Ok(()) => (pod, None),
                Err(pending) => (self.resizes.wait(pod), Some(pending)),
            }
        } else {
            self.resizes.content(&name.uid);
            (pod, None)
        };
        if let Some(worker) = self.workers.get(&name.uid) {
            worker.mailbox.placed(pod, pending);
        }
    }

    /// Tries to allocate what a pod asks for.
    fn grant(&mut self, name: &PodRef, pod: &Pod) -> Result<(), Pending> {
        let recorder = &self.ctx.recorder;
        match self.ctx.admission.resize(pod) {
            Ok(()) => {
                self.resizes.grant(pod);
                recorder.pod_event(name, None, EventType::Normal, "ResizeStarted", resize::message("started", pod, None));
                Ok(())
            }
            Err(pending) => {
                if self.resizes.is_news(&name.uid, &pending) {
                    let message = resize::message(pending.reason, pod, Some(&pending.message));
                    recorder.pod_event(name, None, EventType::Warning, format!("Resize{}", pending.reason), message);
                }
                Err(pending)
            }
        }
    }

    /// Looks again at pods that wait for more resources.
    fn retry_resizes(&mut self) {
        for pod in self.resizes.waiting() {
            let name = PodRef::of(&pod);
            let granted = self.grant(&name, &pod);
            let Some(worker) = self.workers.get(&name.uid) else { continue };
            match granted {
                Ok(()) => worker.mailbox.granted(Resources::of(&pod)),
                Err(pending) => worker.mailbox.pending(pending),
            }
        }
    }

    /// A pod that may not run here ends before it has begun.
    fn reject(&self, name: &PodRef, rejection: Rejection) -> End {
        let Rejection { reason, message } = rejection;
        tracing::info!(pod = %name, %reason, %message, "Pod was rejected");
        self.ctx.recorder.pod_event(name, None, EventType::Warning, reason.clone(), message.clone());
        let message = format!("Pod was rejected: {message}");
        End { reason: reason.into_owned(), message, grace: None, disruption: None, fails: true, rejected: true }
    }

    /// Pods that make room for a critical one go down; it is let in once they are gone.
    fn preempt(&self, newcomer: &PodRef, victims: &[PodUid]) {
        for worker in victims.iter().filter_map(|uid| self.workers.get(uid)) {
            let (reason, message) = ("Preempting", "Preempted in order to admit critical pod");
            tracing::info!(pod = %worker.name, for_pod = %newcomer, "Pod makes room for a critical pod");
            self.ctx.recorder.pod_event(&worker.name, None, EventType::Warning, reason, message);
            worker.mailbox.end(End {
                reason: reason.to_owned(),
                message: message.to_owned(),
                grace: None,
                disruption: Some("Pod was preempted by Kubelet to accommodate a critical pod.".into()),
                fails: false,
                rejected: false,
            });
        }
    }

    /// Ends pods as other rooms have decided.
    fn obey(&self) {
        for (uid, end) in self.ctx.orders.take() {
            if let Some(worker) = self.workers.get(&uid) {
                worker.mailbox.end(end);
            }
        }
    }

    /// Looks again at pods that wait for others to go: the critical ones, then those that want more.
    async fn use_room(&mut self) {
        self.let_in_waiting().await;
        self.retry_resizes();
    }

    async fn let_in_waiting(&mut self) {
        for pod in std::mem::take(&mut self.waiting) {
            self.desired(pod).await;
        }
    }

    /// A pod that only the runtime or the disk knows: it goes down.
    fn orphan(&mut self, name: PodRef, observed: Option<ObservedPod>) {
        tracing::info!(pod = %name, uid = %name.uid, "Cleaning up a pod that the API server does not know");
        let observed = observed.unwrap_or_else(|| ObservedPod::empty(name.clone()));
        self.spawn(name, None, observed);
    }

    fn spawn(&mut self, name: PodRef, pod: Option<Pod>, observed: ObservedPod) {
        let mailbox = Arc::new(Mailbox::default());
        let gone = pod.is_none();
        match pod {
            Some(pod) => mailbox.desired(pod),
            None => mailbox.gone(),
        }
        let uid = name.uid.clone();
        let worker = worker::run(Arc::clone(&self.ctx), name.clone(), observed, Arc::clone(&mailbox));
        let ended = uid.clone();
        self.tasks.spawn(async move {
            worker.await;
            ended
        });
        self.workers.insert(uid, Worker { name, is_static: false, mailbox, gone, again: None });
    }

    fn hint(&mut self, uid: &PodUid) {
        match self.workers.get(uid) {
            Some(worker) => worker.mailbox.look(),
            // Its worker will begin with what the first list says, and that is old now.
            None if !self.ready => self.relist = true,
            None => self.look_at_stranger(uid),
        }
    }

    /// A sandbox that an agent before this one has asked for can come to be when its pod is deleted and forgotten already.
    fn look_at_stranger(&mut self, uid: &PodUid) {
        if let Some(again) = self.looked_at.get_mut(uid) {
            *again = true;
            return;
        }
        self.looked_at.insert(uid.clone(), false);
        let (runtime, uid) = (Arc::clone(&self.ctx.runtime), uid.clone());
        self.strangers.spawn(async move {
            sleep(SETTLE).await;
            let found = runtime.observe_pod(&uid).await;
            (uid, found)
        });
    }

    fn stranger(&mut self, found: Result<(PodUid, runtime::Result<Option<ObservedPod>>), tokio::task::JoinError>) {
        match found {
            Ok((uid, found)) => {
                let again = self.looked_at.remove(&uid).unwrap_or_default();
                if self.workers.contains_key(&uid) {
                    return;
                }
                // What could not be looked at is found by the next comparison.
                match found.ok().flatten() {
                    Some(observed) => self.orphan(observed.pod.clone(), Some(observed)),
                    None if again => self.look_at_stranger(&uid),
                    None => {}
                }
            }
            Err(error) => tracing::error!(%error, "Looking at a pod ended by a fault of its own"),
        }
    }

    /// Lists all that runs, as soon as there is somebody to compare it with.
    fn relist(&mut self) {
        self.relist = !self.ready || !self.lists.is_empty();
        if !self.relist {
            let runtime = Arc::clone(&self.ctx.runtime);
            self.lists.spawn(async move { runtime.outlines().await });
        }
    }

    fn listed(&mut self, listed: Result<runtime::Result<Vec<Outline>>, tokio::task::JoinError>) {
        self.ctx.pleg.listed(matches!(listed, Ok(Ok(_))));
        match listed {
            Ok(Ok(pods)) => self.compare(pods),
            Ok(Err(error)) => tracing::warn!(%error, "Can't compare with the runtime, will try again"),
            Err(error) => tracing::error!(%error, "Listing the runtime's pods ended by a fault of its own"),
        }
        if self.relist {
            self.relist();
        }
    }

    /// Compares all that runs with what the workers believe; tells those that are wrong to look, and finds strangers.
    fn compare(&mut self, pods: Vec<Outline>) {
        let mut missing: HashSet<PodUid> = self.ctx.directory.with_records().into_iter().collect();
        for listed in pods {
            missing.remove(&listed.pod.uid);
            match self.workers.get(&listed.pod.uid) {
                Some(worker) if !self.ctx.directory.is_up_to_date(&listed) => worker.mailbox.look(),
                Some(_) => {}
                None => self.look_at_stranger(&listed.pod.uid),
            }
        }
        for uid in missing {
            self.hint(&uid);
        }
    }

    async fn ended(&mut self, ended: Result<PodUid, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.ctx.directory.remove(&uid);
                self.resizes.forget(&uid);
                let Some(worker) = self.workers.remove(&uid) else { return };
                if worker.is_static {
                    self.ctx.mirrors.unwant((worker.name.namespace.to_string(), worker.name.name.to_string()), &uid);
                    return self.start_statics().await;
                }
                match worker.again {
                    Some(pod) => self.desired(*pod).await,
                    // A hint that came while the worker said good-bye.
                    None if worker.mailbox.take().look => self.look_at_stranger(&uid),
                    None => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "A pod worker ended by a fault of its own; its pod is left as it is until the agent restarts")
            }
        }
    }
}
