//! What clients connect to, and what they reach.

use std::fmt;
use std::net::IpAddr;

use crate::model::service::{Protocol, Service, ServicePort};
use crate::nft::Family;
use crate::nft::value;

/// An address and port that clients of a Service use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frontend {
    /// A port of a cluster IP.
    ClusterIp {
        /// The cluster IP.
        ip: IpAddr,
        /// Protocol.
        protocol: Protocol,
        /// The Service's port.
        port: u16,
    },
    /// A port of every address of the node, except those for localhost.
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
            Self::ClusterIp { ip, .. } => family_of(*ip),
            Self::NodePort { family, .. } => *family,
        }
    }

    /// Protocol.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::ClusterIp { protocol, .. } | Self::NodePort { protocol, .. } => *protocol,
        }
    }

    /// All frontends of a Service with the port that each belongs to, each once. A family has node ports if it has a cluster IP.
    pub fn of(service: &Service) -> Vec<(Self, &ServicePort)> {
        let mut all = Vec::with_capacity(service.cluster_ips.len() * service.ports.len());
        for ip in &service.cluster_ips {
            for port in &service.ports {
                all.push((Self::ClusterIp { ip: *ip, protocol: port.protocol, port: port.port }, port));
                if port.node_port != 0 {
                    all.push((Self::NodePort { family: family_of(*ip), protocol: port.protocol, port: port.node_port }, port));
                }
            }
        }
        all.sort_by_key(|(frontend, _)| *frontend); // stable: of two equal ones the first in the object wins
        all.dedup_by_key(|(frontend, _)| *frontend);
        all
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp { ip, protocol, port } => write!(f, "{protocol:?} port {port} of cluster IP {ip}"),
            Self::NodePort { protocol, port, .. } => write!(f, "{protocol:?} node port {port}"),
        }
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
