use std::net::IpAddr;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::NodeSystemInfo;
use tokio::time::sleep;

use super::*;
use crate::api::fake::FakeApi;
use crate::api::{ErrorKind, EventRates, Recorder};
use crate::model::clock::Clock;
use crate::node::address::Finder;
use crate::node::status::tests::{facts, machine, settings};
use crate::node::{NodeHandle, NodeSettings, NotReady, Pressures};
use crate::runtime;
use crate::runtime::fake::FakeRuntime;

struct Lab {
    runtime: FakeRuntime,
    not_ready: NotReady,
    addresses: Addresses,
    handle: NodeHandle,
}

fn start(api: &FakeApi, settings: NodeSettings, not_ready: &[&str]) -> Lab {
    let runtime = FakeRuntime::new(Clock::System, api.injector().clone());
    let texts = NotReady::default();
    not_ready.iter().for_each(|text| texts.set("pods", *text));
    let addresses = Arc::new(Mutex::new(Ok(facts().ips)));
    let deps = deps(api, &runtime, settings, &texts, &addresses);
    Lab { runtime, not_ready: texts, addresses, handle: crate::node::run(deps) }
}

type Addresses = Arc<Mutex<Result<Vec<IpAddr>, AddressError>>>;

fn deps(api: &FakeApi, runtime: &FakeRuntime, settings: NodeSettings, not_ready: &NotReady, addresses: &Addresses) -> NodeDeps {
    NodeDeps {
        api: Arc::new(api.clone()),
        runtime: Arc::new(runtime.clone()),
        machine: machine(),
        facts: facts(),
        settings,
        recorder: Recorder::start(Arc::new(api.clone()), "node-a", EventRates::default()),
        addresses: Finder::Fake(addresses.clone()),
        not_ready: not_ready.clone(),
        pressures: Pressures::default(),
    }
}

fn ready(api: &FakeApi) -> bool {
    api.stored_node().and_then(|n| n.status).is_some_and(|s| status::is_ready(&s))
}

fn reasons(api: &FakeApi) -> Vec<String> {
    api.events().into_iter().filter_map(|e| e.reason).collect()
}

fn count(api: &FakeApi, name: &'static str) -> usize {
    api.injector().count("api", name)
}

fn down(action: &str) -> Error {
    Error { action: action.into(), kind: ErrorKind::Unavailable("connection refused".into()) }
}

