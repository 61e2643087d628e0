//! Short forms of Services and slices for tests, and tables in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use proptest::prelude::*;

use crate::api::WatchEvent;
use crate::model::service::{Endpoint, EndpointPort, EndpointSlice, Hints, Protocol, Service, ServiceName, ServicePort, Traffic};
use crate::nft::Family;

use super::chain::ChainId;
use super::frontend::Frontend;
use super::piece::{Balancer, Piece, Policy, Refusal, Slot};
use super::plan::Plan;

fn id(name: &str) -> ServiceName {
    ServiceName { namespace: "d".into(), name: name.into() }
}

fn protocol(text: &str) -> Protocol {
    match text {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        other => panic!("{other}"),
    }
}

/// `service("web", "10.96.0.1 fd00::1", "TCP 80 30080, UDP 53")`: ports with optional node port.
pub fn service(name: &str, ips: &str, ports: &str) -> Service {
    let ports = ports.split(", ").filter(|p| !p.is_empty()).map(|text| {
        let mut words = text.split(' ');
        let protocol = protocol(words.next().unwrap());
        let port = words.next().unwrap().parse().unwrap();
        ServicePort { name: Default::default(), protocol, port, node_port: words.next().map_or(0, |p| p.parse().unwrap()) }
    });
    Service {
        id: id(name),
        ours: true,
        cluster_ips: ips.split_whitespace().map(|ip| ip.parse().unwrap()).collect(),
        ports: ports.collect(),
        traffic: None,
    }
}

/// `endpoint_slice("web", "10.0.0.1 10.0.0.2l", "TCP 8080")`: ready endpoints (`l`: local) of the Service's one slice.
pub fn endpoint_slice(service: &str, endpoints: &str, ports: &str) -> EndpointSlice {
    let endpoints = endpoints.split_whitespace().map(|text| {
        let (ip, local) = text.strip_suffix('l').map_or((text, false), |ip| (ip, true));
        Endpoint { ip: ip.parse().unwrap(), ready: true, serving: true, terminating: false, local, hints: None }
    });
    let ports = ports.split(", ").map(|text| {
        let (kind, port) = text.split_once(' ').unwrap();
        EndpointPort { name: Default::default(), protocol: protocol(kind), port: port.parse().unwrap() }
    });
    EndpointSlice {
        id: id(&format!("{service}-1")),
        service: service.into(),
        endpoints: endpoints.collect(),
        ports: ports.collect(),
        triggered: None,
    }
}

const NO_BALANCER: Balancer = Balancer { node_port: false, policy: Policy::Direct, count: 0, sticky: None };

/// Tables in memory: element key → data, by set. Refuses what the kernel refuses.
#[derive(Debug, Default)]
pub struct Tables {
    elements: BTreeMap<Piece, Piece>,
    chains: BTreeSet<(Family, ChainId)>,
}

impl Tables {
    /// The key part of a piece.
    fn key(piece: &Piece) -> Piece {
        match *piece {
            Piece::Balance(frontend, _) => Piece::Balance(frontend, NO_BALANCER),
            Piece::Inside(frontend, _) => Piece::Inside(frontend, NO_BALANCER),
            Piece::NoEndpoints(frontend, _) => Piece::NoEndpoints(frontend, Refusal::Reject),
            Piece::Firewall(frontend, _) => Piece::Firewall(frontend, 0),
            Piece::Sticky(frontend, _) => Piece::Sticky(frontend, 0),
            Piece::Place(slot, ..) => Piece::Place(slot, [0, 0, 0, 0].into(), 0),
            other @ (Piece::ClusterIp(_) | Piece::NodePortIp(_) | Piece::Hairpin(..)) => other,
        }
    }

