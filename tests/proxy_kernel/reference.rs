//! Random Services: what packets do is what a small reference says, which shares no code with the proxy.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kubelet_rs::api::WatchEvent;
use kubelet_rs::model::service::{Endpoint, Service};
use kubelet_rs::nft::Family;
use kubelet_rs::proxy::terms::{LocalTraffic, Terms};

use crate::dice::Dice;
use crate::place::{Answer, ask_within, eventually};
use crate::world::{KINDS, Mode, World, address};

const SERVICES: u16 = 4;

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    /// Pod 1, on this node.
    Pod,
    /// The node itself.
    Node,
    /// Somebody outside.
    Outside,
}

/// What is connected to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    ClusterIp(IpAddr),
    External(IpAddr),
    LoadBalancer(IpAddr),
    NodePort(IpAddr),
}

/// What must come of it.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// One of these pods answers; all of them do if it is tried often enough, unless clients stay with theirs.
    Answers(HashSet<String>),
    Refused,
    Dropped,
}

/// The reference. `told_apart`: whether this node's pods are told from others.
fn expected(client: Client, from: IpAddr, way: Way, service: &Service, endpoints: &[Endpoint], told_apart: bool) -> Outcome {
    let traffic = service.traffic();
    if let Way::LoadBalancer(_) = way
        && !traffic.source_ranges.is_empty()
        && !traffic.source_ranges.iter().any(|range| range.contains(from))
    {
        return Outcome::Dropped;
    }
    let usable = |here: bool| {
        let near = || endpoints.iter().filter(move |e| e.local || !here);
        let ready: Vec<_> = near().filter(|e| e.ready).collect();
        if ready.is_empty() { near().filter(|e| e.serving && e.terminating).collect() } else { ready }
    };
    if usable(false).is_empty() {
        return Outcome::Refused;
    }
    let inside = client == Client::Node || (client == Client::Pod && told_apart);
    let here = match way {
        Way::ClusterIp(_) => traffic.internal_local,
        _ => traffic.external_local && !inside,
    };
    let pods: HashSet<String> = usable(here).iter().map(|e| name(e.ip)).collect();
    if pods.is_empty() { Outcome::Dropped } else { Outcome::Answers(pods) }
}

/// The pod at an address: the number of its link.
fn name(ip: IpAddr) -> String {
    let link = match ip {
        IpAddr::V4(ip) => u16::from(ip.octets()[2]),
        IpAddr::V6(ip) => ip.segments()[3],
    };
    format!("pod{link}")
}

/// What comes of it with real packets. Another number of tries for what should answer, because all endpoints are to be seen.
fn seen(world: &World, client: Client, to: SocketAddr, want: &Outcome, sticky: bool) -> Result<(), String> {
    let patience = if *want == Outcome::Dropped { Duration::from_millis(300) } else { Duration::from_secs(3) };
    let ask = || -> Result<Answer, ErrorKind> {
        match client {
            Client::Pod => world.ends[0].run(move || ask_within(to, patience)),
            Client::Outside => world.ends[2].run(move || ask_within(to, patience)),
            Client::Node => ask_within(to, patience),
        }
    };
    match want {
        Outcome::Refused => match ask() {
            Err(ErrorKind::ConnectionRefused) => Ok(()),
            other => Err(format!("{other:?}")),
        },
        Outcome::Dropped => match ask() {
            Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => Ok(()),
            other => Err(format!("{other:?}")),
        },
        Outcome::Answers(pods) => {
            let mut answered = HashSet::new();
            for _ in 0..40 {
                answered.insert(ask().map_err(|error| format!("{error:?}"))?.server);
                if answered == *pods || !answered.is_subset(pods) {
                    break;
                }
            }
            let fine = if sticky { answered.len() == 1 && answered.is_subset(pods) } else { answered == *pods };
            if fine { Ok(()) } else { Err(format!("{answered:?}")) }
        }
    }
}

