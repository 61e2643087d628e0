//! The one task that writes pod statuses: it coalesces, patches several pods at once with a bound, retries, and makes the final
//! delete of a pod once its last status is written.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::patch::patch;
use crate::api::{self, Api};
use crate::model::{PodRef, PodUid};
use crate::pods::spec;

/// Patches on their way at the same time.
const IN_FLIGHT: usize = 8;
/// First and longest wait after a failed patch.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How soon a status is worth a call of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it: ready, ended, failed.
    Now,
    /// A stage on the way that is often over before anybody could see it.
    Soon,
}

/// How long a [`Urgency::Soon`] status waits for a better one, at least and at most. When many wait, many pods are being started, and each
/// patch takes CPU from them.
const SOON: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// So many that wait make each of them wait another [`SOON`].
const MANY: u32 = 8;
/// How long a status that somebody else has changed stays so: two writers that disagree must not keep the API server busy.
const CORRECTION: Duration = Duration::from_secs(2);

/// An object's resource version: grows with each change (KEP-5504).
type Version = u64;

fn parse_version(version: Option<&str>) -> Option<Version> {
    version?.parse().ok()
}

enum Message {
    /// What the API server had when the worker began.
    Base(PodRef, Option<Version>, Arc<PodStatus>),
    Set(PodRef, Arc<PodStatus>, Urgency),
    /// What a watch shows of a pod whose worker has begun long ago.
    Seen(PodUid, Version, Box<PodStatus>),
    /// Write what is set, then delete the object.
    Finish(PodUid),
    Forget(PodUid),
}

/// Handle to the task. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    sender: mpsc::UnboundedSender<Message>,
}

impl Writer {
    /// A handle, and the task's future: it ends when all handles are dropped.
    pub fn new(api: Arc<dyn Api>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, run(api, receiver))
    }

    /// Tells what the API server has, and at which resource version, so that an equal status is not written again.
    pub fn base(&self, pod: &PodRef, version: Option<&str>, status: Arc<PodStatus>) {
        self.send(Message::Base(pod.clone(), parse_version(version), status));
    }

    /// Sets the status of a pod; it is written soon.
    pub fn set(&self, pod: &PodRef, status: Arc<PodStatus>, urgency: Urgency) {
        self.send(Message::Set(pod.clone(), status, urgency));
    }

    /// Tells what a watch shows, with the object's resource version: where somebody else has changed the node's fields after the last
    /// write, they are written again (upstream: `status_manager.go`, `needsReconcile`).
    pub fn seen(&self, pod: &PodUid, version: Option<&str>, status: PodStatus) {
        if let Some(version) = parse_version(version) {
            self.send(Message::Seen(pod.clone(), version, Box::new(status)));
        }
    }

    /// Deletes the pod's object for good, after its last status.
    pub fn finish(&self, pod: &PodUid) {
        self.send(Message::Finish(pod.clone()));
    }

    /// Drops what is known of a pod whose object is gone.
    pub fn forget(&self, pod: &PodUid) {
        self.send(Message::Forget(pod.clone()));
    }

    fn send(&self, message: Message) {
        // The task ends only with the process.
        let _ = self.sender.send(message);
    }
}

/// What is known of one pod.
struct Entry {
    pod: PodRef,
    wanted: Option<Arc<PodStatus>>,
    /// What the API server has, as far as the node's fields go.
    sent: Option<Arc<PodStatus>>,
    /// What the API server made of the last write. It may differ from what was sent, where the server fills in or drops fields.
    answer: Option<Shown>,
    /// What a watch showed while a write was on its way.
    meanwhile: Option<(Shown, Box<PodStatus>)>,
    finish: bool,
    busy: bool,
    due: Option<Instant>,
    failures: u32,
}

impl Entry {
    /// Has the node's fields written again, if what a watch shows is newer than the last write, and not what came of it. A write that is
    /// on its way may be what the watch shows; its answer will tell.
    fn correct(&mut self) {
        let Some(answer) = self.answer.as_ref().filter(|_| !self.busy) else { return };
        let Some((shown, status)) = self.meanwhile.take() else { return };
        if shown.version <= answer.version || shown.fields == answer.fields {
            return;
        }
        self.answer = Some(shown);
        // An end is never taken back; the worker heeds it and will say so.
        if !spec::has_ended(&status) || self.wanted.as_deref().is_some_and(spec::has_ended) {
            tracing::info!(pod = %self.pod, "Somebody else changed the pod's status; it is written again");
            self.due.get_or_insert(Instant::now() + CORRECTION);
        }
        self.sent = Some(Arc::from(status));
    }
}

/// What the API server had at some version, as far as the node's fields go.
struct Shown {
    version: Version,
    /// Hash of the patch that would write it: a status itself would take kilobytes for each pod.
    fields: u64,
}

impl Shown {
    fn new(pod: &PodRef, version: Version, status: &PodStatus) -> Self {
        let mut hasher = DefaultHasher::new();
        patch(pod, status, None).to_string().hash(&mut hasher);
        Self { version, fields: hasher.finish() }
    }
}

/// The outcome of a call.
enum Done {
    /// Written, and what came of it.
    Patched(Arc<PodStatus>, Box<Pod>),
    Deleted,
    /// The object is gone.
    Vanished,
    Failed(api::Error),
}

