use std::time::Duration;

use super::*;
use crate::runtime::{Image, RuntimeHandler, RuntimeHealth, RuntimeVersion};

pub fn settings() -> NodeSettings {
    NodeSettings {
        register: true,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        provider_id: String::new(),
        external_cloud_provider: false,
        node_ips: Vec::new(),
        controller_attach_detach: true,
        server_port: 10250,
        update_frequency: Duration::from_secs(10),
        report_frequency: Duration::from_secs(300),
        lease_duration: Duration::from_secs(40),
        max_images: 50,
        version: "v1.36.3".into(),
    }
}

pub fn machine() -> Machine {
    Machine {
        cpus: 2,
        memory: 4 << 30,
        ephemeral_storage: 1000 * 1024,
        hugepages: BTreeMap::from([(2 << 20, 4 << 20)]),
        boot_id: "boot-1".into(),
        architecture: "amd64",
        ..Machine::default()
    }
}

pub fn facts() -> NodeFacts {
    let withheld = Totals { milli_cpu: 70, memory: 100 << 20, ephemeral_storage: 1, pods: 0 };
    let ips = vec![[10, 0, 0, 5].into()];
    machine().facts("node-a".into(), ips, machine().capacity(110, 0), withheld)
}

fn view() -> RuntimeView {
    RuntimeView {
        health: Some(RuntimeHealth::default()),
        stale: false,
        version: Some(RuntimeVersion { name: "containerd".into(), version: "2.4.2".into() }),
        images: Vec::new(),
        error: None,
    }
}

fn status(view: &RuntimeView, not_ready: &[String], settings: &NodeSettings, old: &NodeStatus, at: i64) -> NodeStatus {
    let inputs = Inputs { machine: &machine(), facts: &facts(), settings, runtime: view, not_ready, pressures: &BTreeSet::new() };
    compute(&inputs, old, Timestamp::from_second(at).expect("time"))
}

fn ready(status: &NodeStatus) -> &NodeCondition {
    status.conditions.as_ref().and_then(|c| c.last()).expect("conditions")
}

#[test]
fn a_healthy_node_is_ready() {
    let status = status(&view(), &[], &settings(), &NodeStatus::default(), 1);
    let types: Vec<_> = status.conditions.iter().flatten().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
    assert_eq!(types, [("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True")]);
    assert!(is_ready(&status));
    let info = status.node_info.expect("info");
    assert_eq!((info.container_runtime_version.as_str(), info.kubelet_version.as_str()), ("containerd://2.4.2", "v1.36.3"));
    let text = |r: &Option<Resources>, name: &str| r.as_ref().and_then(|r| r.get(name)).map(|q| q.0.clone()).unwrap_or_default();
    assert_eq!((text(&status.capacity, "cpu"), text(&status.allocatable, "cpu")), ("2".into(), "1930m".into()));
    assert_eq!((text(&status.capacity, "memory"), text(&status.allocatable, "memory")), ("4Gi".into(), "3992Mi".into()));
    assert_eq!(text(&status.capacity, "hugepages-2Mi"), "4Mi");
    assert_eq!(
        (text(&status.capacity, "ephemeral-storage"), text(&status.allocatable, "ephemeral-storage")),
        ("1000Ki".into(), "1023999".into())
    );
    let addresses: Vec<_> = status.addresses.iter().flatten().map(|a| format!("{} {}", a.type_, a.address)).collect();
    assert_eq!(addresses, ["InternalIP 10.0.0.5", "Hostname node-a"]);
}

#[test]
fn every_reason_for_not_being_ready_is_told() {
    let none: &[String] = &[];
    let sick = RuntimeHealth { network_error: Some("no CNI config".into()), ..RuntimeHealth::default() };
    let table = [
        (RuntimeView::default(), none, "container runtime"),
        (RuntimeView { health: Some(sick.clone()), ..view() }, none, "no CNI config"),
        (RuntimeView { stale: true, error: Some("connection refused".into()), ..view() }, none, "connection refused"),
        (view(), &["pods are not synced yet".to_owned()], "pods are not synced yet"),
    ];
    for (view, not_ready, want) in table {
        let status = status(&view, not_ready, &settings(), &NodeStatus::default(), 1);
        let ready = ready(&status);
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("KubeletNotReady")));
        assert!(ready.message.as_deref().is_some_and(|m| m.contains(want)), "{ready:?}");
    }
    let both = status(&RuntimeView { health: Some(sick), ..view() }, &["second".to_owned()], &settings(), &NodeStatus::default(), 1);
    let message = ready(&both).message.clone().unwrap_or_default();
    assert!(message.starts_with('[') && message.ends_with(", second]"), "{message}");
}

