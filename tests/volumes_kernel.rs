//! Volumes on the kernel's own mounts. Needs root; each test has a mount namespace of its own, so that nothing is left behind.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use k8s_openapi::api::core::v1::Pod;
use kubelet_rs::api::Api;
use kubelet_rs::api::fake::FakeApi;
use kubelet_rs::model::PodUid;
use kubelet_rs::model::node::{NodeFacts, Totals};
use kubelet_rs::volumes::manager::VolumeManager;
use kubelet_rs::volumes::mounts::{LinuxMounts, Mounts};
use kubelet_rs::volumes::objects::ObjectCache;
use kubelet_rs::volumes::{SubPathMount, Volumes};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::{Value, json};
use tempfile::TempDir;

const NONE: Option<&str> = None;

/// Runs a test on a thread that sees mounts of its own, where everything is private as on many hosts without systemd.
fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let work = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: run these tests as root");
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).expect("private mounts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    });
    work.join().expect("the test");
}

fn manager(root: &Path, api: &FakeApi) -> VolumeManager {
    let totals = Totals { milli_cpu: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30, pods: 110 };
    let node = NodeFacts { name: "n1".into(), ips: Vec::new(), capacity: totals, allocatable: totals, cgroup_v2: true };
    let api: Arc<dyn Api> = Arc::new(api.clone());
    VolumeManager::new(root, api.clone(), ObjectCache::new(api), Arc::new(node), Arc::new(LinuxMounts::default()))
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "spec": spec})).unwrap()
}

/// A pod with an fsGroup, a token and memory.
fn memory_pod() -> Pod {
    let sources = json!([{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]);
    pod(json!({
        "containers": [{"name": "c", "image": "i"}],
        "securityContext": {"fsGroup": 4321},
        "volumes": [
            {"name": "token", "projected": {"sources": sources}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
    }))
}

fn uid() -> PodUid {
    PodUid::from("u1")
}

fn below(dir: &Path) -> Vec<PathBuf> {
    LinuxMounts::default().below(dir).unwrap()
}

fn start() -> (TempDir, FakeApi, VolumeManager, PathBuf) {
    let (root, api) = (tempfile::tempdir().unwrap(), FakeApi::new("n1"));
    let manager = manager(root.path(), &api);
    manager.prepare().unwrap();
    let volumes = root.path().join("pods/u1/volumes");
    (root, api, manager, volumes)
}

#[test]
fn tokens_live_on_a_tmpfs_that_goes_with_the_pod() {
    alone(|| async {
        let (root, api, manager, volumes) = start();
        let before = manager.set_up(&memory_pod()).await.unwrap();
        let (token, memory) = (volumes.join("kubernetes.io~projected/token"), volumes.join("kubernetes.io~empty-dir/memory"));
        for dir in [&token, &memory] {
            assert_eq!(statfs(dir.as_path()).unwrap().filesystem_type(), TMPFS_MAGIC);
        }
        let size = statfs(memory.as_path()).unwrap();
        assert_eq!(size.blocks() * u64::try_from(size.block_size()).unwrap(), 1 << 20);

        let about = |path: &Path| fs::metadata(path).map(|m| (m.gid(), m.permissions().mode() & 0o7777)).unwrap();
        assert_eq!(about(&token.join("token")), (4321, 0o640));
        assert_eq!(about(&memory), (4321, 0o3777), "the group inherits; sticky as tmpfs is");

        // Another agent finds everything in place.
        let mounts = below(root.path());
        let again = self::manager(root.path(), &api);
        assert_eq!(again.set_up(&memory_pod()).await.unwrap(), before);
        assert_eq!(below(root.path()), mounts);

        again.tear_down(&uid()).await.unwrap();
        assert!(!root.path().join("pods/u1").exists());
        assert!(below(&root.path().join("pods")).is_empty());
    });
}

#[test]
fn what_a_kill_left_is_taken_over() {
    alone(|| async {
        let (root, _api, manager, volumes) = start();
        // Killed after the mount, before the first file; and a second mount over the first one.
        let token = volumes.join("kubernetes.io~projected/token");
        fs::create_dir_all(&token).unwrap();
        for _ in 0..2 {
            LinuxMounts::default().tmpfs(&token, Some(1 << 20)).unwrap();
        }
        manager.set_up(&memory_pod()).await.unwrap();
        assert!(token.join("token").exists());
        manager.tear_down(&uid()).await.unwrap();
        assert!(!root.path().join("pods/u1").exists());
    });
}

#[test]
fn a_busy_mount_is_hidden_and_lets_go_later() {
    alone(|| async {
        let (root, _api, manager, volumes) = start();
        manager.set_up(&memory_pod()).await.unwrap();
        let _held = fs::File::create(volumes.join("kubernetes.io~empty-dir/memory/held")).unwrap();
        manager.tear_down(&uid()).await.unwrap();
        assert!(!root.path().join("pods/u1").exists());
        assert!(below(&root.path().join("pods")).is_empty());
    });
}

#[test]
fn what_somebody_mounted_into_a_volume_is_unmounted_and_not_deleted() {
    alone(|| async {
        let (root, _api, manager, volumes) = start();
        let precious = tempfile::tempdir().unwrap();
        fs::write(precious.path().join("data"), "precious").unwrap();
        let pod = pod(json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {}}]}));
        manager.set_up(&pod).await.unwrap();
        // On the same file system: device numbers alone would not tell.
        let (inside, file) = (volumes.join("kubernetes.io~empty-dir/v/deep/er"), volumes.join("kubernetes.io~empty-dir/v/file"));
        fs::create_dir_all(&inside).unwrap();
        fs::write(&file, "").unwrap();
        mount(Some(precious.path()), &inside, NONE, MsFlags::MS_BIND, NONE).unwrap();
        mount(Some(&precious.path().join("data")), &file, NONE, MsFlags::MS_BIND, NONE).unwrap();
        manager.tear_down(&uid()).await.unwrap();
        assert!(!root.path().join("pods/u1").exists());
        assert_eq!(fs::read_to_string(precious.path().join("data")).unwrap(), "precious");
    });
}

