use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::config::Config;

fn config(root: &str, driver: CgroupDriver) -> KubeletConfiguration {
    let mut config = Config::default().kubelet;
    config.cgroup_root = root.to_owned();
    config.cgroup_driver = driver;
    config
}

fn pod(uid: &str, resources: Value) -> Pod {
    let spec = json!({"containers": [{"name": "a", "resources": resources}]});
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": uid}, "spec": spec})).expect("a pod")
}

fn burstable(uid: &str, cpu: &str) -> Pod {
    pod(uid, json!({"requests": {"cpu": cpu}}))
}

const CAPACITY: Totals = Totals { milli_cpu: 2000, memory: 1 << 30, ephemeral_storage: 0, pods: 110 };

/// A cgroup v2 tree of ordinary directories; the kernel's part of making files is done here.
struct Ordinary(tempfile::TempDir);

impl Ordinary {
    fn new() -> Self {
        let ordinary = Self(tempfile::tempdir().expect("a directory"));
        for directory in ["", "kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            ordinary.make(directory);
        }
        ordinary
    }

    fn make(&self, directory: &str) {
        let directory = self.0.path().join(directory);
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join("cgroup.controllers"), "cpu memory pids\n").expect("written");
        fs::write(directory.join("cgroup.subtree_control"), "cpu memory pids\n").expect("written");
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.path().join(path)).ok()
    }

    fn open(&self, config: &KubeletConfiguration) -> Cgroups {
        Cgroups::open_at(self.0.path(), CgroupVersion::V2, vec![], config).expect("opened")
    }
}

#[tokio::test]
async fn node_classes_and_pods_get_their_values() {
    let disk = Ordinary::new();
    let mut config = config("", CgroupDriver::Cgroupfs);
    config.system_reserved.memory = 1 << 20;
    for pod in ["kubepods/burstable/podb1", "kubepods/burstable/podb2"] {
        disk.make(pod);
    }
    let cgroups = disk.open(&config);
    assert!(cgroups.set_up_node(CAPACITY, &config).await.expect("set up").is_empty());
    assert_eq!(disk.read("kubepods/memory.max"), Some(((1u64 << 30) - (1 << 20)).to_string()));
    assert_eq!(disk.read("kubepods/cpu.weight").as_deref(), Some("79"));
    assert_eq!(disk.read("kubepods/besteffort/cpu.weight").as_deref(), Some("1"));

    assert_eq!(cgroups.set_up(&burstable("b1", "500m")).await.expect("set up"), "/kubepods/burstable/podb1");
    cgroups.set_up(&burstable("b2", "500m")).await.expect("set up");
    assert_eq!(disk.read("kubepods/burstable/podb1/cpu.weight").as_deref(), Some("20"));
    assert_eq!(disk.read("kubepods/burstable/cpu.weight").as_deref(), Some("39"), "a whole CPU together");
    let mut found = cgroups.pods_on_disk().await.expect("read");
    found.sort();
    assert_eq!(found, ["b1".into(), "b2".into()]);
}

#[tokio::test]
async fn a_restart_knows_the_shares_of_pods_that_run() {
    let disk = Ordinary::new();
    let config = config("", CgroupDriver::Cgroupfs);
    disk.make("kubepods/burstable/podb1");
    fs::write(disk.0.path().join("kubepods/burstable/podb1/cpu.weight"), "39\n").expect("written");
    let cgroups = disk.open(&config);
    cgroups.set_up_node(CAPACITY, &config).await.expect("set up");
    // 998 of 1024 shares: what 39 stands for.
    assert_eq!(disk.read("kubepods/burstable/cpu.weight").as_deref(), Some("38"));
    cgroups.set_up(&burstable("b1", "1")).await.expect("set up");
    assert_eq!(disk.read("kubepods/burstable/cpu.weight").as_deref(), Some("39"));
}

#[tokio::test]
async fn with_systemd_only_slices_that_are_there_are_touched() {
    let disk = Ordinary::new();
    let config = config("", CgroupDriver::Systemd);
    let cgroups = disk.open(&config);
    cgroups.set_up_node(CAPACITY, &config).await.expect("set up");
    let parent = cgroups.set_up(&burstable("b-1", "1")).await.expect("set up");
    assert_eq!(parent, "kubepods-burstable-podb_1.slice");
    assert!(!disk.0.path().join("kubepods.slice").exists());

    let tier = "kubepods.slice/kubepods-burstable.slice";
    for directory in ["kubepods.slice", tier, &format!("{tier}/{parent}")] {
        disk.make(directory);
    }
    cgroups.set_up(&burstable("b-1", "1")).await.expect("set up");
    assert_eq!(disk.read(&format!("{tier}/{parent}/cpu.weight")).as_deref(), Some("39"));
    assert_eq!(disk.read(&format!("{tier}/cpu.weight")).as_deref(), Some("39"));
    assert_eq!(disk.read("kubepods.slice/memory.max"), Some((1u64 << 30).to_string()));
    assert_eq!(cgroups.pods_on_disk().await.expect("read"), ["b-1".into()]);
}

#[tokio::test]
async fn reserved_cgroups_must_exist() {
    let disk = Ordinary::new();
    let mut config = config("", CgroupDriver::Cgroupfs);
    config.enforce_node_allocatable = vec![crate::config::Enforcement::SystemReserved];
    config.system_reserved_cgroup = "/system".to_owned();
    config.system_reserved.milli_cpu = 1000;
    let error = disk.open(&config).set_up_node(CAPACITY, &config).await.expect_err("refused");
    assert!(error.to_string().contains("/system"), "{error}");
    disk.make("system");
    disk.open(&config).set_up_node(CAPACITY, &config).await.expect("set up");
    assert_eq!(disk.read("system/cpu.weight").as_deref(), Some("39"));
}

