//! One element of the tables, in the proxy's words and in nftables' words.
//!
//! | set or map | element | meaning |
//! |---|---|---|
//! | `cluster-ips` | ip | a cluster IP in use: ports of it that no Service has are refused |
//! | `service-ips` | address . protocol . port : goto ip-*K* | one of *K* endpoints takes the connection |
//! | `endpoints` | address . protocol . port . place : ip . port | the endpoint at a place from 0 to *K*-1 |
//! | `local-endpoints` | the same | endpoints of this node, for clients outside |
//! | `inside-ips` | address . protocol . port : goto ip-*K* | where clients inside are treated differently |
//! | `service-nodeports`, `nodeport-endpoints`, … | the same without address: goto port-*K* | the same for node ports |
//! | `nodeport-ips` | ip | where node ports answer, unless that is everywhere |
//! | `no-endpoint-services`, `no-endpoint-nodeports` | address . protocol . port; protocol . port : verdict | connections are refused or dropped |
//! | `firewall-ips` | address . protocol . port : goto ranges-… | who may use a load balancer's address |
//! | `hairpin-connections` | ip . ip . protocol . port | a pod of this node that reaches itself through a Service |
//! | `sticky-ips`, `sticky-nodeports` | address . protocol . port; protocol . port : goto learn-*T* | clients stay with their endpoint for *T* seconds |
//! | `affinity` | client . address . protocol . port : ip . port | what was learned so; the one map whose elements no transaction adds |

use std::net::IpAddr;

use crate::model::service::Protocol;
use crate::nft::{Concat, Data, DataType, Element, Family, Set, Value, Verdict};

use super::chain::ChainId;
use super::frontend::{Frontend, family_of, protocol_number, protocol_of};
use super::ruleset::REJECT;

/// The sets and maps of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetId {
    /// `cluster-ips`.
    ClusterIps,
    /// `nodeport-ips`.
    NodePortIps,
    /// `service-ips`.
    ServiceIps,
    /// `endpoints`.
    Endpoints,
    /// `local-endpoints`.
    LocalEndpoints,
    /// `inside-ips`.
    InsideIps,
    /// `no-endpoint-services`.
    NoEndpointServices,
    /// `firewall-ips`.
    FirewallIps,
    /// `service-nodeports`.
    ServiceNodePorts,
    /// `nodeport-endpoints`.
    NodePortEndpoints,
    /// `local-nodeport-endpoints`.
    LocalNodePortEndpoints,
    /// `inside-nodeports`.
    InsideNodePorts,
    /// `no-endpoint-nodeports`.
    NoEndpointNodePorts,
    /// `hairpin-connections`.
    Hairpin,
    /// `sticky-ips`.
    StickyIps,
    /// `sticky-nodeports`.
    StickyNodePorts,
    /// `affinity`.
    Affinity,
}

/// How many clients `affinity` remembers. Beyond that they are spread as those of other Services; each takes about 200 bytes.
const CLIENTS: u32 = 1 << 18;