fn ways(family: Family, service: &Service, client: Client) -> Vec<(Way, SocketAddr)> {
    let traffic = service.traffic();
    // An address of the node that the client has a way to.
    let node = address(family, if client == Client::Pod { 1 } else { 3 }, 254);
    let port = &service.ports[0];
    let mut all: Vec<_> = service.cluster_ips.iter().map(|ip| (Way::ClusterIp(*ip), (*ip, port.port).into())).collect();
    all.extend(traffic.external_ips.iter().map(|ip| (Way::External(*ip), (*ip, port.port).into())));
    all.extend(traffic.load_balancer_ips.iter().map(|ip| (Way::LoadBalancer(*ip), (*ip, port.port).into())));
    all.extend((port.node_port != 0).then(|| (Way::NodePort(node), (node, port.node_port).into())));
    all
}

#[test]
fn packets_do_what_the_reference_says() {
    // Side by side: clients on the node take a second to notice a refusal.
    std::thread::scope(|threads| {
        for (mode, family) in KINDS {
            threads.spawn(move || packets_of(mode, family));
        }
    });
}

fn packets_of(mode: Mode, family: Family) {
    World::test_in(mode, family, move |mut world| {
        let mut dice = Dice(if family == Family::Ip { 7 } else { 11 });
        let told_apart = family == Family::Ip;
        let local = if told_apart { LocalTraffic::Interface("link1".into()) } else { LocalTraffic::Unknown };
        world.start_under(Terms { local, ..Terms::default() }, vec![], vec![]);
        let mut checks = BTreeMap::<&str, usize>::new();
        for step in 0..5 {
            let mut state = Vec::new();
            for n in 1..=SERVICES {
                let mut service = world.make_service(n, if dice.often(6) { 30_000 + n } else { 0 });
                dice.dress(&mut service, family, n);
                let mut slice = world.make_slice(n, &[]);
                for pod in [1, 2] {
                    if dice.often(8) {
                        // Pod 1 is on this node; pod 2 may be on another one.
                        let local = pod == 1 || dice.often(4);
                        slice.endpoints.push(dice.endpoint(address(family, pod, 1), local));
                    }
                }
                world.service(WatchEvent::Applied(service.clone()));
                world.slice(WatchEvent::Applied(slice.clone()));
                state.push((service, slice));
            }
            let (services, slices): (Vec<_>, Vec<_>) = state.iter().cloned().unzip();
            match mode {
                Mode::Nftables => {
                    let want = crate::model::comparable(&world.fresh_under(world.terms(), services, slices));
                    eventually("it is programmed", || crate::model::comparable(&crate::host::list()), |now| *now == want);
                }
                Mode::Iptables => world.settle(),
            }
            for (service, slice) in &state {
                for client in [Client::Pod, Client::Node, Client::Outside] {
                    for (way, to) in ways(family, service, client) {
                        let from = if client == Client::Pod {
                            address(family, 1, 1)
                        } else {
                            address(family, 3, if client == Client::Node { 254 } else { 1 })
                        };
                        let want = expected(client, from, way, service, &slice.endpoints, told_apart);
                        let sticky = service.traffic().affinity.is_some();
                        if let Err(got) = seen(&world, client, to, &want, sticky) {
                            panic!(
                                "{mode:?}, {family}, step {step}: {client:?} → {way:?} of {service:#?}\nwith {:#?}:\nwant {want:?}, got {got}\n{}",
                                slice.endpoints,
                                world.rules()
                            );
                        }
                        let kind = match want {
                            Outcome::Answers(_) => "answered",
                            Outcome::Refused => "refused",
                            Outcome::Dropped => "dropped",
                        };
                        *checks.entry(kind).or_default() += 1;
                    }
                }
            }
        }
        println!("{mode:?}, {family}: {checks:?}");
        assert!(checks.len() == 3 && checks.values().all(|count| *count > 2), "{checks:?}");
    });
}
