//! The one owner of Services and EndpointSlices: applies watch events and says which Services changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::api::WatchEvent;
use crate::model::service::{Endpoint, EndpointPort, EndpointSlice, Service, ServiceName};
use crate::nft::Family;

use super::catalog::Catalog;
use super::frontend::family_of;

/// The Services to look at again, each with the version that was there when it was last taken (`None`: it didn't exist).
pub type Changes = BTreeMap<ServiceName, Option<Arc<Service>>>;

/// An EndpointSlice as it is kept: beside its Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The slice's name, in its Service's namespace.
    pub name: Arc<str>,
    /// Endpoints.
    pub endpoints: Box<[Endpoint]>,
    /// Ports that all endpoints share.
    pub ports: Box<[EndpointPort]>,
}

impl From<EndpointSlice> for Slice {
    fn from(slice: EndpointSlice) -> Self {
        Self { name: slice.id.name, endpoints: slice.endpoints.into(), ports: slice.ports.into() }
    }
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Tracker {
    catalog: Catalog,
    /// By Service; of each Service sorted by slice name, so that every run decides alike. Keys share their text with the catalog.
    slices: HashMap<ServiceName, Vec<Slice>>,
    /// Hashes of all slices' names: one that isn't here is new, and need not be looked for at other Services.
    known: HashSet<u64>,
    hasher: RandomState,
    slices_synced: bool,
    changes: Changes,
    /// Events of the two watches so far: Services first.
    events: (u64, u64),
    triggers: Vec<Trigger>,
}

/// What a change of endpoints goes back to: when that was, since the epoch, and in which family the endpoints are, as far as there are any.
pub type Trigger = (Duration, Option<Family>);

/// More triggers are not kept: while nothing can be programmed, there may be any number.
const TRIGGERS: usize = 1000;

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

    /// How many events the two watches have told: that of Services first.
    pub fn events(&self) -> (u64, u64) {
        self.events
    }

    /// How many Services changed since [`Self::take_changes`].
    pub fn pending(&self) -> usize {
        self.changes.len()
    }

    /// The Services that changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// What changes of endpoints went back to since the last call.
    pub fn take_triggers(&mut self) -> Vec<Trigger> {
        std::mem::take(&mut self.triggers)
    }

    /// The slices of a Service.
    pub fn slices_of(&self, service: &ServiceName) -> &[Slice] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    /// Applies an event of the Service watch.
    pub fn service_event(&mut self, event: WatchEvent<Service>) {
        self.events.0 += 1;
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
        self.events.1 += 1;
        match event {
            WatchEvent::Snapshot(slices) => {
                let present: HashSet<_> = slices.iter().map(|s| (&s.id.namespace, &s.service, &s.id.name)).collect();
                let gone = |service: &ServiceName, slice: &Slice| !present.contains(&(&service.namespace, &service.name, &slice.name));
                let of = |(service, list): (&ServiceName, &Vec<Slice>)| -> Vec<_> {
                    list.iter().filter(|slice| gone(service, slice)).map(|slice| (service.clone(), slice.name.clone())).collect()
                };
                let gone: Vec<_> = self.slices.iter().flat_map(of).collect();
                for (service, name) in gone {
                    self.remove_slice(&service, &name);
                }
                slices.into_iter().for_each(|slice| self.apply_slice(slice));
                self.slices_synced = true;
            }
            WatchEvent::Applied(slice) => self.apply_slice(slice),
            WatchEvent::Deleted(slice) => self.forget_slice(&slice),
            WatchEvent::Failing(_) => {}
        }
    }

    /// A Service without cluster IP (ExternalName, or one that lost it) is none for this room.
    fn set_service(&mut self, id: &ServiceName, service: Option<Service>) {
        let mut service = service.filter(|s| !s.cluster_ips.is_empty());
        let before = self.catalog.get(id);
        if before.as_deref() == service.as_ref() {
            return; // only fields changed that nobody here reads
        }
        if let Some(service) = &mut service {
            service.id = match &before {
                Some(before) => before.id.clone(),
                None => self.catalog.share_namespace(&service.id),
            };
            if let Some((_, slices)) = self.slices.remove_entry(id) {
                self.slices.insert(service.id.clone(), slices); // now shares the text
            }
        }
        self.catalog.replace(id, service.map(Arc::new));
        self.changes.entry(id.clone()).or_insert(before);
    }

    fn apply_slice(&mut self, slice: EndpointSlice) {
        let service = service_of(&slice);
        let trigger = slice.triggered.filter(|_| self.slices_synced).map(|at| (at, slice.endpoints.first().map(|e| family_of(e.ip))));
        let standing = self.slices.get_mut(&service).and_then(|list| list.iter_mut().find(|s| s.name == slice.id.name));
        if let Some(standing) = standing {
            let slice = Slice::from(slice);
            if *standing != slice {
                *standing = slice;
                self.mark(service);
                self.triggers.extend(trigger.filter(|_| self.triggers.len() < TRIGGERS));
            }
            return;
        }
        let hash = self.hasher.hash_one(&slice.id);
        if self.known.contains(&hash) {
            self.forget_slice(&slice); // it belonged to another Service
        }
        if service.name.is_empty() {
            return; // belongs to nobody
        }
        self.known.insert(hash);
        let key = self.catalog.get(&service).map_or(service, |s| s.id.clone());
        let list = self.slices.entry(key.clone()).or_insert_with(|| Vec::with_capacity(1));
        let at = list.partition_point(|s| s.name < slice.id.name);
        list.insert(at, slice.into());
        self.mark(key);
        self.triggers.extend(trigger.filter(|_| self.triggers.len() < TRIGGERS));
    }

    /// Removes a slice wherever it is: its label may have changed together with its end.
    fn forget_slice(&mut self, slice: &EndpointSlice) {
        if self.remove_slice(&service_of(slice), &slice.id.name) {
            return;
        }
        let here = |(service, list): &(&ServiceName, &Vec<Slice>)| {
            service.namespace == slice.id.namespace && list.iter().any(|s| s.name == slice.id.name)
        };
        if let Some(service) = self.slices.iter().find(here).map(|(service, _)| service.clone()) {
            self.remove_slice(&service, &slice.id.name);
        }
    }

    fn remove_slice(&mut self, service: &ServiceName, name: &Arc<str>) -> bool {
        let Some(list) = self.slices.get_mut(service) else { return false };
        let Some(at) = list.iter().position(|s| s.name == *name) else { return false };
        list.remove(at);
        if list.is_empty() {
            self.slices.remove(service);
        }
        let id = ServiceName { namespace: service.namespace.clone(), name: name.clone() };
        self.known.remove(&self.hasher.hash_one(&id));
        self.mark(service.clone());
        true
    }

    fn mark(&mut self, service: ServiceName) {
        // Slices of a Service that isn't there (yet) change nothing that is programmed.
        if let Some(standing) = self.catalog.get(&service) {
            self.changes.entry(service).or_insert(Some(standing));
        }
    }
}

fn service_of(slice: &EndpointSlice) -> ServiceName {
    ServiceName { namespace: slice.id.namespace.clone(), name: slice.service.clone() }
}

#[cfg(test)]
#[path = "tracker/tests.rs"]
mod tests;
