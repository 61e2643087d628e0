//! What clients connect to, and what they reach.

use std::fmt;
use std::net::IpAddr;

use crate::model::service::{Protocol, Service, ServicePort};
use crate::nft::Family;
use crate::nft::value;

/// An address and port that clients of a Service use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frontend {
    /// A port of an address: a cluster IP, an external one, or that of a load balancer.
    Address {
        /// The address.
        ip: IpAddr,
        /// Protocol.
        protocol: Protocol,
        /// The Service's port.
        port: u16,
    },
    /// A port of the node's addresses, except those for localhost.
    NodePort {
        /// Family of the node's addresses.
        family: Family,
        /// Protocol.
        protocol: Protocol,
        /// The node port.
        port: u16,
    },
}

impl Frontend {
    /// Family of the table that serves it.
    pub fn family(&self) -> Family {
        match self {
            Self::Address { ip, .. } => family_of(*ip),
            Self::NodePort { family, .. } => *family,
        }
    }

    /// Protocol.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Address { protocol, .. } | Self::NodePort { protocol, .. } => *protocol,
        }
    }

    /// Whether it is a port of the node.
    pub fn is_node_port(&self) -> bool {
        matches!(self, Self::NodePort { .. })
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { ip, protocol, port } => write!(f, "{protocol:?} port {port} of {ip}"),
            Self::NodePort { protocol, port, .. } => write!(f, "{protocol:?} node port {port}"),
        }
    }
}

/// Who is expected to use a frontend: the Service's policies differ by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Clients inside the cluster: a cluster IP.
    Internal,
    /// Clients outside: an external IP, or a node port.
    External,
    /// Clients outside whom `loadBalancerSourceRanges` may keep away: a load balancer's address.
    LoadBalancer,
}

/// A frontend that a Service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The frontend.
    pub frontend: Frontend,
    /// For whom it is.
    pub role: Role,
    /// The port that it belongs to.
    pub port: &'a ServicePort,
}

impl<'a> Claim<'a> {
    /// All that a Service asks for in a family, each frontend once. It has nothing in a family without a cluster IP.
    pub fn of(service: &'a Service, family: Family) -> Vec<Self> {
        let traffic = service.traffic();
        let ours = |list: &'a [IpAddr]| list.iter().copied().filter(move |ip| family_of(*ip) == family);
        let mut all = Vec::with_capacity(service.ports.len());
        if !service.ours || ours(&service.cluster_ips).next().is_none() {
            return all;
        }
        let addresses = ours(&service.cluster_ips)
            .map(|ip| (ip, Role::Internal))
            .chain(ours(&traffic.load_balancer_ips).map(|ip| (ip, Role::LoadBalancer)))
            .chain(ours(&traffic.external_ips).map(|ip| (ip, Role::External)));
        for (ip, role) in addresses {
            let claim =
                |port: &'a ServicePort| Self { frontend: Frontend::Address { ip, protocol: port.protocol, port: port.port }, role, port };
            all.extend(service.ports.iter().map(claim));
        }
        let node_port = |port: &'a ServicePort| Self {
            frontend: Frontend::NodePort { family, protocol: port.protocol, port: port.node_port },
            role: Role::External,
            port,
        };
        all.extend(service.ports.iter().filter(|port| port.node_port != 0).map(node_port));
        all.sort_by_key(|claim| claim.frontend); // stable: of two equal ones the first wins
        all.dedup_by_key(|claim| claim.frontend);
        all
    }
}

/// An endpoint that takes a frontend's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Whether it runs on this node.
    pub local: bool,
}

impl Backend {
    /// What tells two endpoints apart.
    pub fn address(&self) -> (IpAddr, u16) {
        (self.ip, self.port)
    }
}

/// Family of an address.
pub fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::Ip } else { Family::Ip6 }
}

/// IP protocol number.
pub fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => value::TCP,
        Protocol::Udp => value::UDP,
        Protocol::Sctp => value::SCTP,
    }
}

/// Protocol of an IP protocol number.
pub fn protocol_of(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| protocol_number(*p) == number)
}
