//! Amounts: what a pod asks for, what others have, and what the node has to give (upstream: scheduler, `noderesources/fit.go`,
//! `nodeports`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::Rejection;
use crate::model::node::Totals;
use crate::model::qos::QosClass;
use crate::model::resources::{PodResources, amount};
use crate::pods::spec;

/// What a pod takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// CPU in thousandths, others in whole units, by resource name; `pods` is 1.
    pub requests: BTreeMap<String, i64>,
    /// Ports of the host: protocol, address, number.
    pub ports: Vec<(String, String, i32)>,
    /// Its class.
    pub qos: QosClass,
    /// Its priority.
    pub priority: i32,
    /// Others make room for it.
    pub critical: bool,
}

impl Demand {
    /// Of a pod.
    pub fn of(pod: &Pod) -> Self {
        let requests = PodResources::of(pod).requests;
        let units = |name: &str, q: &crate::model::quantity::Quantity| if name == "cpu" { q.milli_value() } else { q.value() };
        let mut requests: BTreeMap<String, i64> = requests.iter().map(|(name, q)| (name.clone(), units(name, q))).collect();
        requests.insert("pods".to_owned(), 1);
        let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
        let ports = spec::containers(pod).iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
        let ports = ports.filter_map(|p| {
            let number = p.host_port.filter(|port| *port > 0)?;
            let address = p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            Some((p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), address, number))
        });
        Self {
            requests,
            ports: ports.collect(),
            qos: QosClass::of(pod),
            priority: pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0),
            critical: spec::is_critical(pod),
        }
    }

    /// How much it asks for of one resource.
    pub fn of_resource(&self, name: &str) -> i64 {
        self.requests.get(name).copied().unwrap_or(0)
    }
}

/// What the node has to give, by resource name, in the units of [`Demand`].
pub(super) struct Room(BTreeMap<String, i64>);

impl Room {
    /// As the Node object says it, or the agent itself as long as there is none.
    pub(super) fn of(node: Option<&Node>, own: &Totals) -> Self {
        let listed = node.and_then(|n| n.status.as_ref()).and_then(|s| s.allocatable.as_ref());
        if let Some(listed) = listed {
            let units = |name: &str| {
                let amount = amount(Some(listed), name)?;
                Some(if name == "cpu" { amount.milli_value() } else { amount.value() })
            };
            return Self(listed.keys().filter_map(|name| Some((name.clone(), units(name)?))).collect());
        }
        Self(BTreeMap::from([
            ("cpu".to_owned(), own.milli_cpu),
            ("memory".to_owned(), own.memory),
            ("ephemeral-storage".to_owned(), own.ephemeral_storage),
            ("pods".to_owned(), own.pods),
        ]))
    }
}

/// A resource of which there is not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lack {
    pub name: String,
    pub requested: i64,
    pub used: i64,
    pub capacity: i64,
}

impl Lack {
    pub(super) fn rejection(&self) -> Rejection {
        let Self { name, requested, used, capacity } = self;
        let message = format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
        Rejection::new(format!("OutOf{name}"), message)
    }

    /// How much must be freed.
    pub(super) fn missing(&self) -> i64 {
        self.requested - (self.capacity - self.used)
    }
}

/// The order in which lacks are told.
const ORDER: [&str; 4] = ["pods", "cpu", "memory", "ephemeral-storage"];

/// What there is not enough of. Extended resources that the node does not know are somebody else's.
pub(super) fn lacking<'a>(demand: &Demand, others: impl Iterator<Item = &'a Demand> + Clone, room: &Room) -> Vec<Lack> {
    let rank = |name: &str| ORDER.iter().position(|o| *o == name).unwrap_or(ORDER.len());
    let mut names: Vec<&String> = demand.requests.iter().filter(|(_, amount)| **amount > 0).map(|(name, _)| name).collect();
    names.sort_by_key(|name| rank(name));
    let lack = |name: &String| {
        let capacity = match room.0.get(name) {
            Some(capacity) => *capacity,
            None if is_extended(name) => return None,
            None => 0,
        };
        let used = others.clone().map(|other| other.of_resource(name)).sum();
        let requested = demand.of_resource(name);
        (requested > capacity - used).then(|| Lack { name: name.clone(), requested, used, capacity })
    };
    names.into_iter().filter_map(lack).collect()
}

/// A name with a domain that is not Kubernetes' own (k8s.io/component-helpers, `IsExtendedResourceName`).
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// A port of the host can be had once for each protocol and address; the address of all is every one.
pub(super) fn ports<'a>(demand: &Demand, mut others: impl Iterator<Item = &'a Demand>) -> Result<(), Rejection> {
    let any = |address: &str| matches!(address, "0.0.0.0" | "::");
    let clash = |(protocol, address, number): &(String, String, i32), other: &(String, String, i32)| {
        *protocol == other.0 && *number == other.2 && (*address == other.1 || any(address) || any(&other.1))
    };
    if demand.ports.is_empty() || !others.any(|other| demand.ports.iter().any(|port| other.ports.iter().any(|o| clash(port, o)))) {
        return Ok(());
    }
    Err(Rejection::predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"))
}