impl SetId {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::ClusterIps,
        Self::NodePortIps,
        Self::ServiceIps,
        Self::Endpoints,
        Self::LocalEndpoints,
        Self::InsideIps,
        Self::NoEndpointServices,
        Self::FirewallIps,
        Self::ServiceNodePorts,
        Self::NodePortEndpoints,
        Self::LocalNodePortEndpoints,
        Self::InsideNodePorts,
        Self::NoEndpointNodePorts,
        Self::Hairpin,
        Self::StickyIps,
        Self::StickyNodePorts,
        Self::Affinity,
    ];

    /// Those with the endpoints of frontends.
    pub const PLACES: [Self; 4] = [Self::Endpoints, Self::LocalEndpoints, Self::NodePortEndpoints, Self::LocalNodePortEndpoints];

    /// The map of endpoints of node ports or addresses: those for everybody, or those of this node for clients outside.
    pub fn endpoints(node_port: bool, local: bool) -> Self {
        match (node_port, local) {
            (false, false) => Self::Endpoints,
            (false, true) => Self::LocalEndpoints,
            (true, false) => Self::NodePortEndpoints,
            (true, true) => Self::LocalNodePortEndpoints,
        }
    }

    /// Whether its elements are what this room programs; otherwise rules add them.
    pub fn is_programmed(self) -> bool {
        self != Self::Affinity
    }

    /// Name in the table. Where upstream has a set of the same meaning, it has upstream's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::NodePortIps => "nodeport-ips",
            Self::ServiceIps => "service-ips",
            Self::Endpoints => "endpoints",
            Self::LocalEndpoints => "local-endpoints",
            Self::InsideIps => "inside-ips",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::FirewallIps => "firewall-ips",
            Self::ServiceNodePorts => "service-nodeports",
            Self::NodePortEndpoints => "nodeport-endpoints",
            Self::LocalNodePortEndpoints => "local-nodeport-endpoints",
            Self::InsideNodePorts => "inside-nodeports",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::Hairpin => "hairpin-connections",
            Self::StickyIps => "sticky-ips",
            Self::StickyNodePorts => "sticky-nodeports",
            Self::Affinity => "affinity",
        }
    }

    /// Types of the parts of its keys.
    pub fn key_types(self, family: Family) -> Vec<DataType> {
        use DataType::{Mark, Proto, Service};
        let ip = family.addr_type();
        match self {
            Self::ClusterIps | Self::NodePortIps => vec![ip],
            Self::ServiceIps | Self::InsideIps | Self::NoEndpointServices | Self::FirewallIps | Self::StickyIps => vec![ip, Proto, Service],
            Self::Endpoints | Self::LocalEndpoints => vec![ip, Proto, Service, Mark],
            Self::ServiceNodePorts | Self::InsideNodePorts | Self::NoEndpointNodePorts | Self::StickyNodePorts => vec![Proto, Service],
            Self::NodePortEndpoints | Self::LocalNodePortEndpoints => vec![Proto, Service, Mark],
            Self::Hairpin | Self::Affinity => vec![ip, ip, Proto, Service],
        }
    }

    /// The set as it is made.
    pub fn set(self, family: Family) -> Set {
        let (name, key, target) = (self.name(), self.key_types(family), [family.addr_type(), DataType::Service]);
        match self {
            Self::ClusterIps | Self::NodePortIps | Self::Hairpin => Set::set(name, key),
            Self::Affinity => Set::data_map(name, key, target).learns(CLIENTS),
            _ if Self::PLACES.contains(&self) => Set::data_map(name, key, target),
            _ => Set::verdict_map(name, key),
        }
    }
}

/// What becomes of connections that no endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// They are refused, and told so.
    Reject,
    /// They are dropped without a word.
    Drop,
}

/// Where an endpoint of a frontend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// The frontend.
    pub frontend: Frontend,
    /// Whether it is among those of this node, for clients outside; otherwise among those for everybody.
    pub local: bool,
    /// Its place among them, from 0 on.
    pub place: u32,
}

/// One element. All that the proxy programs besides the fixed skeleton is a set of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Piece {
    /// A cluster IP in use.
    ClusterIp(IpAddr),
    /// An address of the node where node ports answer.
    NodePortIp(IpAddr),
    /// Which chain takes a frontend's packets.
    Balance(Frontend, Balancer),
    /// Which chain takes those of clients inside.
    Inside(Frontend, Balancer),
    /// The endpoint of a slot.
    Place(Slot, IpAddr, u16),
    /// A frontend without endpoints.
    NoEndpoints(Frontend, Refusal),
    /// Who may use a load balancer's address.
    Firewall(Frontend, u64),
    /// For how many seconds clients stay with their endpoint.
    Sticky(Frontend, u32),
    /// An endpoint on this node.
    Hairpin(IpAddr, Protocol, u16),
}

impl Piece {
    /// The family of its table.
    pub fn family(&self) -> Family {
        match self {
            Self::ClusterIp(ip) | Self::NodePortIp(ip) | Self::Hairpin(ip, ..) => family_of(*ip),
            Self::Balance(frontend, _)
            | Self::Inside(frontend, _)
            | Self::Place(Slot { frontend, .. }, ..)
            | Self::NoEndpoints(frontend, _)
            | Self::Firewall(frontend, _)
            | Self::Sticky(frontend, _) => frontend.family(),
        }
    }

