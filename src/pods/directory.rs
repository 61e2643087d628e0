//! What the workers know, for those who only read: the server and the manager's own comparison with the runtime.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{ContainerTarget, PodLookup, spec};
use crate::model::{ContainerId, PodUid, SandboxId};
use crate::runtime::{ContainerPhase, ObservedPod, Outline};

/// One pod's page.
#[derive(Clone)]
struct Page {
    /// Without its status.
    pod: Option<Arc<Pod>>,
    status: Option<Arc<PodStatus>>,
    containers: Vec<Line>,
    sandboxes: Vec<(SandboxId, bool)>,
}

impl Page {
    fn is_active(&self) -> bool {
        let is_over = self.status.as_ref().is_some_and(|status| spec::has_ended(status));
        !is_over && self.pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    }
}

/// One container of a page, newest first.
#[derive(Clone)]
struct Line {
    name: Arc<str>,
    phase: ContainerPhase,
    target: ContainerTarget,
}

/// All pages. Each worker writes its own.
#[derive(Default)]
pub struct Directory {
    pages: RwLock<HashMap<PodUid, Arc<Page>>>,
}

impl Directory {
    /// Replaces a pod's page.
    pub fn write(&self, uid: &PodUid, pod: Option<&Arc<Pod>>, status: Option<&Arc<PodStatus>>, observed: &ObservedPod) {
        let containers = observed.containers.iter().map(|c| Line {
            name: Arc::clone(&c.name),
            phase: c.phase,
            target: ContainerTarget { id: c.id.clone(), log_path: c.log_path.clone(), running: c.phase == ContainerPhase::Running },
        });
        let page = Page {
            pod: pod.cloned(),
            status: status.cloned(),
            containers: containers.collect(),
            sandboxes: observed.sandboxes.iter().map(|s| (s.id.clone(), s.ready)).collect(),
        };
        self.pages.write().unwrap_or_else(PoisonError::into_inner).insert(uid.clone(), Arc::new(page));
    }

    /// Removes a pod's page.
    pub fn remove(&self, uid: &PodUid) {
        self.pages.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Whether a pod's page says the same as the runtime's lists. Pods without a page are never up to date.
    pub fn is_up_to_date(&self, listed: &Outline) -> bool {
        let Some(page) = self.page(&listed.pod.uid) else { return false };
        let mut mine: Vec<(&ContainerId, ContainerPhase)> = page.containers.iter().map(|l| (&l.target.id, l.phase)).collect();
        let mut theirs: Vec<_> = listed.containers.iter().map(|(id, phase)| (id, *phase)).collect();
        let mut my_sandboxes: Vec<_> = page.sandboxes.iter().map(|(id, ready)| (id, *ready)).collect();
        let mut their_sandboxes: Vec<_> = listed.sandboxes.iter().map(|(id, ready)| (id, *ready)).collect();
        mine.sort_by_key(|l| l.0);
        theirs.sort_by_key(|l| l.0);
        my_sandboxes.sort_by_key(|l| l.0);
        their_sandboxes.sort_by_key(|l| l.0);
        mine == theirs && my_sandboxes == their_sandboxes
    }

    /// Pods whose pages name anything that lives in the runtime.
    pub fn with_records(&self) -> Vec<PodUid> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.iter().filter(|(_, p)| !p.containers.is_empty() || !p.sandboxes.is_empty()).map(|(uid, _)| uid.clone()).collect()
    }

    /// Pods that have not ended and that nobody has deleted, without their statuses.
    pub fn active(&self, filter: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let pods = pages.values().filter(|page| page.is_active()).filter_map(|page| page.pod.as_ref());
        pods.filter(|pod| filter(pod)).cloned().collect()
    }

    /// Whether a pod is there and has not ended.
    pub fn is_active(&self, uid: &PodUid) -> bool {
        self.page(uid).is_some_and(|page| page.is_active())
    }

    /// The newest instance of each of a pod's containers.
    pub fn newest(&self, uid: &PodUid) -> Vec<(Arc<str>, ContainerId)> {
        let mut newest: Vec<(Arc<str>, ContainerId)> = vec![];
        for line in self.page(uid).iter().flat_map(|page| &page.containers) {
            if !newest.iter().any(|(name, _)| *name == line.name) {
                newest.push((Arc::clone(&line.name), line.target.id.clone()));
            }
        }
        newest
    }

    /// Log files of the containers that run.
    pub fn running_logs(&self) -> Vec<(ContainerId, PathBuf)> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let lines = pages.values().flat_map(|p| &p.containers).filter(|l| l.target.running && !l.target.log_path.is_empty());
        lines.map(|l| (l.target.id.clone(), PathBuf::from(&l.target.log_path))).collect()
    }

    fn page(&self, uid: &PodUid) -> Option<Arc<Page>> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    fn pages(&self) -> Vec<Arc<Page>> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The object as the API server would show it.
fn whole(page: &Page) -> Option<Arc<Pod>> {
    let mut pod = Pod::clone(page.pod.as_ref()?);
    pod.status = page.status.as_deref().cloned();
    Some(Arc::new(pod))
}

impl PodLookup for Directory {
    fn all(&self) -> Vec<Arc<Pod>> {
        self.pages().iter().filter_map(|p| whole(p)).collect()
    }

    fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let is = |pod: &Arc<Pod>| pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name);
        let mut found: Vec<_> = self.pages().into_iter().filter(|p| p.pod.as_ref().is_some_and(is)).collect();
        // A namesake that is on its way out stands behind the living one.
        found.sort_by_key(|p| p.pod.as_ref().is_some_and(|p| p.metadata.deletion_timestamp.is_some()));
        found.first().and_then(|p| whole(p))
    }

    fn container(&self, uid: &PodUid, name: &str, previous: bool) -> Option<ContainerTarget> {
        let page = self.page(uid)?;
        // A container that was made and not started has no log yet, and whoever follows it would take that for its end.
        let mut started = page.containers.iter().filter(|l| &*l.name == name && l.phase != ContainerPhase::Created);
        started.nth(usize::from(previous)).map(|l| l.target.clone())
    }

    fn sandbox(&self, uid: &PodUid) -> Option<SandboxId> {
        let page = self.page(uid)?;
        page.sandboxes.iter().find(|(_, ready)| *ready).map(|(id, _)| id.clone())
    }
}
