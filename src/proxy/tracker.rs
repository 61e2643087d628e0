//! The one owner of Services and EndpointSlices: applies watch events and says which Services changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::api::WatchEvent;
use crate::model::service::{EndpointSlice, Service, ServiceName};

use super::catalog::Catalog;

/// The Services to look at again, each with the version that was there when it was last taken (`None`: it didn't exist).
pub type Changes = BTreeMap<ServiceName, Option<Arc<Service>>>;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Tracker {
    catalog: Catalog,
    /// By Service; of each Service sorted by slice name, so that every run decides alike.
    slices: HashMap<ServiceName, Vec<EndpointSlice>>,
    /// The Service (of the same namespace) that a slice belongs to.
    owners: HashMap<ServiceName, Arc<str>>,
    slices_synced: bool,
    changes: Changes,
}

impl Tracker {
    /// The Services as other rooms read them.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Whether both watches delivered their first snapshot. Before that nothing may be programmed: a Service whose slices are still on
    /// their way would look as if it had no endpoints.
    pub fn ready(&self) -> bool {
        self.slices_synced && self.catalog.synced()
    }

    /// Whether Services changed since [`Self::take_changes`].
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The Services that changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The slices of a Service.
    pub fn slices_of(&self, service: &ServiceName) -> &[EndpointSlice] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    /// Applies an event of the Service watch.
    pub fn service_event(&mut self, event: WatchEvent<Service>) {
        match event {
            WatchEvent::Snapshot(services) => {
                let present: BTreeSet<_> = services.iter().map(|s| s.id.clone()).collect();
                for gone in self.catalog.names().iter().filter(|id| !present.contains(*id)) {
                    self.set_service(gone, None);
                }
                for service in services {
                    self.set_service(&service.id.clone(), Some(service));
                }
                self.catalog.set_synced();
            }
            WatchEvent::Applied(service) => self.set_service(&service.id.clone(), Some(service)),
            WatchEvent::Deleted(service) => self.set_service(&service.id, None),
            WatchEvent::Failing(_) => {}
        }
    }

    /// Applies an event of the EndpointSlice watch.
    pub fn slice_event(&mut self, event: WatchEvent<EndpointSlice>) {
        match event {
            WatchEvent::Snapshot(slices) => {
                let present: BTreeSet<_> = slices.iter().map(|s| &s.id).collect();
                let gone: Vec<_> = self.owners.keys().filter(|id| !present.contains(id)).cloned().collect();
                gone.iter().for_each(|id| self.remove_slice(id));
                slices.into_iter().for_each(|slice| self.apply_slice(slice));
                self.slices_synced = true;
            }
            WatchEvent::Applied(slice) => self.apply_slice(slice),
            WatchEvent::Deleted(slice) => self.remove_slice(&slice.id),
            WatchEvent::Failing(_) => {}
        }
    }

    /// A Service without cluster IP (ExternalName, or one that lost it) is none for this room.
    fn set_service(&mut self, id: &ServiceName, service: Option<Service>) {
        let service = service.filter(|s| !s.cluster_ips.is_empty()).map(Arc::new);
        if self.catalog.get(id) == service {
            return; // only fields changed that nobody here reads
        }
        let before = self.catalog.replace(id, service);
        self.changes.entry(id.clone()).or_insert(before);
    }

    fn apply_slice(&mut self, slice: EndpointSlice) {
        match self.owners.get(&slice.id) {
            Some(owner) if *owner == slice.service => {}
            Some(_) => self.remove_slice(&slice.id),
            None => {}
        }
        if slice.service.is_empty() {
            return; // belongs to nobody
        }
        let service = ServiceName { namespace: slice.id.namespace.clone(), name: slice.service.clone() };
        let siblings = self.slices.entry(service.clone()).or_insert_with(|| Vec::with_capacity(1));
        match siblings.binary_search_by(|s| s.id.name.cmp(&slice.id.name)) {
            Ok(i) => match siblings.get_mut(i) {
                Some(standing) if *standing != slice => *standing = slice,
                _ => return,
            },
            Err(i) => {
                self.owners.insert(slice.id.clone(), slice.service.clone());
                siblings.insert(i, slice);
            }
        }
        self.mark(service);
    }

    fn remove_slice(&mut self, id: &ServiceName) {
        let Some(owner) = self.owners.remove(id) else { return };
        let service = ServiceName { namespace: id.namespace.clone(), name: owner };
        if let Some(siblings) = self.slices.get_mut(&service) {
            siblings.retain(|s| s.id.name != id.name);
            if siblings.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.mark(service);
    }

    fn mark(&mut self, service: ServiceName) {
        // Slices of a Service that isn't there (yet) change nothing that is programmed.
        if let Some(standing) = self.catalog.get(&service) {
            self.changes.entry(service).or_insert(Some(standing));
        }
    }
}

#[cfg(test)]
#[path = "tracker/tests.rs"]
mod tests;