    /// The set that holds it.
    pub fn set(&self) -> SetId {
        let of = |frontend: &Frontend, address, node_port| if frontend.is_node_port() { node_port } else { address };
        match self {
            Self::ClusterIp(_) => SetId::ClusterIps,
            Self::NodePortIp(_) => SetId::NodePortIps,
            Self::Balance(frontend, _) => of(frontend, SetId::ServiceIps, SetId::ServiceNodePorts),
            Self::Inside(frontend, _) => of(frontend, SetId::InsideIps, SetId::InsideNodePorts),
            Self::Place(slot, ..) => SetId::endpoints(slot.frontend.is_node_port(), slot.local),
            Self::NoEndpoints(frontend, _) => of(frontend, SetId::NoEndpointServices, SetId::NoEndpointNodePorts),
            Self::Firewall(..) => SetId::FirewallIps,
            Self::Sticky(frontend, _) => of(frontend, SetId::StickyIps, SetId::StickyNodePorts),
            Self::Hairpin(..) => SetId::Hairpin,
        }
    }

    /// The frontend that it belongs to.
    pub fn frontend(&self) -> Option<Frontend> {
        match self {
            Self::Balance(frontend, _) | Self::Inside(frontend, _) | Self::NoEndpoints(frontend, _) => Some(*frontend),
            Self::Firewall(frontend, _) | Self::Sticky(frontend, _) => Some(*frontend),
            Self::Place(slot, ..) => Some(slot.frontend),
            Self::ClusterIp(_) | Self::NodePortIp(_) | Self::Hairpin(..) => None,
        }
    }

    /// The chain that it leads to.
    pub fn chain(&self) -> Option<ChainId> {
        match self {
            Self::Balance(_, balancer) | Self::Inside(_, balancer) => Some(ChainId::Balancer(*balancer)),
            Self::Firewall(_, ranges) => Some(ChainId::Ranges(*ranges)),
            Self::Sticky(_, seconds) => Some(ChainId::Learn(*seconds)),
            _ => None,
        }
    }

    /// The element as nftables has it.
    pub fn element(&self) -> Element {
        match self {
            Self::ClusterIp(ip) | Self::NodePortIp(ip) => Element::key(Concat::of(&[Value::Ip(*ip)])),
            Self::Balance(frontend, _) | Self::Inside(frontend, _) | Self::Firewall(frontend, _) | Self::Sticky(frontend, _) => {
                let chain = self.chain().map(ChainId::name).unwrap_or_default();
                Element::verdict(key_of(frontend, None), Verdict::goto(chain))
            }
            Self::Place(slot, ip, port) => {
                Element::value(key_of(&slot.frontend, Some(slot.place)), Concat::of(&[Value::Ip(*ip), Value::Port(*port)]))
            }
            Self::NoEndpoints(frontend, refusal) => {
                let verdict = match refusal {
                    Refusal::Reject => Verdict::goto(REJECT),
                    Refusal::Drop => Verdict::Drop,
                };
                Element::verdict(key_of(frontend, None), verdict)
            }
            Self::Hairpin(ip, protocol, port) => {
                let ip = Value::Ip(*ip);
                Element::key(Concat::of(&[ip, ip, Value::Proto(protocol_number(*protocol)), Value::Port(*port)]))
            }
        }
    }

    /// Reads an endpoint's element back; `None` for other sets, and for elements that this room can't have made.
    pub fn read_place(set: SetId, family: Family, element: &Element) -> Option<Self> {
        let local = match set {
            SetId::Endpoints | SetId::NodePortEndpoints => false,
            SetId::LocalEndpoints | SetId::LocalNodePortEndpoints => true,
            _ => return None,
        };
        let (frontend, place) = match element.key.values(&set.key_types(family))?.as_slice() {
            [Value::Ip(ip), Value::Proto(protocol), Value::Port(port), Value::Mark(place)] => {
                (Frontend::Address { ip: *ip, protocol: protocol_of(*protocol)?, port: *port }, *place)
            }
            [Value::Proto(protocol), Value::Port(port), Value::Mark(place)] => {
                (Frontend::NodePort { family, protocol: protocol_of(*protocol)?, port: *port }, *place)
            }
            _ => return None,
        };
        let Data::Value(value) = &element.data else { return None };
        match value.values(&[family.addr_type(), DataType::Service])?.as_slice() {
            [Value::Ip(ip), Value::Port(port)] => Some(Self::Place(Slot { frontend, local, place }, *ip, *port)),
            _ => None,
        }
    }
}

fn key_of(frontend: &Frontend, place: Option<u32>) -> Concat {
    let proto = Value::Proto(protocol_number(frontend.protocol()));
    let values = match *frontend {
        Frontend::Address { ip, port, .. } => [Value::Ip(ip), proto, Value::Port(port), Value::Mark(place.unwrap_or_default())],
        Frontend::NodePort { port, .. } => [proto, Value::Port(port), Value::Mark(place.unwrap_or_default()), Value::Mark(0)],
    };
    let parts = if frontend.is_node_port() { 2 } else { 3 } + usize::from(place.is_some());
    Concat::of(values.get(..parts).unwrap_or(&values))
}

