//! Mirror pods: what the API server knows of static pods (upstream: `pod/mirror_client.go`, `kubelet.go`, `tryReconcileMirrorPods`).
//!
//! In: static pods that run, mirror pods that a watch shows, the Node object. Out: mirror pods created and deleted. Owns: one task. Survives a
//! restart: the mirror pods themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::api::Api;
use crate::model::{PodRef, PodUid};

/// On a mirror pod: the hash of its static pod's manifest.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// On a static pod: the same.
const HASH: &str = "kubernetes.io/config.hash";
/// First and longest wait after a call that failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Whether a pod of the API server only mirrors one of a node's own.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Namespace and name, which a static pod and its mirror share.
pub type FullName = (String, String);

/// Of a pod.
pub fn full_name(pod: &Pod) -> FullName {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&pod.metadata.namespace), text(&pod.metadata.name))
}

enum Message {
    Want(Arc<Pod>),
    Unwant(FullName, PodUid),
    Seen(Box<Pod>),
    Gone(FullName, PodUid),
    Synced,
}

/// Handle to the task.
pub struct Mirrors {
    sender: mpsc::UnboundedSender<Message>,
}

impl Mirrors {
    /// A handle, and the task's future. It begins to act once the Node is there and all mirror pods have been seen.
    pub fn new(api: Arc<dyn Api>, node: watch::Receiver<Option<Arc<Node>>>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, run(api, node, receiver))
    }

    /// A static pod is to have a mirror.
    pub fn want(&self, pod: &Pod) {
        self.send(Message::Want(Arc::new(pod.clone())));
    }

    /// A static pod has ended, and needs none any more.
    pub fn unwant(&self, name: FullName, uid: &PodUid) {
        self.send(Message::Unwant(name, uid.clone()));
    }

    /// A mirror pod as it is.
    pub fn seen(&self, pod: &Pod) {
        self.send(Message::Seen(Box::new(pod.clone())));
    }

    /// A mirror pod is gone.
    pub fn gone(&self, pod: &Pod) {
        self.send(Message::Gone(full_name(pod), PodRef::of(pod).uid));
    }

    /// All that there are have been seen.
    pub fn synced(&self) {
        self.send(Message::Synced);
    }

    fn send(&self, message: Message) {
        // The task ends only with the process.
        let _ = self.sender.send(message);
    }
}

/// What the API server has.
struct Mirror {
    pod: PodRef,
    hash: String,
    deleting: bool,
}

impl Mirror {
    fn of(pod: &Pod) -> Self {
        let hash = annotation(pod, MIRROR).unwrap_or_default().to_owned();
        Self { pod: PodRef::of(pod), hash, deleting: pod.metadata.deletion_timestamp.is_some() }
    }
}

/// What one pod's mirror needs.
enum Need {
    Create(Arc<Pod>),
    Delete(PodRef),
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<FullName, Arc<Pod>>,
    seen: BTreeMap<FullName, Mirror>,
    synced: bool,
    waits: BTreeMap<FullName, (Instant, u32)>,
}

impl State {
    fn take(&mut self, message: Message) {
        match message {
            Message::Want(pod) => drop(self.wanted.insert(full_name(&pod), pod)),
            Message::Unwant(name, uid) => {
                if self.wanted.get(&name).is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid.as_str())) {
                    self.wanted.remove(&name);
                }
            }
            Message::Seen(pod) => drop(self.seen.insert(full_name(&pod), Mirror::of(&pod))),
            Message::Gone(name, uid) => {
                if self.seen.get(&name).is_some_and(|mirror| mirror.pod.uid == uid) {
                    self.seen.remove(&name);
                }
            }
            Message::Synced => self.synced = true,
        }
    }

    /// The next thing to do, as far as nothing of it has to wait; else until when.
    fn next(&self, now: Instant) -> Result<(FullName, Need), Option<Instant>> {
        let mut wake: Option<Instant> = None;
        for name in self.wanted.keys().chain(self.seen.keys()).filter(|_| self.synced) {
            let Some(need) = self.need(name) else { continue };
            match self.waits.get(name).filter(|(at, _)| *at > now) {
                None => return Ok((name.clone(), need)),
                Some((at, _)) => wake = Some(wake.map_or(*at, |w| w.min(*at))),
            }
        }
        Err(wake)
    }

    fn need(&self, name: &FullName) -> Option<Need> {
        match (self.wanted.get(name), self.seen.get(name)) {
            (Some(pod), None) => Some(Need::Create(Arc::clone(pod))),
            (Some(pod), Some(mirror)) if mirror.deleting || annotation(pod, HASH) != Some(&mirror.hash) => {
                Some(Need::Delete(mirror.pod.clone()))
            }
            (Some(_), Some(_)) | (None, None) => None,
            (None, Some(mirror)) => Some(Need::Delete(mirror.pod.clone())),
        }
    }

    fn failed(&mut self, name: FullName, now: Instant) {
        let failures = self.waits.get(&name).map_or(0, |(_, failures)| *failures);
        let wait = RETRY.0.saturating_mul(1 << failures.min(6)).min(RETRY.1);
        self.waits.insert(name, (now + wait, failures + 1));
    }
}

async fn run(api: Arc<dyn Api>, mut nodes: watch::Receiver<Option<Arc<Node>>>, mut messages: mpsc::UnboundedReceiver<Message>) {
    let mut state = State::default();
    loop {
        while let Ok(message) = messages.try_recv() {
            state.take(message);
        }
        let node = nodes.borrow_and_update().clone().filter(|node| node.metadata.deletion_timestamp.is_none());
        let wake = match (node, state.next(Instant::now())) {
            (Some(node), Ok((name, need))) => {
                act(api.as_ref(), &node, &mut state, name, need).await;
                continue;
            }
            (None, Ok(_)) => None,
            (_, Err(wake)) => wake,
        };
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => state.take(message),
                None => return,
            },
            changed = nodes.changed() => if changed.is_err() {
                // The node room has ended: only in tests, and with the process.
                match messages.recv().await {
                    Some(message) => state.take(message),
                    None => return,
                }
            },
            () = async { sleep_until(wake.unwrap_or_else(Instant::now)).await }, if wake.is_some() => {}
        }
    }
}

async fn act(api: &dyn Api, node: &Node, state: &mut State, name: FullName, need: Need) {
    let result = match need {
        Need::Create(pod) => match api.create_pod(&mirror_of(&pod, node)).await {
            Ok(made) => {
                state.seen.insert(name.clone(), Mirror::of(&made));
                Ok(())
            }
            Err(error) => Err(error),
        },
        Need::Delete(pod) => match api.delete_pod(&pod, 0).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => {
                state.seen.remove(&name);
                Ok(())
            }
        },
    };
    match result {
        Ok(()) => drop(state.waits.remove(&name)),
        Err(error) => {
            tracing::warn!(pod = %format!("{}/{}", name.0, name.1), %error, "Can't bring a static pod's mirror up to date, will try again");
            state.failed(name, Instant::now());
        }
    }
}

/// The object that stands for a static pod.
fn mirror_of(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = Pod::clone(pod);
    mirror.status = None;
    let hash = annotation(pod, HASH).unwrap_or_default().to_owned();
    let meta = &mut mirror.metadata;
    meta.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    meta.uid = None;
    meta.resource_version = None;
    // Without it, the API server lets no node create a pod (KEP-1314).
    meta.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}
