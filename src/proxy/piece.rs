//! One element of the tables, in the proxy's words and in nftables' words.
//!
//! | set or map | element | meaning |
//! |---|---|---|
//! | `cluster-ips` | ip | a cluster IP in use: ports of it that no Service has are refused |
//! | `service-ips` | ip . protocol . port : goto n*K* | one of *K* endpoints takes the connection |
//! | `endpoints` | ip . protocol . port . place : ip . port | the endpoint at a place from 0 to *K*-1 |
//! | `service-nodeports`, `nodeport-endpoints` | the same without ip: goto p*K* | the same for node ports |
//! | `no-endpoint-services`, `no-endpoint-nodeports` | ip . protocol . port; protocol . port | connections are refused |
//! | `hairpin-connections` | ip . ip . protocol . port | a pod of this node that reaches itself through a Service |

use std::net::IpAddr;

use crate::model::service::Protocol;
use crate::nft::{Concat, Data, DataType, Element, Family, Set, Value, Verdict};

use super::frontend::{Frontend, family_of, protocol_number, protocol_of};

/// The sets and maps of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetId {
    /// `cluster-ips`.
    ClusterIps,
    /// `service-ips`.
    ServiceIps,
    /// `endpoints`.
    Endpoints,
    /// `no-endpoint-services`.
    NoEndpointServices,
    /// `service-nodeports`.
    ServiceNodePorts,
    /// `nodeport-endpoints`.
    NodePortEndpoints,
    /// `no-endpoint-nodeports`.
    NoEndpointNodePorts,
    /// `hairpin-connections`.
    Hairpin,
}

impl SetId {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ClusterIps,
        Self::ServiceIps,
        Self::Endpoints,
        Self::NoEndpointServices,
        Self::ServiceNodePorts,
        Self::NodePortEndpoints,
        Self::NoEndpointNodePorts,
        Self::Hairpin,
    ];

    /// Name in the table. Where upstream has a set of the same meaning, it has upstream's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::ServiceIps => "service-ips",
            Self::Endpoints => "endpoints",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::ServiceNodePorts => "service-nodeports",
            Self::NodePortEndpoints => "nodeport-endpoints",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::Hairpin => "hairpin-connections",
        }
    }

    fn key_types(self, family: Family) -> Vec<DataType> {
        use DataType::{Mark, Proto, Service};
        let ip = family.addr_type();
        match self {
            Self::ClusterIps => vec![ip],
            Self::ServiceIps | Self::NoEndpointServices => vec![ip, Proto, Service],
            Self::Endpoints => vec![ip, Proto, Service, Mark],
            Self::ServiceNodePorts | Self::NoEndpointNodePorts => vec![Proto, Service],
            Self::NodePortEndpoints => vec![Proto, Service, Mark],
            Self::Hairpin => vec![ip, ip, Proto, Service],
        }
    }

    /// The set as it is made.
    pub fn set(self, family: Family) -> Set {
        let (name, key) = (self.name(), self.key_types(family));
        match self {
            Self::ServiceIps | Self::ServiceNodePorts => Set::verdict_map(name, key),
            Self::Endpoints | Self::NodePortEndpoints => Set::data_map(name, key, [family.addr_type(), DataType::Service]),
            _ => Set::set(name, key),
        }
    }
}

/// One element. All that the proxy programs besides the fixed skeleton is a set of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Piece {
    /// A cluster IP in use.
    ClusterIp(IpAddr),
    /// The frontend's number of endpoints, at least 1.
    Balance(Frontend, u32),
    /// The endpoint at a place of the frontend.
    Place(Frontend, u32, IpAddr, u16),
    /// A frontend without endpoints.
    NoEndpoints(Frontend),
    /// An endpoint on this node.
    Hairpin(IpAddr, Protocol, u16),
}

impl Piece {
    /// Family of the table that holds it.
    pub fn family(&self) -> Family {
        match self {
            Self::Balance(frontend, _) | Self::Place(frontend, ..) | Self::NoEndpoints(frontend) => frontend.family(),
            Self::ClusterIp(ip) | Self::Hairpin(ip, ..) => family_of(*ip),
        }
    }

    /// The set that holds it.
    pub fn set(&self) -> SetId {
        use Frontend::{ClusterIp, NodePort};
        match self {
            Self::ClusterIp(_) => SetId::ClusterIps,
            Self::Balance(ClusterIp { .. }, _) => SetId::ServiceIps,
            Self::Balance(NodePort { .. }, _) => SetId::ServiceNodePorts,
            Self::Place(ClusterIp { .. }, ..) => SetId::Endpoints,
            Self::Place(NodePort { .. }, ..) => SetId::NodePortEndpoints,
            Self::NoEndpoints(ClusterIp { .. }) => SetId::NoEndpointServices,
            Self::NoEndpoints(NodePort { .. }) => SetId::NoEndpointNodePorts,
            Self::Hairpin(..) => SetId::Hairpin,
        }
    }

    /// The element as nftables has it.
    pub fn element(&self) -> Element {
        match self {
            Self::ClusterIp(ip) => Element::key(Concat::of(&[Value::Ip(*ip)])),
            Self::Balance(frontend, count) => {
                let chain = Balancer { node_port: matches!(frontend, Frontend::NodePort { .. }), count: *count };
                Element::verdict(key_of(frontend, None), Verdict::goto(chain.name()))
            }
            Self::Place(frontend, place, ip, port) => {
                Element::value(key_of(frontend, Some(*place)), Concat::of(&[Value::Ip(*ip), Value::Port(*port)]))
            }
            Self::NoEndpoints(frontend) => Element::key(key_of(frontend, None)),
            Self::Hairpin(ip, protocol, port) => {
                let ip = Value::Ip(*ip);
                Element::key(Concat::of(&[ip, ip, Value::Proto(protocol_number(*protocol)), Value::Port(*port)]))
            }
        }
    }

