//! What is allocated to each pod, and whose wish for more waits (upstream: `allocation_manager.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::{Pending, Resources};
use crate::model::qos::QosClass;
use crate::model::resources::PodResources;
use crate::model::{PodRef, PodUid};

/// Owned by the manager.
#[derive(Default)]
pub struct Queue {
    allocated: BTreeMap<PodUid, Resources>,
    waiting: BTreeMap<PodUid, Pod>,
    /// What was said of those that wait.
    told: BTreeMap<PodUid, Pending>,
}

impl Queue {
    /// A pod that is let in has what was allocated to it before, or what it asks for. Gives the pod with its allocation.
    pub fn begin(&mut self, mut pod: Pod) -> Pod {
        let restored = Resources::restored(&pod);
        let desired = restored == Resources::of(&pod);
        let uid = PodRef::of(&pod).uid;
        if !desired {
            self.waiting.insert(uid.clone(), pod.clone());
        }
        restored.put_into(&mut pod);
        self.allocated.insert(uid, restored);
        pod
    }

    /// Whether a known pod asks for something else than it has.
    pub fn differs(&self, pod: &Pod) -> bool {
        self.allocated.get(&PodRef::of(pod).uid).is_some_and(|allocated| *allocated != Resources::of(pod))
    }

    /// It gets what it asks for.
    pub fn grant(&mut self, pod: &Pod) {
        let uid = PodRef::of(pod).uid;
        self.content(&uid);
        self.allocated.insert(uid, Resources::of(pod));
    }

    /// It doesn't, now. Gives the pod with what it has.
    pub fn wait(&mut self, mut pod: Pod) -> Pod {
        let uid = PodRef::of(&pod).uid;
        self.waiting.insert(uid.clone(), pod.clone());
        if let Some(allocated) = self.allocated.get(&uid) {
            allocated.put_into(&mut pod);
        }
        pod
    }

    /// It asks for what it has.
    pub fn content(&mut self, uid: &PodUid) {
        self.waiting.remove(uid);
        self.told.remove(uid);
    }

    /// The pod is gone.
    pub fn forget(&mut self, uid: &PodUid) {
        self.allocated.remove(uid);
        self.content(uid);
    }

    /// Whether this has not been said of it yet.
    pub fn is_news(&mut self, uid: &PodUid, pending: &Pending) -> bool {
        self.told.insert(uid.clone(), pending.clone()).as_ref() != Some(pending)
    }

    /// Whether anybody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Those that wait, in the order in which they are looked at again: who asks for no more first, then by priority, class and age.
    pub fn waiting(&self) -> Vec<Pod> {
        let mut pods: Vec<Pod> = self.waiting.values().cloned().collect();
        let rank = |pod: &Pod| {
            let class = match QosClass::of(pod) {
                QosClass::Guaranteed => 0,
                QosClass::Burstable => 1,
                QosClass::BestEffort => 2,
            };
            let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
            (self.asks_for_more(pod), -i64::from(priority), class, pod.metadata.creation_timestamp.as_ref().map(|at| at.0))
        };
        pods.sort_by_cached_key(rank);
        pods
    }

    fn asks_for_more(&self, pod: &Pod) -> bool {
        let Some(allocated) = self.allocated.get(&PodRef::of(pod).uid) else { return true };
        let mut before = pod.clone();
        allocated.put_into(&mut before);
        let (new, old) = (PodResources::of(pod), PodResources::of(&before));
        let more = |name: &str| {
            new.requests.get(name).copied().unwrap_or_default().value() > old.requests.get(name).copied().unwrap_or_default().value()
        };
        new.milli_cpu_request() > old.milli_cpu_request() || more("memory")
    }
}
