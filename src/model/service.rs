//! Services and EndpointSlices with only the fields that a node reads.
//!
//! The typed API objects cost about twenty times the memory (`docs/DECISIONS.md`), so these are filled straight from the wire.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

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
    /// Cluster IPs, primary family first; empty for headless Services and ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// Ports in the object's order.
    pub ports: Vec<ServicePort>,
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
}

/// Every Service of the cluster that has a cluster IP, by name: what containers get as environment.
pub type ServiceMap = BTreeMap<ServiceName, Arc<Service>>;
