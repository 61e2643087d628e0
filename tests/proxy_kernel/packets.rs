//! Who reaches what, from a pod, from the host and from outside.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use kubelet_rs::api::WatchEvent;

use crate::place::{Answer, UdpClient, ask, eventually, succeeds};
use crate::world::{KINDS, Mode, World, address};

fn refused(answer: &Result<Answer, ErrorKind>) -> bool {
    *answer == Err(ErrorKind::ConnectionRefused)
}

fn names(mut ask: impl FnMut() -> Result<Answer, ErrorKind>) -> HashSet<String> {
    (0..40).map(|_| ask().unwrap().server).collect()
}

#[test]
fn cluster_ips_and_node_ports_reach_all_endpoints() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            world.start(vec![world.make_service(1, 30080)], vec![world.make_slice(1, &[1, 2])]);
            let vip = world.vip(1);
            succeeds("the Service works", || ask(vip));
            let both = HashSet::from(["pod1".to_string(), "pod2".to_string()]);
            let [pod1, pod2, outside] = &world.ends;
            assert_eq!(names(|| ask(vip)), both, "from the host");
            assert_eq!(names(|| outside.ask(vip)), both, "from outside through the node");
            assert_eq!(names(|| pod2.run(move || UdpClient::new(vip).ask())), both, "UDP from a pod");

            // The node port: on every address of the node, and answers must come back through it.
            for (what, place, link) in [("a pod", pod1, 1), ("outside", outside, 3)] {
                let node = SocketAddr::from((address(family, link, 254), 30080));
                assert_eq!(names(|| place.ask(node)), both, "{what}");
                assert_eq!(names(|| place.run(move || UdpClient::new(node).ask())), both, "{what}, UDP");
            }
            let node = SocketAddr::from((address(family, 3, 254), 30080));
            assert_eq!(names(|| ask(node)), both, "from the host itself");
            let seen: HashSet<_> = (0..40).map(|_| outside.ask(node).unwrap().client).collect();
            assert_eq!(seen, HashSet::from([1, 2].map(|link| address(family, link, 254))), "masqueraded");
            // And nobody else is.
            assert_eq!(outside.ask(vip).unwrap().client, address(family, 3, 1));
        });
    }
}

#[test]
fn a_pod_reaches_itself() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            world.start(vec![world.make_service(1, 0)], vec![world.make_slice(1, &[1])]);
            let vip = world.vip(1);
            let [pod1, pod2, _] = &world.ends;
            let answer = succeeds("the pod reaches itself", || pod1.ask(vip));
            assert_eq!((answer.client, answer.server.as_str()), (address(family, 1, 254), "pod1"));
            assert_eq!(pod1.run(move || UdpClient::new(vip).ask()).unwrap().server, "pod1");
            assert_eq!(pod2.ask(vip).unwrap().client, address(family, 2, 1), "others keep their address");
        });
    }
}

#[test]
fn without_endpoints_connections_are_refused() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            world.start(vec![world.make_service(1, 30080), world.make_service(2, 0)], vec![world.make_slice(2, &[2])]);
            let (none, some) = (world.vip(1), world.vip(2));
            let [pod1, _, outside] = &world.ends;
            succeeds("the other Service works", || pod1.ask(some));
            let node = SocketAddr::from((address(family, 3, 254), 30080));
            // Somebody else who listens on the host doesn't get the Service's connections.
            let _other = TcpListener::bind(node).unwrap();
            assert!(refused(&pod1.ask(none)), "from a pod");
            assert!(refused(&ask(none)), "from the host");
            assert!(refused(&outside.ask(node)), "node port");
            assert!(refused(&ask(node)), "node port from the host");
            assert!(refused(&pod1.run(move || UdpClient::new(none).ask())), "UDP");
            // In iptables mode neither upstream nor we take care of that.
            let other_port = SocketAddr::from((some.ip(), 81));
            assert!(world.mode == Mode::Iptables || refused(&pod1.ask(other_port)), "a port that the Service doesn't have");

            // The first endpoint comes, and the last one goes.
            world.slice(WatchEvent::Applied(world.make_slice(1, &[1])));
            succeeds("an endpoint came", || outside.ask(node));
            assert!(pod1.ask(none).is_ok());
            world.slice(WatchEvent::Applied(world.make_slice(1, &[])));
            eventually("no endpoint is left", || outside.ask(node), refused);
            assert!(refused(&pod1.ask(none)));
            // The Service itself goes: nothing of it is refused any more, it's just some address behind the default route.
            world.service(WatchEvent::Deleted(world.make_service(1, 30080)));
            eventually("the Service is gone", || world.rules(), |rules| !rules.contains("30080"));
        });
    }
}

#[test]
fn a_udp_client_is_moved_to_the_endpoint_that_remains() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            world.start(vec![world.make_service(1, 30080)], vec![world.make_slice(1, &[1])]);
            let (vip, node) = (world.vip(1), SocketAddr::from((address(family, 3, 254), 30080)));
            let outside = &world.ends[2];
            succeeds("UDP works", || outside.run(move || UdpClient::new(vip).ask()));
            let clients = outside.run(move || [vip, node].map(UdpClient::new));
            assert!(clients.iter().all(|c| c.ask().unwrap().server == "pod1"));
            world.slice(WatchEvent::Applied(world.make_slice(1, &[2])));
            for client in &clients {
                eventually("the flow moves", || client.ask(), |a| a.as_ref().is_ok_and(|a| a.server == "pod2"));
            }
            // While there is no endpoint, flows are left alone, as upstream does; new ones are refused.
            world.slice(WatchEvent::Applied(world.make_slice(1, &[])));
            eventually("a new flow is refused", || outside.run(move || UdpClient::new(vip).ask()), refused);
            assert!(clients.iter().all(|c| c.ask().unwrap().server == "pod2"));
            world.slice(WatchEvent::Applied(world.make_slice(1, &[1, 2])));
            for client in &clients {
                succeeds("the flow begins", || client.ask());
            }
            // Nor is one whose endpoint terminates, as long as it serves.
            let before = clients[0].ask().unwrap().server;
            let mut slice = world.make_slice(1, &[1, 2]);
            let leaves = if before == "pod1" { 0 } else { 1 };
            (slice.endpoints[leaves].ready, slice.endpoints[leaves].terminating) = (false, true);
            world.slice(WatchEvent::Applied(slice));
            let other = if before == "pod1" { "pod2" } else { "pod1" };
            let new = || outside.run(move || UdpClient::new(vip).ask());
            eventually("new flows go elsewhere", || (0..8).all(|_| new().is_ok_and(|a| a.server == other)), |all| *all);
            std::thread::park_timeout(std::time::Duration::from_millis(300));
            assert_eq!(clients[0].ask().unwrap().server, before);
            world.slice(WatchEvent::Applied(world.make_slice(1, &[1, 2])));
            // A flow whose endpoint stays is left alone, whoever else comes and goes.
            let before = clients[0].ask().unwrap().server;
            let stays = if before == "pod1" { 1 } else { 2 };
            world.slice(WatchEvent::Applied(world.make_slice(1, &[stays])));
            for _ in 0..10 {
                assert_eq!(clients[0].ask().unwrap().server, before);
            }
        });
    }
}
