//! All statuses that pods ever had in the API server.

use std::cell::RefCell;

use futures::StreamExt;
use k8s_openapi::api::core::v1::PodStatus;
use kubelet_rs::api::{Api, WatchEvent};
use kubelet_rs::model::PodRef;

use crate::world::World;

#[derive(Default)]
pub struct History(RefCell<Vec<(PodRef, PodStatus)>>);

impl History {
    /// Writes it down. Never ends.
    pub async fn record(&self, world: &World) {
        let mut watch = world.api.watch_pods();
        while let Some(event) = watch.next().await {
            let pods = match event {
                WatchEvent::Applied(pod) => vec![pod],
                WatchEvent::Snapshot(pods) => pods,
                WatchEvent::Deleted(_) | WatchEvent::Failing(_) => vec![],
            };
            let told = pods.into_iter().map(|mut pod| (PodRef::of(&pod), pod.status.take().unwrap_or_default()));
            self.0.borrow_mut().extend(told);
        }
    }

    /// The statuses of pods of one name.
    pub fn of(&self, name: &str) -> Vec<PodStatus> {
        self.0.borrow().iter().filter(|(pod, _)| &*pod.name == name).map(|(_, status)| status.clone()).collect()
    }

    /// Checks what may never go back.
    pub fn check(&self) {
        let all = self.0.borrow();
        for (at, (pod, new)) in all.iter().enumerate() {
            if let Some((_, old)) = all.iter().take(at).rev().find(|(p, _)| p.uid == pod.uid) {
                check_pair(pod, old, new);
            }
        }
    }
}

/// A pod that ran is not pending again, unless its init containers run again in a new sandbox; one that is done stays so, and restart
/// counts only grow.
fn check_pair(pod: &PodRef, old: &PodStatus, new: &PodStatus) {
    let again = rank(old) == 1 && new.init_container_statuses.iter().flatten().any(|c| !c.ready && c.restart_count > 0);
    assert!(rank(old) <= rank(new) || again, "{pod}: {:?} after {:?}", new.phase, old.phase);
    if rank(old) == 2 {
        assert_eq!(old.phase, new.phase, "{pod}");
    }
    let after = counts(new);
    for (name, before) in counts(old) {
        let now = after.iter().find(|(n, _)| *n == name).map(|(_, count)| *count);
        assert!(now.is_some_and(|now| now >= before), "{pod}: restarts of {name}: {now:?} after {before}");
    }
}

fn rank(status: &PodStatus) -> u8 {
    match status.phase.as_deref() {
        Some("Running") => 1,
        Some("Succeeded" | "Failed") => 2,
        _ => 0,
    }
}

fn counts(status: &PodStatus) -> Vec<(&str, i32)> {
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().map(|c| (&*c.name, c.restart_count)).collect()
}
