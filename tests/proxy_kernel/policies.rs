//! What some Services ask for: who may reach them, whom they lead to, and whose address their endpoints see.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::SocketAddr;

use kubelet_rs::api::WatchEvent;
use kubelet_rs::model::prefix::Prefix;
use kubelet_rs::model::service::{EndpointSlice, Service, Traffic};
use kubelet_rs::nft::Family;
use kubelet_rs::proxy::terms::{LocalTraffic, Terms};

use crate::place::{Answer, ask, eventually, succeeds};
use crate::world::{KINDS, Mode, World, address, external};

fn with(service: Service, traffic: Traffic) -> Service {
    Service { traffic: Some(Box::new(traffic)), ..service }
}

/// The slice with only these pods on this node; pods of other nodes are reached just as well.
fn local(mut slice: EndpointSlice, pods: &[u8]) -> EndpointSlice {
    for (endpoint, pod) in slice.endpoints.iter_mut().zip(1..) {
        endpoint.local = pods.contains(&pod);
    }
    slice
}

/// Pod 1 is on this node, and its packets are told from others by where they come in.
fn terms() -> Terms {
    Terms { local: LocalTraffic::Interface("link1".into()), ..Terms::default() }
}

fn servers(mut ask: impl FnMut() -> Result<Answer, ErrorKind>) -> HashSet<String> {
    (0..40).map(|_| ask().unwrap().server).collect()
}

fn named(names: &[&str]) -> HashSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn dropped(answer: &Result<Answer, ErrorKind>) -> bool {
    *answer == Err(ErrorKind::TimedOut) || *answer == Err(ErrorKind::WouldBlock)
}

#[test]
fn external_addresses_lead_to_the_endpoints_with_the_nodes_address() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            let traffic = Traffic {
                external_ips: [external(family, 1)].into(),
                load_balancer_ips: [external(family, 2)].into(),
                ..Traffic::default()
            };
            world.start(vec![with(world.make_service(1, 0), traffic)], vec![world.make_slice(1, &[1, 2])]);
            let [pod1, _, outside] = &world.ends;
            for n in [1, 2] {
                let to = SocketAddr::from((external(family, n), 80));
                succeeds("it works", || ask(to));
                assert_eq!(servers(|| outside.ask(to)), named(&["pod1", "pod2"]));
                assert_eq!(servers(|| pod1.ask(to)), named(&["pod1", "pod2"]));
                let seen: HashSet<_> = (0..40).map(|_| outside.ask(to).unwrap().client).collect();
                assert_eq!(seen, HashSet::from([1, 2].map(|link| address(family, link, 254))), "masqueraded");
            }
        });
    }
}

#[test]
fn source_ranges_keep_others_from_the_load_balancer_only() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            let range = Prefix::new(address(family, 1, 0), if family == Family::Ip { 24 } else { 64 }).unwrap();
            let traffic = Traffic {
                external_ips: [external(family, 1)].into(),
                load_balancer_ips: [external(family, 2)].into(),
                source_ranges: [range].into(),
                ..Traffic::default()
            };
            let service = with(world.make_service(1, 30080), traffic.clone());
            world.start(vec![service.clone()], vec![world.make_slice(1, &[1, 2])]);
            let [pod1, _, outside] = &world.ends;
            let to = |n| SocketAddr::from((external(family, n), 80));
            succeeds("those in the range", || pod1.ask(to(2)));
            assert!(dropped(&outside.ask(to(2))), "others");
            assert!(outside.ask(to(1)).is_ok(), "other addresses of the Service");
            assert!(outside.ask((address(family, 3, 254), 30080).into()).is_ok(), "node ports");
            let open = Traffic { source_ranges: Box::default(), ..traffic };
            world.service(WatchEvent::Applied(with(service, open)));
            succeeds("without ranges", || outside.ask(to(2)));
        });
    }
}

#[test]
fn clients_stay_with_their_endpoint_while_it_is_there() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            let sticky = |seconds| Traffic { affinity: Some(seconds), external_ips: [external(family, 1)].into(), ..Traffic::default() };
            let service = with(world.make_service(1, 30080), sticky(3600));
            world.start(vec![service.clone()], vec![world.make_slice(1, &[1, 2])]);
            let [pod1, pod2, outside] = &world.ends;
            let ways = [world.vip(1), (external(family, 1), 80).into(), (address(family, 3, 254), 30080).into()];
            for way in ways {
                succeeds("it works", || outside.ask(way));
                for place in [pod1, pod2, outside] {
                    assert_eq!(servers(|| place.ask(way)).len(), 1, "{way}");
                }
                assert_eq!(servers(|| ask(way)).len(), 1, "{way} from the host");
            }
            // The endpoint goes: its clients get another one, others stay.
            let before = outside.ask(ways[0]).unwrap().server;
            let other = if before == "pod1" { "pod2" } else { "pod1" };
            let stays = if before == "pod1" { 2 } else { 1 };
            world.slice(WatchEvent::Applied(world.make_slice(1, &[stays])));
            for way in ways {
                eventually("another one", || outside.ask(way).map(|answer| answer.server), |server| server.as_deref() == Ok(other));
            }
            world.slice(WatchEvent::Applied(world.make_slice(1, &[1, 2])));
            world.settle();
            for way in ways {
                assert_eq!(servers(|| outside.ask(way)), named(&[other]), "{way}: it stays where it is now");
            }
            // A quiet client is forgotten.
            world.service(WatchEvent::Applied(with(service, sticky(1))));
            world.settle();
            let pause = || std::thread::park_timeout(std::time::Duration::from_millis(2200));
            // What was learned with the old time lives for so long after the client's next connection.
            let vip = (external(family, 1), 80).into();
            outside.ask(vip).unwrap();
            let tries = (0..12).map(|_| {
                pause();
                outside.ask(vip).unwrap().server
            });
            assert!(tries.into_iter().any(|server| server != other), "it never moved");
        });
    }
}

