//! A node in memory: fakes that outlive the agent, a real directory for volumes and logs, and an agent that can be killed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kubelet_rs::api::fake::FakeApi;
use kubelet_rs::api::{Api, Recorder, WatchEvent, events::EventRates};
use kubelet_rs::inject::Injector;
use kubelet_rs::model::PodRef;
use kubelet_rs::model::clock::Clock;
use kubelet_rs::model::node::{NodeFacts, Totals};
use kubelet_rs::network::dns::ClusterDns;
use kubelet_rs::pods::admission::Admission;
use kubelet_rs::pods::context::{Context, Settings};
use kubelet_rs::pods::directory::Directory;
use kubelet_rs::pods::images::{ImageSettings, Images};
use kubelet_rs::pods::mirrors::Mirrors;
use kubelet_rs::pods::{manager, sources, status};
use kubelet_rs::proxy::terms::Terms;
use kubelet_rs::proxy::{Proxy, conntrack};
use kubelet_rs::resources::fake::FakeCgroups;
use kubelet_rs::runtime::Runtime;
use kubelet_rs::runtime::fake::FakeRuntime;
use kubelet_rs::runtime::host::HostTraits;
use kubelet_rs::runtime::translate::TranslateSettings;
use kubelet_rs::volumes::Volumes;
use kubelet_rs::volumes::manager::VolumeManager;
use kubelet_rs::volumes::mounts::fake::FakeMounts;
use kubelet_rs::volumes::objects::ObjectCache;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::counted::{CountedCgroups, CountedMounts, CountedVolumes};

/// A second.
pub const S: Duration = Duration::from_secs(1);
/// A minute.
pub const MINUTE: Duration = Duration::from_secs(60);

/// All but the agent.
pub struct World {
    pub injector: Injector,
    pub api: FakeApi,
    pub runtime: FakeRuntime,
    pub cgroups: Arc<FakeCgroups>,
    pub mounts: Arc<FakeMounts>,
    /// Whether agents have a folder of manifests.
    pub manifests: bool,
    clock: Clock,
    root: TempDir,
}

/// A running agent. Dropped, it is dead at once.
pub struct Agent {
    tasks: JoinSet<()>,
    pub directory: Arc<Directory>,
    pub synced: watch::Receiver<bool>,
}

impl Agent {
    /// `kill -9`, and what it was doing in other threads has ended.
    pub async fn kill(mut self) {
        self.tasks.shutdown().await;
        // Paused time stands still while a thread works.
        sleep(Duration::from_millis(1)).await;
    }
}

/// A spec with one container `app`.
pub fn app() -> Value {
    json!({"containers": [{"name": "app", "image": "app:1"}]})
}

/// Runs a test with a clock that jumps to the next thing that happens.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    tokio.expect("a runtime").block_on(test)
}

impl World {
    /// A node on which nothing ever ran.
    pub fn new() -> Self {
        let injector = Injector::default();
        let clock = Clock::tokio(1_800_000_000_000_000_000);
        Self {
            api: FakeApi::with_injector("node", injector.clone()),
            runtime: FakeRuntime::new(clock, injector.clone()),
            cgroups: Arc::default(),
            mounts: Arc::default(),
            manifests: false,
            clock,
            root: tempfile::tempdir().expect("a directory"),
            injector,
        }
    }