#[test]
fn the_root_directory_becomes_shared_once() {
    alone(|| async {
        let (root, api, _manager, _volumes) = start();
        let shared = || {
            let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let root = root.path().to_str().unwrap().to_owned();
            table.lines().filter(|l| l.split(' ').nth(4) == Some(&root)).map(|l| l.contains(" shared:")).collect::<Vec<_>>()
        };
        assert_eq!(shared(), [true]);
        manager(root.path(), &api).prepare().unwrap();
        assert_eq!(shared(), [true], "a second start adds nothing");
    });
}

#[test]
fn parts_of_volumes_are_bound_once_and_go_with_the_pod() {
    alone(|| async {
        let (root, api) = (TempDir::new().unwrap(), FakeApi::new("n1"));
        let manager = manager(root.path(), &api);
        let spec = json!({"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "data", "emptyDir": {}}]});
        let volumes = manager.set_up(&pod(spec)).await.unwrap();
        let (uid, volume) = (PodUid::from("u1"), volumes["data"].host_path.clone());
        let part = async |index, path| {
            let asked = SubPathMount { container: "c", index, volume: "data", root: &volume, path };
            manager.sub_path(&uid, asked).await
        };
        let count = || LinuxMounts::default().below(root.path()).unwrap().len();
        let dir = part(0, "a/b").await.unwrap();
        fs::write(dir.join("f"), "through the part").unwrap();
        assert_eq!(fs::read_to_string(volume.join("a/b/f")).unwrap(), "through the part");
        let file = part(1, "a/b/f").await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "through the part");
        assert_eq!((count(), part(0, "a/b").await.unwrap()), (2, dir.clone()), "it stays");
        assert_eq!(count(), 2);

        // The part is another one now: a file that was written anew, a directory that became a file.
        fs::write(volume.join("new"), "new").unwrap();
        fs::rename(volume.join("new"), volume.join("a/b/f")).unwrap();
        assert_eq!(fs::read_to_string(part(1, "a/b/f").await.unwrap()).unwrap(), "new");
        fs::remove_dir_all(volume.join("a")).unwrap();
        fs::write(volume.join("a"), "a file").unwrap();
        assert_eq!(fs::read_to_string(part(0, "a").await.unwrap()).unwrap(), "a file");
        assert_eq!(count(), 2);

        manager.tear_down(&uid).await.unwrap();
        assert_eq!(count(), 0);
        assert!(!root.path().join("pods/u1").exists());
    });
}