    pub fn apply(&mut self, plan: &Plan, family: Family) {
        self.chains.extend(plan.chains.iter().map(|new| (new.family, new.id)));
        for piece in &plan.deletes {
            assert_eq!(self.elements.remove(&Self::key(piece)), Some(*piece), "deleted, but not there");
        }
        for piece in &plan.adds {
            assert_eq!(self.elements.insert(Self::key(piece), *piece), None, "added, but there already: {piece:?}");
            let chain = piece.chain().map(|id| (piece.family(), id));
            assert!(chain.is_none_or(|chain| self.chains.contains(&chain)), "leads nowhere: {piece:?}");
        }
        for id in &plan.idle {
            assert!(self.chains.remove(&(family, *id)), "no chain {}", id.name());
            let leads_there = |piece: &Piece| piece.family() == family && piece.chain() == Some(*id);
            assert!(!self.elements.values().any(leads_there), "in use: {}", id.name());
        }
    }

    /// Every number of endpoints has that many places.
    pub fn check_places(&self) {
        for piece in self.elements.values() {
            if let Piece::Balance(frontend, to) | Piece::Inside(frontend, to) = piece {
                let local = to.policy == Policy::Local;
                for place in 0..to.count {
                    let slot = Slot { frontend: *frontend, local, place };
                    let key = Self::key(&Piece::Place(slot, [0, 0, 0, 0].into(), 0));
                    assert!(self.elements.contains_key(&key), "{frontend} has no place {place} of {}", to.name());
                }
            }
        }
    }

    pub fn dump(&self) -> String {
        let mut lines = BTreeSet::new();
        for piece in self.elements.values() {
            let what = match piece {
                Piece::ClusterIp(ip) | Piece::NodePortIp(ip) => ip.to_string(),
                Piece::Balance(frontend, to) | Piece::Inside(frontend, to) => format!("{frontend} = {}", to.name()),
                Piece::Place(slot, ip, port) => format!("{} [{}] = {ip}:{port}", slot.frontend, slot.place),
                Piece::NoEndpoints(frontend, refusal) => format!("{frontend} = {refusal:?}"),
                Piece::Firewall(frontend, ranges) => format!("{frontend} = {ranges:x}"),
                Piece::Sticky(frontend, seconds) => format!("{frontend} = {seconds}"),
                Piece::Hairpin(ip, protocol, port) => format!("{protocol:?} {ip}:{port}"),
            };
            lines.insert(format!("{}: {what}", piece.set().name()));
        }
        lines.iter().fold(String::new(), |mut text, line| {
            writeln!(text, "{line}").unwrap();
            text
        })
    }

    /// What stands, without who has which place.
    pub fn without_order(&self) -> BTreeSet<(String, BTreeSet<(IpAddr, u16)>)> {
        let mut places: BTreeMap<(Frontend, bool), BTreeSet<(IpAddr, u16)>> = BTreeMap::new();
        let mut all = BTreeSet::new();
        for piece in self.elements.values() {
            match piece {
                Piece::Place(slot, ip, port) => {
                    places.entry((slot.frontend, slot.local)).or_default().insert((*ip, *port));
                }
                other => {
                    all.insert((format!("{other:?}"), BTreeSet::new()));
                }
            }
        }
        all.extend(places.into_iter().map(|(of, set)| (format!("{of:?}"), set)));
        all
    }
}

/// One event of either watch.
#[derive(Clone, Debug)]
pub enum Edit {
    Service(WatchEvent<Service>),
    Slice(WatchEvent<EndpointSlice>),
}