async fn run(api: Arc<dyn Api>, mut inbox: mpsc::UnboundedReceiver<Message>) {
    let mut entries: HashMap<PodUid, Entry> = HashMap::new();
    let mut calls: JoinSet<(PodUid, Done)> = JoinSet::new();
    loop {
        let next = start_due(&api, &mut entries, &mut calls);
        tokio::select! {
            message = inbox.recv() => match message {
                Some(message) => receive(&mut entries, message),
                None => return,
            },
            Some(Ok((uid, done))) = calls.join_next(), if !calls.is_empty() => settle(&mut entries, &uid, done),
            () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
        }
    }
}

fn receive(entries: &mut HashMap<PodUid, Entry>, message: Message) {
    let now = Instant::now();
    match message {
        Message::Base(pod, version, status) => {
            let entry = entry_of(entries, pod);
            entry.answer = version.map(|version| Shown::new(&entry.pod, version, &status));
            // Until the worker has something better to say.
            entry.wanted = Some(Arc::clone(&status));
            entry.sent = Some(status);
        }
        Message::Set(pod, status, urgency) => {
            let due = match urgency {
                Urgency::Now => now,
                Urgency::Soon => now + soon(entries.values().filter(|e| e.due.is_some_and(|due| due > now)).count()),
            };
            let entry = entry_of(entries, pod);
            entry.due = Some(entry.due.map_or(due, |old| old.min(due)));
            entry.wanted = Some(status);
        }
        Message::Seen(uid, version, status) => {
            if let Some(entry) = entries.get_mut(&uid) {
                entry.meanwhile = Some((Shown::new(&entry.pod, version, &status), status));
                entry.correct();
            }
        }
        Message::Finish(uid) => {
            if let Some(entry) = entries.get_mut(&uid) {
                entry.finish = true;
                entry.due = Some(now);
            }
        }
        Message::Forget(uid) => {
            entries.remove(&uid);
        }
    }
}

/// How long a status waits when so many others do.
fn soon(others: usize) -> Duration {
    let times = 1 + u32::try_from(others).unwrap_or(u32::MAX) / MANY;
    SOON.0.saturating_mul(times).min(SOON.1)
}

fn entry_of(entries: &mut HashMap<PodUid, Entry>, pod: PodRef) -> &mut Entry {
    entries.entry(pod.uid.clone()).or_insert_with(|| Entry {
        pod,
        wanted: None,
        sent: None,
        answer: None,
        meanwhile: None,
        finish: false,
        busy: false,
        due: None,
        failures: 0,
    })
}

/// Starts the calls that are due, as far as the bound allows. Returns when the next one is.
fn start_due(api: &Arc<dyn Api>, entries: &mut HashMap<PodUid, Entry>, calls: &mut JoinSet<(PodUid, Done)>) -> Option<Instant> {
    let now = Instant::now();
    let mut next: Option<Instant> = None;
    for (uid, entry) in entries.iter_mut() {
        let Some(due) = entry.due.filter(|_| !entry.busy) else { continue };
        if due > now {
            next = Some(next.map_or(due, |n| n.min(due)));
            continue;
        }
        if calls.len() >= IN_FLIGHT {
            // The end of any call leads back here.
            break;
        }
        entry.due = None;
        let body = entry.wanted.clone().filter(|w| !same(&entry.pod, entry.sent.as_deref(), w));
        let (api, pod, uid) = (Arc::clone(api), entry.pod.clone(), uid.clone());
        match body {
            Some(status) => {
                let sent = entry.sent.clone();
                calls.spawn(async move {
                    (
                        uid,
                        outcome(
                            api.patch_pod_status(&pod, patch(&pod, &status, sent.as_deref()))
                                .await
                                .map(|pod| Done::Patched(status, Box::new(pod))),
                        ),
                    )
                });
            }
            None if entry.finish => {
                calls.spawn(async move { (uid, outcome(api.delete_pod(&pod, 0).await.map(|()| Done::Deleted))) });
            }
            None => continue,
        }
        entry.busy = true;
    }
    next
}

/// A conflict may mean that another pod has the name now, of which the watch tells the worker; but it may be that the server lost a race
/// against other writers, and then nobody else asks again.
fn outcome(result: api::Result<Done>) -> Done {
    result.unwrap_or_else(|e| if e.is_not_found() { Done::Vanished } else { Done::Failed(e) })
}

fn settle(entries: &mut HashMap<PodUid, Entry>, uid: &PodUid, done: Done) {
    let Some(entry) = entries.get_mut(uid) else { return };
    entry.busy = false;
    let now = Instant::now();
    match done {
        Done::Patched(status, pod) => {
            entry.failures = 0;
            entry.sent = Some(status);
            let Pod { metadata, status, .. } = *pod;
            let version = parse_version(metadata.resource_version.as_deref());
            entry.answer = version.map(|version| Shown::new(&entry.pod, version, &status.unwrap_or_default()));
            if entry.finish {
                entry.due = Some(now);
            }
            entry.correct();
        }
        // The watch tells the worker; until then there is nothing to write.
        Done::Deleted | Done::Vanished => {
            entry.due = None;
            entry.finish = false;
        }
        Done::Failed(error) => {
            if entry.failures == 0 {
                tracing::warn!(pod = %entry.pod, %error, "Failed to write the pod's status, will try again");
            }
            entry.failures = entry.failures.saturating_add(1);
            entry.due = Some(now + RETRY.0.saturating_mul(1 << entry.failures.min(8)).min(RETRY.1));
        }
    }
}

/// Whether two statuses lead to the same patch: fields of others don't count.
fn same(pod: &PodRef, old: Option<&PodStatus>, new: &PodStatus) -> bool {
    old.is_some_and(|old| old == new || patch(pod, old, None) == patch(pod, new, None))
}
