use super::*;
use crate::model::service::{Endpoint, EndpointPort, Protocol, ServicePort};

fn id(name: &str) -> ServiceName {
    ServiceName { namespace: "d".into(), name: name.into() }
}

fn service(name: &str, port: u16) -> Service {
    let ports = vec![ServicePort { name: "".into(), protocol: Protocol::Tcp, port, node_port: 0 }];
    Service { id: id(name), ours: true, cluster_ips: vec![[10, 96, 0, 1].into()], ports, traffic: None }
}

fn slice(name: &str, service: &str, last: u8) -> EndpointSlice {
    EndpointSlice {
        id: id(name),
        service: service.into(),
        endpoints: vec![Endpoint {
            ip: [10, 0, 0, last].into(),
            ready: true,
            serving: true,
            terminating: false,
            local: false,
            hints: None,
        }],
        ports: vec![EndpointPort { name: "".into(), protocol: Protocol::Tcp, port: 80 }],
        triggered: None,
    }
}

fn synced(services: Vec<Service>, slices: Vec<EndpointSlice>) -> Tracker {
    let mut tracker = Tracker::default();
    tracker.slice_event(WatchEvent::Snapshot(slices));
    assert!(!tracker.ready(), "Services are still on their way");
    tracker.service_event(WatchEvent::Snapshot(services));
    assert!(tracker.ready());
    tracker
}

fn changed(tracker: &mut Tracker) -> Vec<String> {
    tracker.take_changes().keys().map(|id| id.name.to_string()).collect()
}

#[test]
fn only_what_changed_is_named() {
    let mut t = synced(vec![service("a", 1), service("b", 1)], vec![slice("a-1", "a", 1)]);
    assert_eq!(changed(&mut t), ["a", "b"]);
    t.service_event(WatchEvent::Applied(service("a", 1)));
    t.slice_event(WatchEvent::Applied(slice("a-1", "a", 1)));
    t.slice_event(WatchEvent::Applied(slice("x-1", "no-such-service", 1)));
    assert_eq!(changed(&mut t), Vec::<String>::new(), "nothing really changed");
    t.slice_event(WatchEvent::Applied(slice("a-1", "a", 2)));
    assert_eq!(changed(&mut t), ["a"]);
    t.slice_event(WatchEvent::Deleted(slice("a-1", "a", 2)));
    assert_eq!(changed(&mut t), ["a"]);
    assert!(t.slices_of(&id("a")).is_empty());
}

#[test]
fn the_version_before_the_first_change_is_kept() {
    let mut t = synced(vec![service("a", 1)], vec![]);
    assert_eq!(t.take_changes().get(&id("a")), Some(&None));
    t.service_event(WatchEvent::Applied(service("a", 2)));
    t.service_event(WatchEvent::Applied(service("a", 3)));
    t.service_event(WatchEvent::Deleted(service("a", 3)));
    let before = t.take_changes().remove(&id("a")).flatten().unwrap();
    assert_eq!(before.ports[0].port, 1);
    assert_eq!(t.catalog().get(&id("a")), None);
}

#[test]
fn a_snapshot_removes_what_is_gone() {
    let mut t = synced(vec![service("a", 1), service("b", 1)], vec![slice("a-1", "a", 1), slice("b-1", "b", 2)]);
    t.take_changes();
    t.service_event(WatchEvent::Snapshot(vec![service("b", 1), service("c", 1)]));
    assert_eq!(changed(&mut t), ["a", "c"]);
    t.slice_event(WatchEvent::Snapshot(vec![slice("c-1", "c", 3)]));
    assert_eq!(changed(&mut t), ["b", "c"]);
    assert!(t.slices_of(&id("a")).is_empty() && t.slices_of(&id("b")).is_empty());
    assert_eq!(t.known.len(), 1);
}

#[test]
fn a_slice_may_move_to_another_service_or_to_none() {
    let mut t = synced(vec![service("a", 1), service("b", 1)], vec![slice("s", "a", 1)]);
    t.take_changes();
    t.slice_event(WatchEvent::Applied(slice("s", "b", 1)));
    assert_eq!(changed(&mut t), ["a", "b"]);
    assert_eq!((t.slices_of(&id("a")).len(), t.slices_of(&id("b")).len()), (0, 1));
    t.slice_event(WatchEvent::Applied(slice("s", "", 1)));
    assert_eq!(changed(&mut t), ["b"]);
    assert!(t.known.is_empty() && t.slices.is_empty());
}

#[test]
fn services_without_cluster_ip_are_none() {
    let mut t = synced(vec![service("a", 1)], vec![]);
    t.take_changes();
    let mut external = service("a", 1);
    external.cluster_ips.clear();
    t.service_event(WatchEvent::Applied(external));
    assert_eq!(changed(&mut t), ["a"]);
    assert!(t.catalog().services_in("d").is_empty());
}

#[test]
fn a_deleted_slice_is_found_whatever_its_last_label_says() {
    let mut t = synced(vec![service("a", 1)], vec![slice("s", "a", 1)]);
    t.take_changes();
    t.slice_event(WatchEvent::Deleted(slice("s", "b", 1)));
    assert_eq!(changed(&mut t), ["a"]);
    assert!(t.known.is_empty() && t.slices.is_empty());
}

#[test]
fn names_are_stored_once() {
    // Slices first: they can't know yet that the Service will bring the same name.
    let mut t = synced(vec![service("a", 1), service("b", 1)], vec![slice("a-1", "a", 1)]);
    t.slice_event(WatchEvent::Applied(slice("b-1", "b", 1)));
    for name in ["a", "b"] {
        let (key, _) = t.slices.get_key_value(&id(name)).unwrap();
        let service = t.catalog().get(&id(name)).unwrap();
        assert!(Arc::ptr_eq(&key.name, &service.id.name) && Arc::ptr_eq(&key.namespace, &service.id.namespace));
    }
    let namespaces: Vec<_> = ["a", "b"].map(|n| t.catalog().get(&id(n)).unwrap().id.namespace.clone()).into();
    assert!(Arc::ptr_eq(&namespaces[0], &namespaces[1]));
}

#[test]
fn slices_are_kept_in_the_order_of_their_names() {
    let t = synced(vec![service("a", 1)], vec![slice("a-2", "a", 2), slice("a-1", "a", 1), slice("a-3", "a", 3)]);
    let names: Vec<_> = t.slices_of(&id("a")).iter().map(|s| s.name.to_string()).collect();
    assert_eq!(names, ["a-1", "a-2", "a-3"]);
}