/// How a balancer treats packets before it chooses an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Policy {
    /// As they are.
    Direct,
    /// They will leave with the node's own address.
    Masquerade,
    /// Those of clients inside go where the Cluster policy leads; others stay on this node.
    Local,
}

/// A chain that spreads connections over a number of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Balancer {
    /// Whether it serves node ports.
    pub node_port: bool,
    /// What it does before.
    pub policy: Policy,
    /// Number of endpoints; 0 only under the Local policy.
    pub count: u32,
    /// For how many seconds clients stay with their endpoint.
    pub sticky: Option<u32>,
}

impl Balancer {
    /// The chain's name: `ip-2`, `port-masquerade-2`, `ip-local-2-sticky-10800`.
    pub fn name(self) -> String {
        let of = if self.node_port { "port" } else { "ip" };
        let policy = match self.policy {
            Policy::Direct => "",
            Policy::Masquerade => "-masquerade",
            Policy::Local => "-local",
        };
        let sticky = self.sticky.map(|seconds| format!("-sticky-{seconds}")).unwrap_or_default();
        format!("{of}{policy}-{}{sticky}", self.count)
    }

    /// Reads a chain's name, whether or not it is the exact one.
    pub fn parse(name: &str) -> Option<Self> {
        let (of, rest) = name.split_once('-')?;
        let node_port = match of {
            "ip" => false,
            "port" => true,
            _ => return None,
        };
        let (rest, sticky) = match rest.split_once("-sticky-") {
            Some((rest, seconds)) => (rest, Some(seconds.parse().ok()?)),
            None => (rest, None),
        };
        let (policy, count) = match rest.split_once('-') {
            None => (Policy::Direct, rest),
            Some(("masquerade", count)) => (Policy::Masquerade, count),
            Some(("local", count)) => (Policy::Local, count),
            Some(_) => return None,
        };
        let count = count.parse().ok().filter(|count| *count > 0 || policy == Policy::Local)?;
        Some(Self { node_port, policy, count, sticky })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let fronts = |ip: IpAddr| {
            let protocol = Protocol::Udp;
            [Frontend::Address { ip, protocol, port: 53 }, Frontend::NodePort { family: family_of(ip), protocol, port: 30053 }]
        };
        for ip in ["10.96.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap()) {
            for (frontend, local) in fronts(ip).into_iter().flat_map(|frontend| [(frontend, false), (frontend, true)]) {
                let piece = Piece::Place(Slot { frontend, local, place: 4000 }, ip, 65535);
                assert_eq!(Piece::read_place(piece.set(), piece.family(), &piece.element()), Some(piece));
                let foreign = Element::verdict(key_of(&frontend, Some(1)), Verdict::Accept);
                assert_eq!(Piece::read_place(piece.set(), frontend.family(), &foreign), None);
            }
        }
    }

    #[test]
    fn elements_fit_their_sets() {
        let ip = "10.96.0.1".parse().unwrap();
        let address = Frontend::Address { ip, protocol: Protocol::Tcp, port: 80 };
        let node = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Tcp, port: 30080 };
        let balancer = |f: Frontend| Balancer { node_port: f.is_node_port(), policy: Policy::Direct, count: 1, sticky: None };
        let of_both = [address, node].into_iter().flat_map(|f| {
            let slot = |local| Slot { frontend: f, local, place: 0 };
            let places = [Piece::Place(slot(false), ip, 1), Piece::Place(slot(true), ip, 1)];
            let verdicts =
                [Piece::Balance(f, balancer(f)), Piece::Inside(f, balancer(f)), Piece::Sticky(f, 1), Piece::NoEndpoints(f, Refusal::Drop)];
            places.into_iter().chain(verdicts)
        });
        let others = [Piece::ClusterIp(ip), Piece::NodePortIp(ip), Piece::Firewall(address, 1), Piece::Hairpin(ip, Protocol::Tcp, 80)];
        for piece in of_both.chain(others) {
            let set = piece.set().set(Family::Ip);
            assert!(piece.element().key.values(&set.key).is_some(), "{piece:?} in {}", set.name);
        }
    }
}
