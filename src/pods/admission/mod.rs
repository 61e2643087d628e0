//! Whether a pod may run on this node at all (upstream: `lifecycle/predicate.go` and the other admit handlers).
//!
//! In: new pods from the manager, the Node object. Out: a yes, a [`Rejection`], or the pods that must go first. Owns: what the pods
//! that were let in take. Survives a restart: a pod's status, which has a start time once it was let in.

mod affinity;
mod apparmor;
mod fit;
mod host;
mod preempt;
mod pressure;
mod sysctls;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use tokio::sync::{Notify, watch};

use crate::api::Api;
use crate::model::node::Totals;
use crate::model::{PodRef, PodUid};
use crate::node::Pressures;
use crate::pods::resize::Pending;
use crate::pods::spec;

pub use fit::Demand;
pub use sysctls::Allowlist;

/// Why a pod may not run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// `status.reason`, and that of the event.
    pub reason: Cow<'static, str>,
    /// For people, without what stands before it in the status.
    pub message: String,
}

impl Rejection {
    fn new(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }

    /// A check of the scheduler's that fails here too.
    fn predicate(name: &'static str, why: &str) -> Self {
        Self::new(name, format!("Predicate {name} failed: {why}"))
    }
}

/// What becomes of a new pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It runs, and what it takes is counted.
    Admitted,
    /// It doesn't.
    Rejected(Rejection),
    /// It will, once these are gone.
    After(Vec<PodUid>),
}

/// The gate.
pub struct Admission {
    api: Arc<dyn Api>,
    node: watch::Receiver<Option<Arc<Node>>>,
    /// What pods may take, as long as no Node object says it.
    allocatable: Totals,
    pressures: Pressures,
    sysctls: Allowlist,
    apparmor: bool,
    admitted: Mutex<BTreeMap<PodUid, Demand>>,
    freed: Notify,
}

impl Admission {
    /// Of a node. `unsafe_sysctls`: patterns of `allowedUnsafeSysctls`.
    pub fn new(
        api: Arc<dyn Api>,
        node: watch::Receiver<Option<Arc<Node>>>,
        allocatable: Totals,
        pressures: Pressures,
        unsafe_sysctls: &[String],
    ) -> Self {
        let sysctls = Allowlist::new(unsafe_sysctls);
        Self { api, node, allocatable, pressures, sysctls, apparmor: apparmor::enabled(), admitted: Mutex::default(), freed: Notify::new() }
    }

    /// Decides about a pod that has no worker yet.
    pub async fn decide(&self, pod: &Pod) -> Decision {
        let uid = PodRef::of(pod).uid;
        let demand = Demand::of(pod);
        if was_admitted(pod) {
            self.lock().insert(uid, demand);
            return Decision::Admitted;
        }
        let node = self.node.borrow().clone();
        let mut decision = self.check(pod, node.as_deref(), &demand);
        if matches!(&decision, Decision::Rejected(r) if r.reason == affinity::NAME)
            && let Ok(fresh) = self.api.node().await
        {
            // Labels may have changed a moment ago, and the watch may be behind.
            decision = self.check(pod, Some(&fresh), &demand);
        }
        if decision == Decision::Admitted {
            self.lock().insert(uid, demand);
        }
        decision
    }

    /// A pod takes nothing any more.
    pub fn release(&self, uid: &PodUid) {
        if self.lock().remove(uid).is_some() {
            self.freed.notify_one();
        }
    }

    /// Ends when a pod that was in has gone since the last time. May be dropped at any time.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Whether a pod that is in may take what its spec now asks for. If so, that is counted from now on.
    pub fn resize(&self, pod: &Pod) -> Result<(), Pending> {
        let (uid, demand) = (PodRef::of(pod).uid, Demand::of(pod));
        let node = self.node.borrow().clone();
        let room = fit::Room::of(node.as_deref(), &self.allocatable);
        let mut admitted = self.lock();
        if let Some(lack) = fit::lacking(&demand, [].iter(), &room).first() {
            let fit::Lack { name, requested, capacity, .. } = lack;
            let message = format!("Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}");
            return Err(Pending { reason: "Infeasible", message });
        }
        let others = admitted.iter().filter(|(other, _)| **other != uid).map(|(_, demand)| demand);
        if let Some(lack) = fit::lacking(&demand, others, &room).first() {
            return Err(Pending { reason: "Deferred", message: lack.rejection().message });
        }
        admitted.insert(uid, demand);
        Ok(())
    }

    fn check(&self, pod: &Pod, node: Option<&Node>, demand: &Demand) -> Decision {
        let firm = pressure::check(pod, &self.pressures.now())
            .and_then(|()| self.sysctls.check(pod))
            .and_then(|()| host::os(pod))
            .and_then(|()| host::groups_policy(pod, node))
            .and_then(|()| apparmor::check(pod, self.apparmor))
            .and_then(|()| host::features(pod));
        if let Err(rejection) = firm {
            return Decision::Rejected(rejection);
        }
        let admitted = self.lock();
        let lacking = fit::lacking(demand, admitted.values(), &fit::Room::of(node, &self.allocatable));
        let fixed = node.map_or(Ok(()), |node| affinity::check(pod, node)).and_then(|()| fit::ports(demand, admitted.values()));
        let fixed = fixed.and_then(|()| node.map_or(Ok(()), |node| taints(pod, node)));
        match (lacking.first(), fixed) {
            (None, Ok(())) => Decision::Admitted,
            (None, Err(rejection)) => Decision::Rejected(rejection),
            (Some(first), Ok(())) if demand.critical => match preempt::choose(&lacking, demand, &admitted) {
                Ok(victims) => Decision::After(victims),
                Err(rejection) => Decision::Rejected(rejection.unwrap_or_else(|| first.rejection())),
            },
            (Some(first), _) => Decision::Rejected(first.rejection()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodUid, Demand>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An agent before this one has let the pod in: only then does a status have a start time. What changed on the node since is no reason
/// to end a pod that runs.
fn was_admitted(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

/// A taint with effect NoExecute keeps pods out, and so does the node for those that no scheduler has looked at. Static pods stay.
fn taints(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    let tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
    let tolerated = |taint: &Taint| tolerations.clone().any(|toleration| tolerates(toleration, taint));
    let mut taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten()).filter(|taint| taint.effect == "NoExecute");
    if spec::is_static(pod) || taints.all(tolerated) {
        return Ok(());
    }
    Err(Rejection::predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate"))
}

/// k8s.io/component-helpers, `ToleratesTaint`.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let effect = empty(&toleration.effect) || toleration.effect.as_deref() == Some(&taint.effect);
    let key = empty(&toleration.key) || toleration.key.as_deref() == Some(&taint.key);
    let value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
        Some(_) => false,
    };
    effect && key && value
}