async fn seconds(n: u64) {
    sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn one_call_makes_a_ready_node() {
    let api = FakeApi::new("node-a");
    let lab = start(&api, settings(), &[]);
    sleep(Duration::from_millis(50)).await;
    assert!(ready(&api));
    assert_eq!(count(&api, "create_node"), 1);
    seconds(1).await;
    assert!(lab.handle.node().borrow().as_ref().is_some_and(|n| n.metadata.uid.is_some()));
    assert_eq!(reasons(&api), ["Starting", "NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"]);
    assert!(api.stored_lease().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_is_quiet() {
    let api = FakeApi::new("node-a");
    let _lab = start(&api, settings(), &[]);
    seconds(600).await;
    let patches = count(&api, "patch_node_status");
    assert!((1..=5).contains(&patches), "{patches} reports in ten minutes");
    let (asked, listed) = (api.injector().count("runtime", "health"), api.injector().count("runtime", "images"));
    assert!((50..=65).contains(&asked) && listed <= 11, "{asked} health checks, {listed} lists of images");
    assert_eq!(count(&api, "node"), 1, "once, when the watch began before the node was there");
}

#[tokio::test(start_paused = true)]
async fn it_becomes_ready_at_once_when_the_last_reason_is_gone() {
    let api = FakeApi::new("node-a");
    let lab = start(&api, settings(), &["pods are not synced yet"]);
    seconds(15).await;
    assert!(api.stored_node().is_some() && !ready(&api));
    lab.not_ready.clear("pods");
    sleep(Duration::from_millis(20)).await;
    assert!(ready(&api));
    seconds(1).await;
    assert_eq!(reasons(&api).last().map(String::as_str), Some("NodeReady"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_runtime_makes_it_not_ready_after_half_a_minute() {
    let api = FakeApi::new("node-a");
    let lab = start(&api, settings(), &[]);
    seconds(5).await;
    lab.runtime.go_away(runtime::ErrorKind::Unavailable("no socket".into()));
    seconds(20).await;
    assert!(ready(&api));
    seconds(25).await;
    assert!(!ready(&api));
    lab.runtime.come_back();
    seconds(11).await;
    assert!(ready(&api));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_node_registers_again() {
    let api = FakeApi::new("node-a");
    let lab = start(&api, settings(), &[]);
    seconds(30).await;
    let first = api.stored_node().and_then(|n| n.metadata.uid);
    api.remove_node();
    seconds(1).await;
    let second = api.stored_node().expect("registered again");
    assert!(ready(&api) && second.metadata.uid != first);
    assert_eq!(lab.handle.node().borrow().as_ref().and_then(|n| n.metadata.uid.clone()), second.metadata.uid);
    seconds(30).await;
    assert_eq!(count(&api, "create_node"), 2);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_when_the_server_was_away() {
    let api = FakeApi::new("node-a");
    for _ in 0..20 {
        api.injector().fail("api", "create_node", down("create node"));
    }
    let lab = start(&api, settings(), &[]);
    seconds(140).await;
    assert!(ready(&api), "registered when the server came");
    for _ in 0..10 {
        api.injector().fail("api", "patch_node_status", down("patch"));
    }
    lab.not_ready.set("pods", "shutting down");
    seconds(90).await;
    assert!(!ready(&api), "told when the server came back");
}

#[tokio::test(start_paused = true)]
async fn an_existing_node_is_taken_over_with_its_labels_and_a_reboot_is_told() {
    let api = FakeApi::new("node-a");
    let lab = start(&api, settings(), &[]);
    seconds(1).await;
    drop(lab);
    api.change_node(|node| {
        let labels = node.metadata.labels.get_or_insert_default();
        labels.insert("kubernetes.io/arch".into(), "wrong".into());
        labels.insert("mine".into(), "stays".into());
        let info = NodeSystemInfo { boot_id: "an earlier one".into(), ..NodeSystemInfo::default() };
        node.status.get_or_insert_default().node_info = Some(info);
        node.spec.get_or_insert_default().pod_cidr = Some("10.244.0.0/24".into());
    });
    let uid = api.stored_node().and_then(|n| n.metadata.uid);
    let _lab = start(&api, settings(), &[]);
    seconds(2).await;
    let node = api.stored_node().expect("node");
    assert_eq!(node.metadata.uid, uid);
    let labels = node.metadata.labels.unwrap_or_default();
    let of = |name: &str| labels.get(name).map(String::as_str);
    assert_eq!((of("kubernetes.io/arch"), of("mine")), (Some("amd64"), Some("stays")));
    assert_eq!(node.status.and_then(|s| s.node_info).map(|i| i.boot_id).as_deref(), Some("boot-1"));
    assert_eq!(reasons(&api).iter().filter(|r| *r == "Rebooted").count(), 1);
    assert_eq!(api.injector().count("runtime", "update_pod_cidr"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_others_do_to_the_node_is_seen_and_kept() {
    let api = FakeApi::new("node-a");
    let lab = start(&api, settings(), &[]);
    seconds(1).await;
    api.change_node(|node| {
        node.spec.get_or_insert_default().unschedulable = Some(true);
        let condition =
            k8s_openapi::api::core::v1::NodeCondition { type_: "NetworkUnavailable".into(), status: "False".into(), ..Default::default() };
        node.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
    });
    seconds(700).await;
    let node = lab.handle.node().borrow().clone().expect("node");
    assert_eq!(node.spec.as_ref().and_then(|s| s.unschedulable), Some(true));
    assert!(node.status.iter().flat_map(|s| s.conditions.iter().flatten()).any(|c| c.type_ == "NetworkUnavailable"));
    assert!(reasons(&api).contains(&"NodeNotSchedulable".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_registration_it_waits_for_the_object() {
    let api = FakeApi::new("node-a");
    let _lab = start(&api, NodeSettings { register: false, ..settings() }, &[]);
    seconds(60).await;
    assert_eq!(api.stored_node(), None);
    use crate::api::Api;
    api.create_node(&Node::default()).await.expect("created by somebody");
    seconds(10).await;
    assert!(ready(&api));
}

fn address(api: &FakeApi) -> String {
    let addresses = api.stored_node().and_then(|n| n.status).and_then(|s| s.addresses).unwrap_or_default();
    addresses.into_iter().next().map(|a| a.address).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_new_address_is_told_and_none_changes_nothing() {
    let api = FakeApi::new("node-a");
    let lab = start(&api, settings(), &[]);
    seconds(30).await;
    assert_eq!(address(&api), "10.0.0.5");
    *lab.addresses.lock().expect("lock") = Err(AddressError::None("node-a".into()));
    seconds(30).await;
    assert_eq!(address(&api), "10.0.0.5");
    *lab.addresses.lock().expect("lock") = Ok(vec![[10, 0, 0, 6].into()]);
    seconds(30).await;
    assert_eq!(address(&api), "10.0.0.6");
}

#[tokio::test(start_paused = true)]
async fn a_pull_and_a_restarted_runtime_are_looked_into_soon() {
    let api = FakeApi::new("node-a");
    let lab = start(&api, settings(), &[]);
    seconds(5).await;
    let listed = || api.injector().count("runtime", "images");
    let before = listed();
    lab.handle.refresher().refresh();
    seconds(3).await;
    assert_eq!(listed(), before + 1);
    lab.runtime.go_away(runtime::ErrorKind::Unavailable("no socket".into()));
    seconds(15).await;
    lab.runtime.come_back();
    seconds(12).await;
    assert_eq!(listed(), before + 2);
}

#[tokio::test]
async fn a_snapshot_counts_whatever_its_version() {
    let api = FakeApi::new("node-a");
    let runtime = FakeRuntime::new(Clock::System, api.injector().clone());
    let addresses = Arc::new(Mutex::new(Ok(facts().ips)));
    let (latest, seen) = watch::channel(None);
    let mut reporter = Reporter::new(deps(&api, &runtime, settings(), &NotReady::default(), &addresses), latest);
    let node = |version: &str| {
        let mut node = Node::default();
        (node.metadata.uid, node.metadata.resource_version) = (Some("uid".into()), Some(version.into()));
        node
    };
    // 50: etcd was restored from a backup.
    let table = [
        (WatchEvent::Snapshot(vec![node("100")]), "100"),
        (WatchEvent::Applied(node("90")), "100"),
        (WatchEvent::Snapshot(vec![node("50")]), "50"),
        (WatchEvent::Applied(node("51")), "51"),
    ];
    for (event, want) in table {
        reporter.observe(event).await;
        let version = seen.borrow().as_ref().and_then(|node| node.metadata.resource_version.clone());
        assert_eq!(version.as_deref(), Some(want));
    }
}