#[test]
fn a_local_policy_keeps_to_this_node() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            let traffic = Traffic { internal_local: true, ..Traffic::default() };
            let outward = Traffic { external_local: true, external_ips: [external(family, 1)].into(), ..Traffic::default() };
            let services = vec![with(world.make_service(1, 0), traffic), with(world.make_service(2, 30080), outward)];
            let one = [1, 2].map(|n| local(world.make_slice(n, &[1, 2]), &[1])).to_vec();
            let none = [1, 2].map(|n| local(world.make_slice(n, &[2]), &[]));
            world.start_under(terms(), services, one);
            let (inward, outward) = (world.vip(1), [(external(family, 1), 80).into(), (address(family, 3, 254), 30080).into()]);
            let both = named(&["pod1", "pod2"]);
            succeeds("it works", || ask(inward));
            {
                let [pod1, pod2, outside] = &world.ends;
                // From inside only this node's endpoints.
                for place in [pod1, pod2, outside] {
                    assert_eq!(servers(|| place.ask(inward)), named(&["pod1"]));
                }
                assert_eq!(servers(|| ask(inward)), named(&["pod1"]));
                for way in outward {
                    // From outside only this node's endpoints, who see the client's address.
                    assert_eq!(servers(|| outside.ask(way)), named(&["pod1"]), "{way}");
                    assert_eq!(outside.ask(way).unwrap().client, address(family, 3, 1), "{way}");
                    // From this node's pods and the node itself all of them.
                    assert_eq!(servers(|| pod1.ask(way)), both, "{way} from a pod");
                    assert_eq!(servers(|| ask(way)), both, "{way} from the node");
                }
                assert_eq!(servers(|| outside.ask(world.vip(2))), both, "the cluster IP knows no external policy");
            }
            // No endpoint on this node: a load balancer must try another node, so nobody says that the Service has none.
            none.into_iter().for_each(|slice| world.slice(WatchEvent::Applied(slice)));
            let [pod1, _, outside] = &world.ends;
            eventually("dropped", || outside.ask(outward[0]), dropped);
            assert!(dropped(&outside.ask(outward[1])));
            assert!(dropped(&pod1.ask(inward)));
            for way in outward {
                assert_eq!(servers(|| pod1.ask(way)), named(&["pod2"]), "{way} from a pod");
                assert_eq!(servers(|| ask(way)), named(&["pod2"]), "{way} from the node");
            }
        });
    }
}

#[test]
fn terms_may_change_while_everything_works() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            world.start(vec![world.make_service(1, 30080)], vec![world.make_slice(1, &[1, 2])]);
            let vip = world.vip(1);
            succeeds("it works", || ask(vip));
            let node = |link| SocketAddr::from((address(family, link, 254), 30080));
            assert!(world.ends[2].ask(node(3)).is_ok() && world.ends[0].ask(node(1)).is_ok());
            assert_eq!(world.ends[2].ask(vip).unwrap().client, address(family, 3, 1), "as it is");
            let hosts = HashSet::from([1, 2].map(|link| address(family, link, 254)));
            let seen = |world: &World, place: usize| (0..20).map(|_| world.ends[place].ask(vip).unwrap().client).collect::<HashSet<_>>();

            // Node ports on one address only.
            world.set_terms(Terms { node_port_ips: HashMap::from([(family, vec![address(family, 3, 254)])]), ..terms() });
            eventually("elsewhere there is nothing", || world.ends[0].ask(node(1)), |a| *a == Err(ErrorKind::ConnectionRefused));
            assert!(world.ends[2].ask(node(3)).is_ok());
            // Who isn't one of this node's pods comes with the node's address.
            assert_eq!(seen(&world, 2), hosts);
            assert!(seen(&world, 0).contains(&address(family, 1, 1)));
            world.set_terms(Terms { masquerade_all: true, ..Terms::default() });
            eventually("everybody does", || seen(&world, 0), |seen| *seen == hosts);
            // What nobody has in the cluster's range is dropped, but not in iptables mode, as upstream.
            if mode == Mode::Iptables {
                return;
            }
            let unused = (crate::world::cluster_ip(family, 77), 80).into();
            let bits = if family == Family::Ip { 16 } else { 112 };
            world.set_terms(Terms { service_ranges: Prefix::new(vip.ip(), bits).into_iter().collect(), ..Terms::default() });
            eventually("rules say so", crate::host::list, |rules| rules.contains(&format!("/{bits} drop")));
            assert!(dropped(&world.ends[0].ask(unused)));
            assert_eq!(world.ends[2].ask(vip).unwrap().client, address(family, 3, 1), "as it was");
        });
    }
}