    /// Reads an element of a verdict or endpoint map back; `None` for other sets, and for elements that this room can't have made.
    pub fn read(set: SetId, family: Family, element: &Element) -> Option<Self> {
        let key = element.key.values(&set.key_types(family))?;
        let (frontend, rest) = match (set, key.as_slice()) {
            (SetId::ServiceIps | SetId::Endpoints, [Value::Ip(ip), Value::Proto(protocol), Value::Port(port), rest @ ..]) => {
                (Frontend::ClusterIp { ip: *ip, protocol: protocol_of(*protocol)?, port: *port }, rest)
            }
            (SetId::ServiceNodePorts | SetId::NodePortEndpoints, [Value::Proto(protocol), Value::Port(port), rest @ ..]) => {
                (Frontend::NodePort { family, protocol: protocol_of(*protocol)?, port: *port }, rest)
            }
            _ => return None,
        };
        match (rest, &element.data) {
            ([], Data::Verdict(Verdict::Goto(chain))) => {
                let balancer = Balancer::parse(chain)?;
                (balancer.node_port == matches!(frontend, Frontend::NodePort { .. })).then_some(Self::Balance(frontend, balancer.count))
            }
            ([Value::Mark(place)], Data::Value(value)) => match value.values(&[family.addr_type(), DataType::Service])?.as_slice() {
                [Value::Ip(ip), Value::Port(port)] => Some(Self::Place(frontend, *place, *ip, *port)),
                _ => None,
            },
            _ => None,
        }
    }
}

fn key_of(frontend: &Frontend, place: Option<u32>) -> Concat {
    let proto = Value::Proto(protocol_number(frontend.protocol()));
    let values = match *frontend {
        Frontend::ClusterIp { ip, port, .. } => [Value::Ip(ip), proto, Value::Port(port), Value::Mark(place.unwrap_or_default())],
        Frontend::NodePort { port, .. } => [proto, Value::Port(port), Value::Mark(place.unwrap_or_default()), Value::Mark(0)],
    };
    let parts = if matches!(frontend, Frontend::ClusterIp { .. }) { 3 } else { 2 } + usize::from(place.is_some());
    Concat::of(values.get(..parts).unwrap_or(&values))
}

/// A chain that spreads connections over a number of endpoints: `n2` for cluster IPs, `p2` for node ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Balancer {
    /// Whether it serves node ports.
    pub node_port: bool,
    /// Number of endpoints, at least 1.
    pub count: u32,
}

impl Balancer {
    /// The chain's name.
    pub fn name(self) -> String {
        format!("{}{}", if self.node_port { 'p' } else { 'n' }, self.count)
    }

    /// Reads a chain's name.
    pub fn parse(name: &str) -> Option<Self> {
        let (node_port, digits) = name.strip_prefix('n').map(|d| (false, d)).or_else(|| name.strip_prefix('p').map(|d| (true, d)))?;
        let count = digits.parse().ok().filter(|count| *count > 0)?;
        // Only the exact name: not `n+2`, not `n02`.
        let balancer = Self { node_port, count };
        (balancer.name() == name).then_some(balancer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let fronts = |ip: IpAddr| {
            let protocol = Protocol::Udp;
            [Frontend::ClusterIp { ip, protocol, port: 53 }, Frontend::NodePort { family: family_of(ip), protocol, port: 30053 }]
        };
        for ip in ["10.96.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap()) {
            for frontend in fronts(ip) {
                for piece in [Piece::Balance(frontend, 17), Piece::Place(frontend, 4000, ip, 65535)] {
                    assert_eq!(Piece::read(piece.set(), piece.family(), &piece.element()), Some(piece));
                }
                let foreign = Element::verdict(key_of(&frontend, None), Verdict::Accept);
                assert_eq!(Piece::read(Piece::Balance(frontend, 1).set(), frontend.family(), &foreign), None);
            }
        }
    }

    #[test]
    fn elements_fit_their_sets() {
        let ip = "10.96.0.1".parse().unwrap();
        let cluster = Frontend::ClusterIp { ip, protocol: Protocol::Tcp, port: 80 };
        let node = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Tcp, port: 30080 };
        let pieces = [cluster, node].into_iter().flat_map(|f| [Piece::Balance(f, 1), Piece::Place(f, 0, ip, 1), Piece::NoEndpoints(f)]);
        for piece in pieces.chain([Piece::ClusterIp(ip), Piece::Hairpin(ip, Protocol::Tcp, 80)]) {
            let set = piece.set().set(Family::Ip);
            assert!(piece.element().key.values(&set.key).is_some(), "{piece:?} in {}", set.name);
        }
    }

    #[test]
    fn only_exact_chain_names_are_balancers() {
        assert_eq!(Balancer::parse("n2"), Some(Balancer { node_port: false, count: 2 }));
        assert_eq!(Balancer::parse("p5000"), Some(Balancer { node_port: true, count: 5000 }));
        for name in ["n0", "n", "n+2", "n02", "x1", "nat-output", "n4294967296"] {
            assert_eq!(Balancer::parse(name), None, "{name}");
        }
    }
}
