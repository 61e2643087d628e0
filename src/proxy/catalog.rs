//! The Services of the cluster as other rooms read them.

use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::model::service::{Service, ServiceMap, ServiceName};

/// Every Service that has a cluster IP. Cheap to clone: all clones show the same Services; only the tracker changes them.
#[derive(Clone, Debug)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    services: RwLock<ServiceMap>,
    synced: watch::Sender<bool>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self(Arc::new(Inner { services: RwLock::default(), synced: watch::Sender::new(false) }))
    }
}

impl Catalog {
    /// Whether the first list of Services has arrived. Before that, absence means nothing.
    pub fn synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Returns when the first list of Services has arrived.
    pub async fn wait_synced(&self) {
        // The sender lives in `self`, so this can't fail.
        let _ = self.0.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// One Service.
    pub fn get(&self, id: &ServiceName) -> Option<Arc<Service>> {
        self.read(|services| services.get(id).cloned())
    }

    /// The Services of a namespace, by name.
    pub fn services_in(&self, namespace: &str) -> Vec<Arc<Service>> {
        let first = ServiceName { namespace: namespace.into(), name: Arc::default() };
        self.read(|services| {
            let from = services.range((Bound::Included(&first), Bound::Unbounded));
            from.take_while(|(id, _)| *id.namespace == *namespace).map(|(_, service)| service.clone()).collect()
        })
    }

    /// The same name, sharing its namespace's text with a Service that is here already.
    pub(super) fn share_namespace(&self, id: &ServiceName) -> ServiceName {
        let first = ServiceName { namespace: id.namespace.clone(), name: Arc::default() };
        let neighbour = self.read(|services| services.range(first..).next().map(|(neighbour, _)| neighbour.namespace.clone()));
        let namespace = neighbour.filter(|namespace| *namespace == id.namespace).unwrap_or_else(|| id.namespace.clone());
        ServiceName { namespace, name: id.name.clone() }
    }

    /// All names, in order.
    pub(super) fn names(&self) -> Vec<ServiceName> {
        self.read(|services| services.keys().cloned().collect())
    }

    /// Puts a Service in place or takes it away; returns what was there.
    pub(super) fn replace(&self, id: &ServiceName, service: Option<Arc<Service>>) -> Option<Arc<Service>> {
        let mut services = self.0.services.write().unwrap_or_else(PoisonError::into_inner);
        match service {
            Some(service) => services.insert(id.clone(), service),
            None => services.remove(id),
        }
    }

    pub(super) fn set_synced(&self) {
        self.0.synced.send_replace(true);
    }

    fn read<T>(&self, f: impl FnOnce(&ServiceMap) -> T) -> T {
        f(&self.0.services.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_namespace_shows_its_own_services_only() {
        let catalog = Catalog::default();
        assert!(!catalog.synced());
        for (namespace, name) in [("a", "x"), ("b", "y"), ("b", "z"), ("bb", "w")] {
            let id = ServiceName { namespace: namespace.into(), name: name.into() };
            let service = Service { id: id.clone(), ours: true, cluster_ips: vec![], ports: vec![], traffic: None };
            catalog.replace(&id, Some(Arc::new(service)));
        }
        let waiting = tokio::spawn({
            let catalog = catalog.clone();
            async move { catalog.wait_synced().await }
        });
        catalog.set_synced();
        waiting.await.unwrap();
        let names: Vec<_> = catalog.services_in("b").iter().map(|s| s.id.to_string()).collect();
        assert_eq!(names, ["b/y", "b/z"]);
        assert!(catalog.services_in("c").is_empty());
    }
}