    /// Starts an agent, as `app.rs` does it.
    pub fn start(&self) -> Agent {
        let mut tasks = JoinSet::new();
        let injector = self.injector.for_agent();
        let api: Arc<dyn Api> = Arc::new(self.api.for_agent());
        let runtime: Arc<dyn Runtime> = Arc::new(self.runtime.for_agent());
        let recorder = Recorder::start(Arc::clone(&api), "node", EventRates::default());
        let proxy = Proxy::new(
            async || Ok(kubelet_rs::nft::Fake::new()),
            conntrack::Kernel,
            vec![],
            tokio::sync::watch::channel(Terms::default()).1,
        );
        let services = proxy.catalog();
        tasks.spawn(proxy.run(api.watch_services(), api.watch_endpoint_slices()));
        let objects = ObjectCache::new(Arc::clone(&api));
        let facts = facts();
        let mounts = Arc::new(CountedMounts::new(&self.mounts, &injector));
        let volumes = VolumeManager::new(&self.root(), Arc::clone(&api), objects.clone(), Arc::new(facts.clone()), mounts);
        volumes.prepare().expect("a directory for pods");
        let volumes: Arc<dyn Volumes> = Arc::new(CountedVolumes::new(volumes, &injector));
        let (writer, writing) = status::Writer::new(Arc::clone(&api));
        tasks.spawn(writing);
        let images =
            ImageSettings { serialize_image_pulls: false, max_parallel_image_pulls: None, registry_pull_qps: 0, registry_burst: 0 };
        let directory = Arc::new(Directory::default());
        let admission = Admission::new(Arc::clone(&api), watch::channel(None).1, facts.allocatable, Default::default(), &[]);
        let node: k8s_openapi::api::core::v1::Node =
            serde_json::from_value(json!({"metadata": {"name": "node", "uid": "node-uid"}})).expect("a node");
        let (mirrors, mirroring) = Mirrors::new(Arc::clone(&api), watch::channel(Some(Arc::new(node))).1);
        tasks.spawn(mirroring);
        let manifests = self.manifests.then(|| self.manifests_dir());
        let sources = sources::Settings { node: "node".into(), path: manifests, file_check: 20 * S, ..Default::default() };
        let ctx = Context {
            mirrors,
            sources,
            api,
            admission,
            orders: Arc::default(),
            images: Images::new(Arc::clone(&runtime), objects.clone(), &images, Default::default()),
            runtime,
            volumes,
            cgroups: Arc::new(CountedCgroups::new(&self.cgroups, &injector)),
            objects,
            services,
            recorder,
            writer,
            directory: Arc::clone(&directory),
            turns: Default::default(),
            heartbeat: Arc::default(),
            pleg: Default::default(),
            clock: self.clock,
            translate: self.translate(facts.clone()),
            settings: Settings { node_ips: facts.ips, runtime_name: "fake".to_owned(), resolv_conf: None, crash_loop_max: 300 * S },
        };
        let (sender, synced) = watch::channel(false);
        tasks.spawn(manager::run(Arc::new(ctx), sender));
        Agent { tasks, directory, synced }
    }

    fn translate(&self, facts: NodeFacts) -> TranslateSettings {
        TranslateSettings {
            pod_logs_dir: self.logs(),
            root_dir: self.root(),
            cluster_dns: ClusterDns::default(),
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: Duration::from_millis(100),
            seccomp_default: false,
            single_process_oom_kill: false,
            host: HostTraits::default(),
            facts,
        }
    }

    /// `staticPodPath`.
    pub fn manifests_dir(&self) -> PathBuf {
        self.root.path().join("manifests")
    }

    /// `rootDir`.
    pub fn root(&self) -> PathBuf {
        self.root.path().join("kubelet")
    }

    fn logs(&self) -> PathBuf {
        self.root.path().join("log/pods")
    }

    /// A pod as the scheduler would bind it to this node.
    pub fn put_pod(&self, name: &str, spec: Value) -> PodRef {
        let pod =
            json!({"metadata": {"name": name, "namespace": "default", "generation": 1}, "spec": spec, "status": {"phase": "Pending"}});
        PodRef::of(&self.api.put_pod(serde_json::from_value(pod).expect("a pod")))
    }

    /// `kubectl delete pod`. Once the agent had time to notice, starting anything of the pod is wrong.
    pub fn delete(&self, pod: &PodRef, grace: i64) {
        self.api.request_deletion(&pod.namespace, &pod.name, grace);
        let (runtime, uid) = (self.runtime.clone(), pod.uid.clone());
        tokio::spawn(async move {
            sleep(15 * S).await;
            runtime.doom(&uid);
        });
    }

    /// The pod in the API server.
    pub fn object(&self, name: &str) -> Option<Pod> {
        self.api.pod("default", name)
    }

    /// The pod's status in the API server.
    pub fn status(&self, name: &str) -> PodStatus {
        self.object(name).and_then(|p| p.status).unwrap_or_default()
    }

    pub fn phase(&self, name: &str) -> String {
        self.status(name).phase.unwrap_or_default()
    }

    /// Whether the API server says that the pod is ready.
    pub fn is_ready(&self, name: &str) -> bool {
        self.status(name).conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
    }

    /// The status of a container in the API server.
    pub fn container(&self, pod: &str, name: &str) -> ContainerStatus {
        let status = self.status(pod);
        let lists = [status.container_statuses, status.init_container_statuses];
        lists.into_iter().flatten().flatten().find(|c| c.name == name).unwrap_or_default()
    }

    /// Why a container waits.
    pub fn waiting(&self, pod: &str, name: &str) -> String {
        self.container(pod, name).state.and_then(|s| s.waiting).and_then(|w| w.reason).unwrap_or_default()
    }

    /// How often the API server says that a container was restarted.
    pub fn restarts(&self, pod: &str, name: &str) -> i32 {
        self.container(pod, name).restart_count
    }

    /// Ends a pod's running container, which must be there.
    pub fn crash(&self, pod: &str, container: &str, code: i32) {
        let Some(running) = self.runtime.running(pod, container) else { panic!("{container} of {pod} doesn't run: {:#?}", self.state()) };
        self.runtime.end(&running.id, code);
    }

