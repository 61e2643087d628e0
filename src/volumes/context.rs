//! What the volumes of one pod have in common. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, SecurityContext};

use super::objects::{FRESH, TTL};
use crate::model::{PodRef, PodUid};

/// A pod whose volumes are being set up.
#[derive(Debug)]
pub(super) struct PodContext<'a> {
    /// The pod as the API server gave it.
    pub(super) pod: &'a Pod,
    /// Its names.
    pub(super) names: PodRef,
    /// The group that its volumes are given to.
    pub(super) fs_group: Option<u32>,
    /// The user that all its containers run as, when they agree.
    pub(super) user: Option<u32>,
    /// Not all volumes have been set up by this process before.
    pub(super) first: bool,
}

impl<'a> PodContext<'a> {
    /// Reads what matters from the spec.
    pub(super) fn new(pod: &'a Pod, first: bool) -> Self {
        let security = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
        let fs_group = security.and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok());
        Self { pod, names: PodRef::of(pod), fs_group, user: common_user(pod), first }
    }

    /// How old copies of objects may be.
    pub(super) fn max_age(&self) -> Duration {
        if self.first { FRESH } else { TTL }
    }
}

/// The user id that every container of the pod runs as by its spec; `None` when one names none or they differ.
fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let user = |context: &Option<SecurityContext>| context.as_ref().and_then(|s| s.run_as_user).or(of_pod);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| &c.security_context);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| &c.security_context);
    let mut users = containers.chain(ephemeral).map(user);
    let first = users.next()??;
    if users.all(|u| u == Some(first)) { u32::try_from(first).ok() } else { None }
}

/// A duration from zero up to `limit` that is always the same for a pod: spreads the pods of a node over time.
pub(super) fn spread(uid: &PodUid, limit: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    limit.mul_f64((hasher.finish() % 1024) as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::tests::pod;
    use serde_json::json;

    #[test]
    fn the_user_that_all_agree_on() {
        let c = |user: Option<i64>| json!({"name": "c", "image": "i", "securityContext": {"runAsUser": user}});
        let table = [
            (json!({"containers": [c(Some(7)), c(Some(7))]}), Some(7)),
            (json!({"containers": [c(Some(7)), c(None)]}), None),
            (json!({"containers": [c(Some(7)), c(Some(8))]}), None),
            (json!({"containers": [c(Some(7))], "initContainers": [c(Some(8))]}), None),
            (json!({"containers": [c(None)], "initContainers": [c(Some(9))], "securityContext": {"runAsUser": 9}}), Some(9)),
            (json!({"containers": [c(Some(-1))]}), None),
            (json!({"containers": []}), None),
        ];
        for (spec, want) in table {
            assert_eq!(PodContext::new(&pod(spec.clone()), true).user, want, "{spec}");
        }
    }

    #[test]
    fn spread_is_steady_and_below_its_limit() {
        let limit = Duration::from_secs(30);
        let all: Vec<_> = (0..100).map(|n| spread(&PodUid::from(format!("uid-{n}")), limit)).collect();
        assert!(all.iter().all(|d| *d < limit));
        assert!(all.iter().any(|d| *d < limit / 4) && all.iter().any(|d| *d > limit / 4 * 3));
        assert_eq!(all.first(), Some(&spread(&PodUid::from("uid-0"), limit)));
    }
}
