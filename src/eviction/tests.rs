use std::fs;

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

use super::*;
use crate::api::Api;
use crate::api::events::EventRates;
use crate::api::fake::FakeApi;
use crate::config::Threshold;
use crate::inject::Injector;
use crate::model::clock::Clock;
use crate::model::node::{NodeFacts, Totals};
use crate::node::Pressure;
use crate::resources::fake::FakeCgroups;
use crate::runtime::ObservedPod;
use crate::runtime::fake::FakeRuntime;
use crate::volumes::manager::VolumeManager;
use crate::volumes::mounts::fake::FakeMounts;
use crate::volumes::objects::ObjectCache;

struct Scene {
    root: tempfile::TempDir,
    api: FakeApi,
    directory: Arc<Directory>,
    orders: Arc<Orders>,
    pressures: Pressures,
    watcher: Watcher,
}

const MIB: i64 = 1 << 20;

/// A host of 100 MiB memory whose pods have to go when less than 10 MiB are left.
fn scene() -> Scene {
    let root = tempfile::tempdir().unwrap();
    let api = FakeApi::new("node");
    let shared: Arc<dyn Api> = Arc::new(api.clone());
    let none = Totals::default();
    let facts = NodeFacts { name: "node".into(), ips: vec![], capacity: none, allocatable: none, cgroup_v2: true };
    let objects = ObjectCache::new(Arc::clone(&shared));
    let volumes = VolumeManager::new(root.path(), Arc::clone(&shared), objects, Arc::new(facts), Arc::new(FakeMounts::default()));
    let (directory, orders, pressures) = (Arc::new(Directory::default()), Arc::new(Orders::default()), Pressures::default());
    let deps = Deps {
        runtime: Arc::new(FakeRuntime::new(Clock::System, Injector::default())),
        cgroups: Arc::new(FakeCgroups::default()),
        volumes: Arc::new(volumes),
        directory: Arc::clone(&directory),
        orders: Arc::clone(&orders),
        pressures: pressures.clone(),
        recorder: Recorder::start(shared, "node", EventRates::default()),
    };
    let limit = Limit { signal: Signal::Memory, value: Threshold::Amount(10 * MIB), grace: Duration::ZERO, reclaim: None };
    let settings = Settings {
        limits: vec![limit],
        transition: Duration::from_secs(300),
        max_grace: Duration::ZERO,
        keep_storage_limits: true,
        root_dir: root.path().into(),
        logs_dir: root.path().join("logs"),
    };
    let watcher = Watcher::new(deps, settings, root.path());
    let scene = Scene { root, api, directory, orders, pressures, watcher };
    scene.left(50);
    scene
}

impl Scene {
    fn left(&self, mib: i64) {
        let proc = self.root.path().join("proc");
        fs::create_dir_all(&proc).unwrap();
        fs::write(proc.join("meminfo"), format!("MemTotal: {} kB\nMemFree: {} kB\n", 100 * 1024, mib * 1024)).unwrap();
    }

    fn pod(&self, name: &str, spec: Value) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": spec})).unwrap();
        let status = PodStatus { phase: Some("Running".into()), ..PodStatus::default() };
        self.write(&Arc::new(pod), status);
    }

    fn write(&self, pod: &Arc<Pod>, status: PodStatus) {
        let name = PodRef::of(pod);
        self.directory.write(&name.uid, Some(pod), Some(&Arc::new(status)), &ObservedPod::empty(name.clone()));
    }

    fn ordered(&self) -> Vec<(String, End)> {
        self.orders.take().into_iter().map(|(uid, end)| (uid.to_string(), end)).collect()
    }

    /// Reasons of the events, once they are written.
    async fn reasons(&self) -> Vec<String> {
        sleep(Duration::from_secs(20)).await;
        self.api.events().into_iter().filter_map(|event| event.reason).collect()
    }
}

fn spec(priority: i32) -> Value {
    json!({"priority": priority, "containers": [{"name": "c"}]})
}

#[tokio::test(start_paused = true)]
async fn a_node_short_of_memory_says_so_and_ends_one_pod_after_the_other() {
    let mut scene = scene();
    scene.pod("low", spec(1));
    scene.pod("lowest", spec(0));
    scene.pod("critical", spec(2_000_000_000));
    assert_eq!((scene.watcher.look().await, scene.pressures.now()), (vec![], [].into()));

    scene.left(5);
    assert_eq!(scene.watcher.look().await, [PodUid::from("lowest")]);
    assert_eq!(scene.pressures.now(), [Pressure::Memory].into());
    let ordered = scene.ordered();
    let (uid, end) = &ordered[0];
    let message = "The node was low on resource: memory. Threshold quantity: 10Mi, available: 5Mi. ";
    assert_eq!((uid.as_str(), end.reason.as_str(), end.message.as_str()), ("lowest", "Evicted", message));
    assert_eq!((end.grace, end.disruption.as_deref(), end.fails, ordered.len()), (Some(AT_ONCE), Some(message), true, 1));

    let went = [PodUid::from("lowest")];
    let began = Instant::now();
    scene.watcher.wait_for(&went).await;
    assert_eq!(began.elapsed(), GONE_WITHIN, "it has not ended");
    assert_eq!(scene.watcher.look().await, [PodUid::from("low")], "it is not told twice");
    scene.directory.remove(&went[0]);
    scene.directory.remove(&PodUid::from("low"));
    assert_eq!(scene.watcher.look().await, [], "critical pods stay");
    assert_eq!(scene.ordered().len(), 1);
    let reasons = scene.reasons().await;
    let count = |reason: &str| reasons.iter().filter(|r| *r == reason).count();
    assert_eq!((count("Evicted"), count("EvictionThresholdMet")), (2, 1), "{reasons:?}");

    scene.left(50);
    assert_eq!((scene.watcher.look().await, scene.pressures.now()), (vec![], [Pressure::Memory].into()));
    sleep(Duration::from_secs(301)).await;
    assert_eq!((scene.watcher.look().await, scene.pressures.now()), (vec![], [].into()));
}

#[tokio::test]
async fn a_pod_that_fills_its_volume_goes_and_says_nothing_of_the_node() {
    let mut scene = scene();
    let volumes = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]);
    scene.pod("small", json!({"volumes": volumes, "containers": [{"name": "c"}]}));
    scene.pod("greedy", json!({"volumes": volumes, "containers": [{"name": "c"}]}));
    for (pod, bytes) in [("small", 1 << 19), ("greedy", 1 << 21)] {
        let dir = scene.root.path().join(format!("pods/{pod}/volumes/kubernetes.io~empty-dir/v"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), vec![1; bytes]).unwrap();
    }
    assert_eq!(scene.watcher.look().await, [PodUid::from("greedy")]);
    let end = scene.ordered().remove(0).1;
    assert_eq!(end.message, "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ");
    assert_eq!((end.disruption, end.fails, scene.pressures.now()), (None, true, [].into()));
}

#[tokio::test(start_paused = true)]
async fn pods_that_have_ended_or_are_deleted_are_left_alone() {
    let mut scene = scene();
    scene.left(5);
    let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "over", "uid": "over"}, "spec": spec(0)})).unwrap();
    scene.write(&Arc::new(pod.clone()), PodStatus { phase: Some("Failed".into()), ..PodStatus::default() });
    pod.metadata.uid = Some("deleted".into());
    pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    scene.write(&Arc::new(pod), PodStatus::default());
    assert_eq!((scene.watcher.look().await, scene.ordered().len()), (vec![], 0));
    assert_eq!(scene.pressures.now(), [Pressure::Memory].into());
}
