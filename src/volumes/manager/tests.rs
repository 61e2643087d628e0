use std::fs;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::api::fake::FakeApi;
use crate::api::{Error, ErrorKind};
use crate::volumes::mounts::fake::FakeMounts;
use crate::volumes::tests::{node, pod};

struct Bench {
    root: TempDir,
    api: FakeApi,
    mounts: Arc<FakeMounts>,
    manager: VolumeManager,
}

impl Bench {
    fn new() -> Self {
        let (root, api, mounts) = (tempfile::tempdir().unwrap(), FakeApi::new("n1"), Arc::new(FakeMounts::default()));
        let manager = manager(&root, &api, &mounts);
        Self { root, api, mounts, manager }
    }

    /// The agent starts anew: what it knew is gone, the disk, the mounts and the API server stay.
    fn restart(&mut self) {
        self.manager = manager(&self.root, &self.api, &self.mounts);
        self.api.injector().restart();
    }

    fn put_config_map(&self, name: &str, data: Value) {
        let metadata = json!({"namespace": "shop", "name": name});
        let object: ConfigMap = serde_json::from_value(json!({"metadata": metadata, "data": data})).unwrap();
        self.api.put_config_map(object);
    }

    fn calls(&self) -> usize {
        self.api.injector().calls().len()
    }

    fn away(&self, call: &'static str) {
        let error = Error { action: "get".into(), kind: ErrorKind::Unavailable("connection refused".into()) };
        self.api.injector().fail("api", call, error);
    }
}

fn manager(root: &TempDir, api: &FakeApi, mounts: &Arc<FakeMounts>) -> VolumeManager {
    let api: Arc<dyn Api> = Arc::new(api.clone());
    let objects = ObjectCache::new(api.clone());
    VolumeManager::new(root.path(), api, objects, Arc::new(node()), mounts.clone())
}

