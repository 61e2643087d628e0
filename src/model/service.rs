//! Services and EndpointSlices with only the fields that a node reads.
//!
//! The typed API objects cost about twenty times the memory (`docs/DECISIONS.md`), so these are filled straight from the wire.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::prefix::Prefix;

/// Namespace and name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Port name; empty when the Service has one unnamed port.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// The Service's own port.
    pub port: u16,
    /// The port on every node, or 0.
    pub node_port: u16,
}

/// A Service as the node needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub id: ServiceName,
    /// Whether this node's proxy serves it; otherwise another one does (label `service.kubernetes.io/service-proxy-name`).
    pub ours: bool,
    /// Cluster IPs, primary family first; empty for headless Services and ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// Ports in the object's order.
    pub ports: Vec<ServicePort>,
    /// What most Services leave as it is; `None`: all of it is.
    pub traffic: Option<Box<Traffic>>,
}

/// How a Service treats its clients, and where they find it besides its cluster IPs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// `sessionAffinity: ClientIP`: for so many seconds after its last connection a client is sent to the same endpoint.
    pub affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`: clients of cluster IPs reach endpoints of this node only.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: clients outside the cluster reach endpoints of this node only, who see their addresses.
    pub external_local: bool,
    /// `externalIPs`.
    pub external_ips: Box<[IpAddr]>,
    /// Addresses of load balancers whose packets arrive with that address (`ipMode` VIP or unset).
    pub load_balancer_ips: Box<[IpAddr]>,
    /// `loadBalancerSourceRanges`: who may use those; empty for everybody.
    pub source_ranges: Box<[Prefix]>,
    /// `healthCheckNodePort`: where load balancers ask whether this node has endpoints; 0 for nowhere.
    pub health_check_port: u16,
}

impl Service {
    /// Where clients find it, and how it treats them.
    pub fn traffic(&self) -> &Traffic {
        static USUAL: LazyLock<Traffic> = LazyLock::new(Traffic::default);
        self.traffic.as_deref().unwrap_or(&USUAL)
    }
}

/// One endpoint address of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// `conditions.ready`, true when unset.
    pub ready: bool,
    /// `conditions.serving`, true when unset.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// Whether the endpoint runs on this node.
    pub local: bool,
    /// Whose clients it is meant for; `None`: it doesn't say.
    pub hints: Option<Box<Hints>>,
}

/// Whose clients an endpoint is meant for (`hints`, KEP-2433 and KEP-3015).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forZones`.
    pub zones: Box<[Arc<str>]>,
    /// `forNodes`: whether this node is among them; `None`: there are none.
    pub here: Option<bool>,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// Name, matched with the Service port's name.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Port number on the endpoints.
    pub port: u16,
}

/// An EndpointSlice as the node needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace of the slice and of its Service, and the slice's own name.
    pub id: ServiceName,
    /// The Service's name, from label `kubernetes.io/service-name`.
    pub service: Arc<str>,
    /// Endpoints; of each only its first address, as in upstream's proxy.
    pub endpoints: Vec<Endpoint>,
    /// Ports that all endpoints share.
    pub ports: Vec<EndpointPort>,
    /// When what changed the slice happened, since the epoch (annotation `endpoints.kubernetes.io/last-change-trigger-time`).
    pub triggered: Option<Duration>,
}

/// Every Service of the cluster that has a cluster IP, by name: what containers get as environment.
pub type ServiceMap = BTreeMap<ServiceName, Arc<Service>>;