#[tokio::test]
async fn without_pod_cgroups_nothing_is_made() {
    let disk = Ordinary::new();
    let mut config = config("/mine", CgroupDriver::Cgroupfs);
    config.cgroups_per_qos = false;
    config.enforce_node_allocatable = vec![];
    let cgroups = disk.open(&config);
    cgroups.set_up_node(CAPACITY, &config).await.expect("set up");
    assert_eq!(cgroups.set_up(&burstable("b", "1")).await.expect("set up"), "/mine");
    assert!(!disk.0.path().join("mine").exists());
}

#[tokio::test]
async fn a_uid_that_would_leave_the_tree_is_an_error() {
    let disk = Ordinary::new();
    let cgroups = disk.open(&config("", CgroupDriver::Cgroupfs));
    let error = cgroups.set_up(&burstable("../x", "1")).await.expect_err("refused");
    assert!(error.to_string().contains("\"../x\""), "{error}");
    cgroups.tear_down(&"../x".into()).await.expect("nothing to remove");
}

/// A group of the test's own in the kernel's real hierarchies, removed at the end also when the test fails.
struct Real(String);

impl Real {
    fn directories(&self, below: &str) -> Vec<PathBuf> {
        let mount = Path::new("/sys/fs/cgroup");
        let hierarchies: Vec<PathBuf> = match detect(mount) {
            CgroupVersion::V2 => vec![mount.to_owned()],
            CgroupVersion::V1 => fs::read_dir(mount).expect("mounted").flatten().map(|entry| entry.path()).collect(),
        };
        hierarchies.into_iter().map(|h| h.join(&self.0).join(below)).filter(|d| d.is_dir()).collect()
    }

    fn read(&self, below: &str, file: &str) -> Option<String> {
        self.directories(below).iter().find_map(|d| Some(fs::read_to_string(d.join(file)).ok()?.trim().to_owned()))
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let mount = Path::new("/sys/fs/cgroup");
        if let Ok(tree) = Tree::open(mount, detect(mount)) {
            // Failing here would hide why the test failed.
            let _ = tree.kill_and_remove(&CgroupPath::parse(&self.0));
        }
    }
}

/// Needs root and writable cgroup file systems, as the agent itself does.
#[tokio::test]
async fn real_cgroups_are_made_limited_and_removed_with_what_runs_in_them() {
    let real = Real(format!("kubelet-rs-test-{}", std::process::id()));
    let config = config(&real.0, CgroupDriver::Cgroupfs);
    let cgroups = Cgroups::open(&config).expect("opened");
    let refused = cgroups.set_up_node(CAPACITY, &config).await.expect("set up");
    assert!(refused.is_empty(), "{refused:?}");

    let limits = json!({"cpu": "500m", "memory": "64Mi"});
    let parent = cgroups.set_up(&pod("u-1", json!({"requests": {"cpu": "250m"}, "limits": limits}))).await.expect("set up");
    assert_eq!(parent, format!("/{}/kubepods/burstable/podu-1", real.0));
    let own = "kubepods/burstable/podu-1";
    let memory = real.read(own, "memory.max").or_else(|| real.read(own, "memory.limit_in_bytes"));
    assert_eq!(memory.as_deref(), Some("67108864"));
    let quota = real.read(own, "cpu.max").or_else(|| real.read(own, "cpu.cfs_quota_us"));
    assert!(quota.as_deref().is_some_and(|quota| quota.starts_with("50000")), "{quota:?}");
    assert_ne!(real.read(own, "cpuset.cpus.effective").or_else(|| real.read(own, "cpuset.cpus")).as_deref(), Some(""));
    let tier = real.read("kubepods/burstable", "cpu.weight").or_else(|| real.read("kubepods/burstable", "cpu.shares"));
    assert!(matches!(tier.as_deref(), Some("256" | "10")), "{tier:?}");

    // A process in a cgroup below the pod's, as a container's is.
    let mut sleeper = sleeper();
    for directory in real.directories(own) {
        let container = directory.join("container");
        fs::create_dir(&container).expect("made");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(directory.join(file)) {
                fs::write(container.join(file), value.trim()).expect("written");
            }
        }
        fs::write(container.join("cgroup.procs"), sleeper.id().to_string()).expect("moved");
    }
    let reaper = std::thread::spawn(move || sleeper.wait());
    assert_eq!(cgroups.pods_on_disk().await.expect("read"), ["u-1".into()]);
    cgroups.tear_down(&"u-1".into()).await.expect("removed");
    let status = reaper.join().expect("joined").expect("reaped");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert!(real.directories(own).is_empty());
    let tier = real.read("kubepods/burstable", "cpu.weight").or_else(|| real.read("kubepods/burstable", "cpu.shares"));
    assert!(matches!(tier.as_deref(), Some("2" | "1")), "{tier:?}");
    cgroups.tear_down(&"u-1".into()).await.expect("again");
}

#[allow(clippy::disallowed_methods, reason = "the agent's own way to run commands has a deadline; this one must outlive it")]
fn sleeper() -> std::process::Child {
    std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs")
}