/// Any of a few Services (each with cluster IPs and node ports of its own) and their slices.
pub fn edit() -> impl Strategy<Value = Edit> {
    let traffic =
        (any::<[bool; 4]>(), 0u8..3, 0u8..3, 0u8..3, 0u8..3).prop_map(|([usual, internal, external, check], affinity, a, b, ranges)| {
            let addresses = |kind: u8, count: u8| -> Box<[IpAddr]> {
                (0..count).flat_map(|n| [[192, 0, kind, n].into(), format!("fd02::{kind}:{n}").parse().unwrap()]).collect()
            };
            let ranges = ["", "192.0.2.0/24", "10.0.0.0/8 fd00::/8 192.0.2.0/24"][usize::from(ranges)];
            (!usual).then(|| {
                Box::new(Traffic {
                    affinity: [None, Some(60), Some(3600)][usize::from(affinity)],
                    internal_local: internal,
                    external_local: external,
                    external_ips: addresses(1, a),
                    load_balancer_ips: addresses(2, b),
                    source_ranges: ranges.split_whitespace().map(|range| range.parse().unwrap()).collect(),
                    health_check_port: if check { 31_000 } else { 0 },
                })
            })
        });
    let services = (0u8..5, 0u8..3, 0u8..4, traffic).prop_map(|(n, ips, ports, traffic)| {
        let ips = [format!("10.96.0.{n}"), format!("10.96.0.{n} fd00::{n}"), format!("fd00::{n}")][usize::from(ips)].clone();
        let ports = ["TCP 80", "TCP 80 3000N", "UDP 53 3000N, TCP 53", "SCTP 80, TCP 80 3000N, UDP 81"][usize::from(ports)];
        // Each Service has external addresses of its own: who comes first keeps one that two want.
        let own = |ip: &mut IpAddr| match ip {
            IpAddr::V4(ip) => *ip = (ip.to_bits() + u32::from(n) * 16).into(),
            IpAddr::V6(ip) => *ip = (ip.to_bits() + u128::from(n) * 16).into(),
        };
        let traffic = traffic.map(|mut traffic: Box<Traffic>| {
            traffic.external_ips.iter_mut().chain(&mut traffic.load_balancer_ips).for_each(own);
            traffic
        });
        Service { traffic, ..service(&format!("s{n}"), &ips, &ports.replace('N', &n.to_string())) }
    });
    let hints = (0u8..4, 0u8..4).prop_map(|(zone, node)| {
        let zones = [&[][..], &["here"], &["there"], &["here", "there"]][usize::from(zone)].iter().map(|zone| (*zone).into()).collect();
        (node < 3).then(|| Box::new(Hints { zones, here: [None, Some(false), Some(true)][usize::from(node)] }))
    });
    let endpoint = (0u8..8, any::<[bool; 5]>(), hints).prop_map(|(n, [ready, serving, terminating, local, ipv6], hints)| {
        let ip: IpAddr = if ipv6 { format!("fd01::{n}").parse().unwrap() } else { [10, 0, 0, n].into() };
        Endpoint { ip, ready, serving, terminating, local, hints }
    });
    let slices = (0u8..5, 0u8..3, prop::collection::vec(endpoint, 0..5), 0u8..3).prop_map(|(n, slice, endpoints, ports)| {
        let ports = ["TCP 8080", "TCP 8080, UDP 53", "UDP 53, SCTP 9, TCP 81"][usize::from(ports)];
        let mut made = endpoint_slice(&format!("s{n}"), "", ports);
        made.id = id(&format!("slice-{n}-{slice}"));
        made.endpoints = endpoints;
        made
    });
    prop_oneof![
        3 => services.clone().prop_map(|s| Edit::Service(WatchEvent::Applied(s))),
        2 => services.clone().prop_map(|s| Edit::Service(WatchEvent::Deleted(s))),
        8 => slices.clone().prop_map(|s| Edit::Slice(WatchEvent::Applied(s))),
        2 => slices.clone().prop_map(|s| Edit::Slice(WatchEvent::Deleted(s))),
        1 => prop::collection::vec(services, 0..5).prop_map(|mut all| {
            all.sort_by(|a, b| a.id.cmp(&b.id));
            all.dedup_by(|a, b| a.id == b.id);
            Edit::Service(WatchEvent::Snapshot(all))
        }),
        1 => prop::collection::vec(slices, 0..8).prop_map(|mut all| {
            all.sort_by(|a, b| a.id.cmp(&b.id));
            all.dedup_by(|a, b| a.id == b.id);
            Edit::Slice(WatchEvent::Snapshot(all))
        }),
    ]
}