    /// Makes a ConfigMap with one key `a`.
    pub fn put_config_map(&self, name: &str) {
        let object = json!({"metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}});
        self.api.put_config_map(serde_json::from_value(object).expect("a ConfigMap"));
    }

    /// Reasons of all events about a pod.
    pub fn events(&self, pod: &str) -> Vec<String> {
        let of_pod = |e: &k8s_openapi::api::core::v1::Event| e.involved_object.name.as_deref() == Some(pod);
        self.api.events().into_iter().filter(of_pod).filter_map(|e| e.reason).collect()
    }

    /// Waits until something holds, at most so long.
    pub async fn until(&self, what: &str, limit: Duration, holds: impl Fn() -> bool) -> Duration {
        let start = Instant::now();
        while !holds() {
            assert_eq!(self.injector.storm(), None, "calls without a pause, waiting for: {what}\n{:#?}", self.state());
            assert!(start.elapsed() <= limit, "not within {limit:?}: {what}\n{:#?}", self.state());
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }

    /// Calls since the last start of an agent that change anything.
    pub fn changes(&self) -> Vec<String> {
        const LOOKS: [&str; 7] = ["list_pods", "observe_pod", "container", "sandbox", "image", "pods_on_disk", "config_map"];
        let of_agent = |c: &kubelet_rs::inject::Call| !LOOKS.contains(&c.name);
        self.injector.calls().into_iter().filter(of_agent).map(|c| format!("{}.{}", c.room, c.name)).collect()
    }

    /// Waits until a pod is ready in the API server.
    pub async fn until_ready(&self, pod: &str) -> Duration {
        self.until(&format!("{pod} is ready"), 5 * MINUTE, || self.is_ready(pod)).await
    }

    /// Waits until a pod is gone from the API server.
    pub async fn until_gone(&self, pod: &str) -> Duration {
        self.until(&format!("{pod} is gone"), 5 * MINUTE, || self.object(pod).is_none()).await
    }

    /// What is left on the node, one word for each thing.
    pub async fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = self.runtime.pods().iter().map(|p| format!("runtime: {}", p.pod)).collect();
        left.extend(self.mounts.all().iter().map(|m| format!("mount: {}", m.target.display())));
        let cgroups = kubelet_rs::resources::PodCgroups::pods_on_disk(&*self.cgroups).await.expect("a list");
        left.extend(cgroups.iter().map(|uid| format!("cgroup: {uid}")));
        for dir in [self.root().join("pods"), self.logs(), self.logs().with_file_name("containers")] {
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            left.extend(entries.map(|e| e.path().display().to_string()));
        }
        left
    }

    /// Checks that the agent did nothing wrong.
    pub fn check(&self) {
        assert_eq!(self.injector.storm(), None, "calls without a pause\n{:#?}", self.state());
        let violations = self.runtime.violations();
        assert!(violations.is_empty(), "{violations:#?}\n{:#?}", self.state());
    }

    /// Checks that nothing is left, after giving the agent time for it.
    pub async fn check_empty(&self) {
        sleep(3 * MINUTE).await;
        let left = self.leftovers().await;
        assert!(left.is_empty(), "left: {left:#?}\n{:#?}", self.state());
        self.check();
    }

    /// For people who read a failure.
    pub fn state(&self) -> impl std::fmt::Debug + use<> {
        let calls = self.injector.calls();
        let last: Vec<_> = calls.iter().rev().take(15).rev().map(|c| format!("{}.{}", c.room, c.name)).collect();
        let statuses: Vec<_> = self.api.pods().iter().map(|p| serde_json::to_string(&p.status).unwrap_or_default()).collect();
        (statuses, self.runtime.pods(), calls.len(), last)
    }
}

/// The last status that a pod had in the API server until something ended.
pub async fn last_status(world: &World, pod: &str, end: impl Future<Output = ()>) -> Option<PodStatus> {
    let mut last = None;
    let mut watch = world.api.watch_pods();
    let watching = async {
        while let Some(event) = watch.next().await {
            if let WatchEvent::Applied(object) = event
                && object.metadata.name.as_deref() == Some(pod)
            {
                last = object.status;
            }
        }
    };
    tokio::select! {
        () = watching => {}
        () = end => {}
    }
    last
}

fn facts() -> NodeFacts {
    let capacity = Totals { milli_cpu: 4000, memory: 8 << 30, ephemeral_storage: 100 << 30, pods: 110 };
    let ip: IpAddr = [192, 168, 0, 1].into();
    NodeFacts { name: "node".to_owned(), ips: vec![ip], capacity, allocatable: capacity, cgroup_v2: true }
}
