//! Cgroups in memory, for tests of other rooms.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

use super::{CgroupError, PodCgroups};
use crate::model::PodUid;

/// Remembers which pods have a cgroup.
#[derive(Debug, Default)]
pub struct FakeCgroups {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeSet<PodUid>,
    failure: Option<String>,
}

impl FakeCgroups {
    /// Makes every call fail with this message, or none.
    pub fn fail_with(&self, message: Option<&str>) {
        self.state().failure = message.map(str::to_owned);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, uid: &PodUid) -> Result<MutexGuard<'_, State>, CgroupError> {
        let state = self.state();
        match &state.failure {
            Some(message) => Err(CgroupError { cgroup: format!("/kubepods/pod{uid}"), message: message.clone() }),
            None => Ok(state),
        }
    }
}

#[async_trait]
impl PodCgroups for FakeCgroups {
    async fn set_up(&self, pod: &Pod) -> Result<String, CgroupError> {
        let uid = PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default());
        self.check(&uid)?.pods.insert(uid.clone());
        Ok(format!("/kubepods/pod{uid}"))
    }

    async fn tear_down(&self, uid: &PodUid) -> Result<(), CgroupError> {
        self.check(uid)?.pods.remove(uid);
        Ok(())
    }

    async fn pods_on_disk(&self) -> Result<Vec<PodUid>, CgroupError> {
        Ok(self.check(&"".into())?.pods.iter().cloned().collect())
    }
}
