//! Where load balancers ask whether this node has endpoints of a Service (`healthCheckNodePort`), and what they are told. Pure.

use std::collections::{BTreeMap, HashSet};

use super::tracker::{Changes, Tracker};
use crate::model::service::ServiceName;

/// What is told on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The port.
    pub port: u16,
    /// How many endpoints of the Service are ready on this node.
    pub endpoints: usize,
}

/// All ports, by Service.
pub type Checks = BTreeMap<ServiceName, Check>;

/// Brings the checks of changed Services up to date. True if any changed.
pub fn update(checks: &mut Checks, changes: &Changes, tracker: &Tracker) -> bool {
    let mut changed = false;
    for id in changes.keys() {
        let check = of(id, tracker);
        changed |= checks.get(id) != check.as_ref();
        match check {
            Some(check) => drop(checks.insert(id.clone(), check)),
            None => drop(checks.remove(id)),
        }
    }
    changed
}

/// The checks of all Services.
pub fn all(tracker: &Tracker) -> Checks {
    tracker.catalog().names().into_iter().filter_map(|id| of(&id, tracker).map(|check| (id, check))).collect()
}

/// The ports, sorted.
pub fn ports(checks: &Checks) -> Vec<u16> {
    let mut ports: Vec<_> = checks.values().map(|check| check.port).collect();
    ports.sort_unstable();
    ports
}

fn of(id: &ServiceName, tracker: &Tracker) -> Option<Check> {
    let service = tracker.catalog().get(id)?;
    let port = service.traffic().health_check_port;
    if port == 0 || !service.ours {
        return None;
    }
    let slices = tracker.slices_of(id).iter().filter(|slice| !slice.ports.is_empty());
    let local: HashSet<_> = slices.flat_map(|slice| &slice.endpoints).filter(|e| e.ready && e.local).map(|e| e.ip).collect();
    Some(Check { port, endpoints: local.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WatchEvent;
    use crate::model::service::{Service, Traffic};
    use crate::proxy::testing::{endpoint_slice, service};

    #[test]
    fn ready_endpoints_of_this_node_count() {
        let with = |port| {
            let traffic = Traffic { health_check_port: port, external_local: true, ..Traffic::default() };
            Service { traffic: Some(Box::new(traffic)), ..service("lb", "10.96.0.1", "TCP 80, UDP 53") }
        };
        let mut tracker = Tracker::default();
        tracker.service_event(WatchEvent::Snapshot(vec![with(31_000), service("web", "10.96.0.2", "TCP 80")]));
        tracker.slice_event(WatchEvent::Snapshot(vec![endpoint_slice("lb", "10.0.0.1l 10.0.0.2 10.0.0.3l", "TCP 80, UDP 53")]));
        let mut checks = all(&tracker);
        let told = |checks: &Checks| checks.values().map(|check| (check.port, check.endpoints)).collect::<Vec<_>>();
        assert_eq!(told(&checks), [(31_000, 2)]);
        tracker.take_changes();
        let mut step = |tracker: &mut Tracker| update(&mut checks, &tracker.take_changes(), tracker).then(|| told(&checks));
        tracker.slice_event(WatchEvent::Applied(endpoint_slice("lb", "10.0.0.1l 10.0.0.4", "TCP 80, UDP 53")));
        assert_eq!(step(&mut tracker), Some(vec![(31_000, 1)]));
        tracker.slice_event(WatchEvent::Applied(endpoint_slice("lb", "10.0.0.1l", "TCP 80, UDP 53")));
        assert_eq!(step(&mut tracker), None, "nothing that it tells");
        tracker.service_event(WatchEvent::Applied(with(0)));
        assert_eq!(step(&mut tracker), Some(vec![]));
    }
}
