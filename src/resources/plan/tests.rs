use serde_json::{Value, json};

use super::*;
use crate::config::Config;

fn policy() -> PodPolicy {
    PodPolicy { cfs_quota: true, cfs_period: Duration::from_millis(100), pids: -1, page_sizes: vec![] }
}

fn limits(resources: Value, policy: &PodPolicy) -> Limits {
    let spec = json!({"containers": [{"name": "a", "resources": resources}]});
    pod(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod"), policy)
}

/// All writes as `file=value`.
fn text(version: CgroupVersion, limits: &Limits) -> Vec<String> {
    writes(version, limits).into_iter().map(|w| format!("{}={}", w.file, w.value)).collect()
}

#[test]
fn pods_of_each_class() {
    let (v1, v2) = (CgroupVersion::V1, CgroupVersion::V2);
    let full = json!({"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    let guaranteed = limits(full, &policy());
    assert_eq!(
        text(v1, &guaranteed),
        ["cpu.shares=512", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "memory.limit_in_bytes=67108864"]
    );
    assert_eq!(text(v2, &guaranteed), ["cpu.weight=20", "cpu.max=50000 100000", "memory.max=67108864"]);
    let burstable = limits(json!({"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}), &policy());
    assert_eq!(text(v1, &burstable), ["cpu.shares=102", "memory.limit_in_bytes=67108864"]);
    assert_eq!(text(v2, &burstable), ["cpu.weight=4", "memory.max=67108864"]);
    let best_effort = limits(json!({}), &policy());
    assert_eq!(text(v1, &best_effort), ["cpu.shares=2"]);
    assert_eq!(text(v2, &best_effort), ["cpu.weight=1"]);
}

#[test]
fn policies() {
    let full = || json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Mi"}});
    let unlimited = limits(full(), &PodPolicy { cfs_quota: false, pids: 100, ..policy() });
    assert_eq!(
        text(CgroupVersion::V1, &unlimited),
        ["cpu.shares=1024", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=-1", "memory.limit_in_bytes=1048576", "pids.max=100"]
    );
    assert_eq!(text(CgroupVersion::V2, &unlimited), ["cpu.weight=39", "cpu.max=max 100000", "memory.max=1048576", "pids.max=100"]);
    let slow = limits(full(), &PodPolicy { cfs_period: Duration::from_millis(5), ..policy() });
    assert_eq!(slow.cpu_quota, Some((5000, 5000)));
}

#[test]
fn huge_pages_are_forbidden_unless_asked_for() {
    let policy = PodPolicy { page_sizes: vec!["2MB".into(), "1GB".into()], ..policy() };
    let asked = limits(json!({"requests": {"hugepages-2Mi": "4Mi", "memory": "1"}, "limits": {"hugepages-2Mi": "4Mi"}}), &policy);
    assert_eq!(text(CgroupVersion::V2, &asked), ["cpu.weight=1", "hugetlb.1GB.max=0", "hugetlb.2MB.max=4194304"]);
    assert_eq!(
        text(CgroupVersion::V1, &limits(json!({}), &policy)),
        ["cpu.shares=2", "hugetlb.1GB.limit_in_bytes=0", "hugetlb.2MB.limit_in_bytes=0"]
    );
}

#[test]
fn tiers() {
    assert_eq!(tier(QosClass::Guaranteed, 5000), Limits::default());
    assert_eq!(tier(QosClass::Burstable, 1500).cpu_shares, Some(1536));
    assert_eq!(tier(QosClass::Burstable, 0).cpu_shares, Some(2));
    assert_eq!(tier(QosClass::BestEffort, 1500).cpu_shares, Some(2));
}

#[test]
fn the_node_keeps_back_what_is_reserved() {
    let capacity = Totals { milli_cpu: 4000, memory: 1000, ephemeral_storage: 0, pods: 0 };
    let mut config = Config::default().kubelet;
    config.system_reserved = Reserved { milli_cpu: 500, memory: 100, ephemeral_storage: 0, pids: 10 };
    config.kube_reserved = Reserved { milli_cpu: 500, memory: 200, ephemeral_storage: 0, pids: 0 };
    let enforced = all_pods(&capacity, Some(50), &config);
    assert_eq!((enforced.cpu_shares, enforced.memory, enforced.pids), (Some(3072), Some(700), Some(40)));
    config.enforce_node_allocatable = vec![Enforcement::None];
    let free = all_pods(&capacity, None, &config);
    assert_eq!((free.cpu_shares, free.memory, free.pids), (Some(4096), Some(1000), None));
    assert_eq!(reserved(&config), vec![]);

    config.system_reserved_cgroup = "/system.slice".into();
    config.kube_reserved_cgroup = "/kube".into();
    config.enforce_node_allocatable = vec![Enforcement::Pods, Enforcement::SystemReserved, Enforcement::KubeReservedCompressible];
    let system = Limits { cpu_shares: Some(512), memory: Some(100), pids: Some(10), ..Limits::default() };
    let kube = Limits { cpu_shares: Some(512), ..Limits::default() };
    assert_eq!(reserved(&config), vec![("/system.slice", system), ("/kube", kube)]);
}