fn with_volumes(volumes: Value) -> Pod {
    pod(json!({"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "robot", "volumes": volumes}))
}

/// What the API server adds to every pod.
fn api_access() -> Value {
    json!({"name": "kube-api-access", "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}})
}

fn uid() -> PodUid {
    PodUid::from("uid-web")
}

fn messages(result: Result<PodVolumes, Vec<VolumeError>>) -> Vec<String> {
    result.unwrap_err().iter().map(VolumeError::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn every_kind_ends_up_in_its_place() {
    let bench = Bench::new();
    bench.put_config_map("kube-root-ca.crt", json!({"ca.crt": "CA"}));
    bench.put_config_map("conf", json!({"a": "1"}));
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "s"}, "data": {"key": "c2VjcmV0"}})).unwrap();
    bench.api.put_secret(secret);
    let pod = with_volumes(json!([
        api_access(),
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "labels", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "host", "hostPath": {"path": "/dev", "type": "Directory"}},
        {"name": "maybe", "configMap": {"name": "missing", "optional": true}},
    ]));
    let volumes = bench.manager.set_up(&pod).await.unwrap();

    let volumes_dir = bench.root.path().join("pods/uid-web/volumes");
    let read = |path: &str| fs::read_to_string(volumes_dir.join(path)).unwrap();
    assert!(read("kubernetes.io~projected/kube-api-access/token").starts_with("token-of-shop-robot"));
    assert_eq!(read("kubernetes.io~projected/kube-api-access/ca.crt"), "CA");
    assert_eq!(read("kubernetes.io~projected/kube-api-access/namespace"), "shop");
    assert_eq!(read("kubernetes.io~configmap/conf/a"), "1");
    assert_eq!(read("kubernetes.io~secret/secret/key"), "secret");
    assert_eq!(read("kubernetes.io~downward-api/labels/l"), "app=\"web\"");
    assert!(volumes_dir.join("kubernetes.io~empty-dir/disk").is_dir());

    let on_tmpfs: Vec<_> = bench.mounts.all().iter().map(|m| (m.target.file_name().unwrap().to_owned(), m.size.unwrap())).collect();
    let whole = 4u64 << 30;
    assert_eq!(
        on_tmpfs.iter().map(|(n, s)| (n.to_str().unwrap(), *s)).collect::<std::collections::BTreeSet<_>>(),
        [("kube-api-access", whole), ("secret", whole), ("labels", whole), ("memory", 1 << 20)].into()
    );
    let read_only: Vec<_> = volumes.iter().filter(|(_, v)| v.read_only).map(|(n, _)| n.as_str()).collect();
    assert_eq!(read_only, ["conf", "kube-api-access", "labels", "maybe", "secret"]);
    assert_eq!(volumes.get("host").map(|v| v.host_path.as_path()), Some(Path::new("/dev")));
    assert_eq!(volumes.len(), 8);
    assert_eq!(bench.manager.pods_on_disk().await.unwrap(), [uid()]);

    bench.manager.tear_down(&uid()).await.unwrap();
    assert!(bench.mounts.all().is_empty());
    assert!(bench.manager.pods_on_disk().await.unwrap().is_empty());
    bench.manager.tear_down(&uid()).await.expect("a second time");
}

#[tokio::test(start_paused = true)]
async fn bad_volumes_are_named_and_don_t_stop_the_others() {
    let bench = Bench::new();
    let pod = with_volumes(json!([
        {"name": "good", "emptyDir": {}},
        {"name": "gone", "configMap": {"name": "nope"}},
        {"name": "file", "hostPath": {"path": "/dev/null", "type": "Directory"}},
        {"name": "climb", "hostPath": {"path": "/dev/../etc", "type": ""}},
        {"name": "disk", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "../up", "emptyDir": {}},
    ]));
    let messages = messages(bench.manager.set_up(&pod).await);
    assert_eq!(
        messages,
        [
            "volume \"gone\": configmap \"nope\" not found; create it in namespace \"shop\", or mark the reference optional",
            "volume \"file\": hostPath type check failed: /dev/null is not a directory",
            "volume \"climb\": invalid HostPath \"/dev/../etc\": must not contain '..'",
            "volume \"disk\": volumes of type persistentVolumeClaim are not supported yet by kubelet-rs",
            "volume \"../up\": \"../up\" can't be used as a directory name",
        ]
    );
    assert!(bench.root.path().join("pods/uid-web/volumes/kubernetes.io~empty-dir/good").is_dir());
    assert!(bench.manager.next_refresh(&uid()).is_some(), "it must be tried again");

    let mut outside = with_volumes(json!([{"name": "v", "emptyDir": {}}]));
    outside.metadata.uid = Some("../../etc".into());
    assert!(bench.manager.set_up(&outside).await.is_err());
    bench.manager.tear_down(&PodUid::from("..")).await.expect("there is nothing to tear down");
    assert!(bench.root.path().exists());
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_is_found_as_soon_as_it_is_there() {
    let bench = Bench::new();
    let pod = with_volumes(json!([{"name": "v", "configMap": {"name": "late"}}]));
    assert!(bench.manager.set_up(&pod).await.is_err());
    bench.put_config_map("late", json!({"a": "1"}));
    assert!(bench.manager.set_up(&pod).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn refreshes_bring_changes_and_cost_nothing_otherwise() {
    let bench = Bench::new();
    bench.put_config_map("kube-root-ca.crt", json!({"ca.crt": "CA"}));
    let mut pod = with_volumes(json!([api_access(), {"name": "l", "downwardAPI": {"items": [
        {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]));
    bench.manager.set_up(&pod).await.unwrap();
    let dir = bench.root.path().join("pods/uid-web/volumes");
    let ca = dir.join("kubernetes.io~projected/kube-api-access");
    let set = || fs::read_link(ca.join("..data")).unwrap();
    let (first, calls) = (set(), bench.calls());

    let refresh = bench.manager.next_refresh(&uid()).unwrap() - Instant::now();
    assert!(refresh >= TTL && refresh < TTL + SPREAD, "{refresh:?}");
    tokio::time::advance(TTL / 2).await;
    bench.manager.set_up(&pod).await.unwrap();
    assert_eq!((set(), bench.calls()), (first.clone(), calls), "too early for anything");

    tokio::time::advance(refresh).await;
    bench.manager.set_up(&pod).await.unwrap();
    assert_eq!((set(), bench.calls()), (first.clone(), calls + 1), "one GET, equal contents");

    bench.put_config_map("kube-root-ca.crt", json!({"ca.crt": "NEW"}));
    pod.metadata.labels = Some([("app".to_owned(), "shop".to_owned())].into());
    tokio::time::advance(refresh).await;
    bench.manager.set_up(&pod).await.unwrap();
    assert_ne!(set(), first);
    assert_eq!(fs::read_to_string(ca.join("ca.crt")).unwrap(), "NEW");
    assert_eq!(fs::read_to_string(dir.join("kubernetes.io~downward-api/l/l")).unwrap(), "app=\"shop\"");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_not_tried_again_at_once() {
    let bench = Bench::new();
    bench.put_config_map("conf", json!({"a": "1"}));
    let pod = with_volumes(json!([{"name": "v", "configMap": {"name": "conf"}}]));
    bench.manager.set_up(&pod).await.unwrap();
    tokio::time::advance(TTL * 2).await;
    let error = Error { action: "get".into(), kind: ErrorKind::NotFound("deleted".into()) };
    bench.api.injector().fail("api", "config_map", error);
    assert!(bench.manager.set_up(&pod).await.is_err());
    assert_eq!(bench.manager.next_refresh(&uid()), Some(Instant::now() + RETRY));
    let kept = bench.root.path().join("pods/uid-web/volumes/kubernetes.io~configmap/v/a");
    assert_eq!(fs::read_to_string(kept).unwrap(), "1", "a deleted object's last contents stay");
}

#[tokio::test(start_paused = true)]
async fn pods_without_changing_contents_are_never_refreshed() {
    let bench = Bench::new();
    let object = json!({"metadata": {"namespace": "shop", "name": "fixed"}, "immutable": true, "data": {"a": "1"}});
    bench.api.put_config_map(serde_json::from_value(object).unwrap());
    let pod = with_volumes(json!([
        {"name": "a", "emptyDir": {}},
        {"name": "b", "hostPath": {"path": "/"}},
        {"name": "c", "configMap": {"name": "fixed"}},
        {"name": "d", "downwardAPI": {"items": []}},
    ]));
    assert!(bench.manager.next_refresh(&uid()).is_some());
    bench.manager.set_up(&pod).await.unwrap();
    assert_eq!(bench.manager.next_refresh(&uid()), None);

    let token = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 600}}]}}]);
    bench.manager.set_up(&with_volumes(token)).await.unwrap();
    let refresh = bench.manager.next_refresh(&uid()).unwrap() - Instant::now();
    assert!(refresh > Duration::from_secs(460) && refresh <= Duration::from_secs(480), "{refresh:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_nothing_and_outlives_an_api_server_that_is_away() {
    let mut bench = Bench::new();
    bench.put_config_map("kube-root-ca.crt", json!({"ca.crt": "CA"}));
    let pod = with_volumes(json!([api_access(), {"name": "e", "emptyDir": {"medium": "Memory"}}]));
    let before = bench.manager.set_up(&pod).await.unwrap();
    let set = |bench: &Bench| {
        fs::read_link(bench.root.path().join("pods/uid-web/volumes/kubernetes.io~projected/kube-api-access/..data")).unwrap()
    };
    let (first, mounts) = (set(&bench), bench.mounts.all());

    bench.restart();
    bench.away("config_map");
    bench.away("service_account_token");
    assert_eq!(bench.manager.set_up(&pod).await.unwrap(), before);
    assert_eq!(set(&bench), first, "what is there is better than nothing");
    assert_eq!(bench.manager.next_refresh(&uid()), Some(Instant::now() + RETRY));
    assert_eq!(bench.mounts.all(), mounts);

    bench.restart();
    bench.away("config_map");
    bench.manager.tear_down(&uid()).await.unwrap();
    assert!(bench.manager.set_up(&pod).await.is_err(), "but a new pod needs its contents");
}

#[tokio::test(start_paused = true)]
async fn nested_mounts_find_their_mount_points() {
    let bench = Bench::new();
    bench.put_config_map("conf", json!({"a": "1"}));
    let pod = pod(json!({
        "containers": [{"name": "c", "image": "i", "volumeMounts": [
            {"name": "conf", "mountPath": "/etc/app"}, {"name": "cache", "mountPath": "/etc/app/var/cache"}]}],
        "volumes": [{"name": "conf", "configMap": {"name": "conf"}}, {"name": "cache", "emptyDir": {}}],
    }));
    bench.manager.set_up(&pod).await.unwrap();
    let conf = bench.root.path().join("pods/uid-web/volumes/kubernetes.io~configmap/conf");
    assert!(conf.join("var/cache").is_dir());
    assert_eq!(fs::read_to_string(conf.join("a")).unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn all_calls_of_a_pod_are_made_at_the_same_time() {
    let bench = Bench::new();
    bench.put_config_map("kube-root-ca.crt", json!({"ca.crt": "CA"}));
    // Each first answer takes 50 ms more.
    let lag = || Error { action: "get".into(), kind: ErrorKind::Forbidden("no relationship found".into()) };
    bench.api.injector().fail("api", "config_map", lag());
    bench.api.injector().fail("api", "service_account_token", lag());
    let start = Instant::now();
    bench.manager.set_up(&with_volumes(json!([api_access()]))).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(60), "{:?}", start.elapsed());
}