#[test]
fn times_tell_the_last_change_and_the_last_look() {
    let first = status(&view(), &[], &settings(), &NodeStatus::default(), 100);
    let second = status(&view(), &[], &settings(), &first, 200);
    assert_eq!(ready(&second).last_transition_time, ready(&first).last_transition_time);
    assert_ne!(ready(&second).last_heartbeat_time, ready(&first).last_heartbeat_time);
    let sick = status(&RuntimeView { stale: true, ..view() }, &[], &settings(), &second, 300);
    assert_eq!(ready(&sick).last_transition_time, Some(Time(Timestamp::from_second(300).expect("time"))));
}

#[test]
fn nothing_new_makes_no_patch() {
    let settings = settings();
    let health = RuntimeHealth { handlers: vec![RuntimeHandler::default()], ..RuntimeHealth::default() };
    let view = RuntimeView { health: Some(health), ..view() };
    let first = status(&view, &[], &settings, &NodeStatus::default(), 100);
    let later = status(&view, &[], &settings, &first, 200);
    assert_eq!(patch(&first, &later, false), None);
    // As the server gives it back: blanks left out or filled in, quantities in its own way.
    let mut back = first.clone();
    back.runtime_handlers = Some(vec![NodeRuntimeHandler { name: None, ..back.runtime_handlers.expect("handlers").remove(0) }]);
    back.images = None;
    back.node_info.as_mut().expect("info").swap = Some(NodeSwapStatus::default());
    back.allocatable.as_mut().expect("allocatable").insert("memory".into(), Quantity("4087808Ki".into()));
    assert_eq!(patch(&back, &later, false), None);
    let beat = patch(&first, &later, true).expect("heartbeat");
    assert_eq!(beat["status"].as_object().map(|s| s.keys().cloned().collect::<Vec<_>>()), Some(vec!["conditions".to_owned()]));
}

#[test]
fn a_patch_holds_only_what_changed() {
    let settings = settings();
    let mut old = status(&view(), &[], &settings, &NodeStatus::default(), 100);
    let resources = old.capacity.as_mut().expect("capacity");
    resources.insert("hugepages-1Gi".into(), Quantity("1Gi".into()));
    resources.insert("example.com/gpu".into(), Quantity("2".into()));
    resources.insert("cpu".into(), Quantity("1".into()));
    old.addresses = None;
    old.declared_features = None;
    let new = status(&view(), &[], &settings, &old, 200);
    let patch = patch(&old, &new, false).expect("changes");
    assert_eq!(patch["status"]["capacity"], json!({"cpu": "2", "hugepages-1Gi": null}));
    assert_eq!(patch["status"]["allocatable"], json!({"example.com/gpu": "2"}));
    let addresses = patch["status"]["addresses"].as_array().expect("addresses");
    assert_eq!(addresses.last(), Some(&json!({"$patch": "replace"})));
    assert_eq!(patch["status"]["declaredFeatures"], json!(DECLARED), "in order: the API server refuses another one");
    assert!(DECLARED.is_sorted());
    assert_eq!(patch["status"].get("nodeInfo"), None);
    assert!(patch["status"]["conditions"].is_array());
}

#[test]
fn the_largest_images_are_told_with_five_names() {
    let image = |id: &str, size, tags: usize| Image {
        id: id.into(),
        tags: (0..tags).map(|i| format!("{id}:{i}")).collect(),
        digests: vec![format!("{id}@sha256:0")],
        size,
        uid: None,
        username: String::new(),
        pinned: false,
    };
    let view = RuntimeView { images: vec![image("small", 1, 1), image("big", 9, 7), image("mid", 5, 0)], ..view() };
    let status = status(&view, &[], &NodeSettings { max_images: 2, ..settings() }, &NodeStatus::default(), 1);
    let images = status.images.expect("images");
    assert_eq!(images.iter().map(|i| i.size_bytes).collect::<Vec<_>>(), [Some(9), Some(5)]);
    assert_eq!(images[0].names, Some(vec!["big@sha256:0".into(), "big:0".into(), "big:1".into(), "big:2".into(), "big:3".into()]));
}

#[test]
fn handlers_are_sorted_and_cloud_addresses_left_alone() {
    let handler = |name: &str| RuntimeHandler { name: name.into(), ..RuntimeHandler::default() };
    let health = RuntimeHealth { handlers: vec![handler("runc"), handler("")], ..RuntimeHealth::default() };
    let cloud = NodeSettings { external_cloud_provider: true, ..settings() };
    let theirs = vec![NodeAddress { type_: "ExternalIP".into(), address: "192.0.2.1".into() }];
    let old = NodeStatus { addresses: Some(theirs.clone()), ..NodeStatus::default() };
    let view = RuntimeView { health: Some(health), ..view() };
    let with = status(&view, &[], &cloud, &old, 1);
    assert_eq!(with.addresses, Some(theirs));
    let names: Vec<_> = with.runtime_handlers.iter().flatten().map(|h| h.name.clone().unwrap_or_default()).collect();
    assert_eq!(names, ["", "runc"]);
    let before = status(&view, &[], &cloud, &NodeStatus::default(), 1);
    assert_eq!(before.addresses.map(|a| a.len()), Some(1));
}
