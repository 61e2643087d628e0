//! Which value each cgroup gets. Pure.
//!
//! Sources: pkg/kubelet/cm/{helpers_linux,node_container_manager_linux,qos_container_manager_linux}.go; file names and formats from
//! the kernel's Documentation/admin-guide/{cgroup-v1,cgroup-v2.rst}.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::CgroupVersion;
use crate::config::{Enforcement, KubeletConfiguration, Reserved};
use crate::model::node::Totals;
use crate::model::qos::QosClass;
use crate::model::resources::{PodResources, cpu_quota, cpu_shares, cpu_weight};

/// Limits of one cgroup; what is `None` is left as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Share of CPU time when there isn't enough, 1024 a CPU.
    pub cpu_shares: Option<u64>,
    /// CPU time in microseconds for each period in microseconds; a negative one is without limit.
    pub cpu_quota: Option<(i64, u64)>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// Bytes by page size as the kernel's files name it (`2MB`).
    pub huge_pages: BTreeMap<String, i64>,
}

/// What the configuration and the host say about all pods' limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPolicy {
    /// Whether CPU limits are enforced.
    pub cfs_quota: bool,
    /// Over which period.
    pub cfs_period: Duration,
    /// Most processes of a pod; none if not positive.
    pub pids: i64,
    /// Sizes of huge pages that the host has, as the kernel's files name them.
    pub page_sizes: Vec<String>,
}

/// Limits of a pod.
pub fn pod(pod: &Pod, policy: &PodPolicy) -> Limits {
    let sums = PodResources::of(pod);
    let mut limits = Limits { pids: Some(policy.pids).filter(|pids| *pids > 0), ..Limits::default() };
    // Sizes that the pod doesn't ask for are forbidden to it.
    limits.huge_pages = policy.page_sizes.iter().map(|size| (size.clone(), 0)).collect();
    for (name, amount) in &sums.requests {
        if let Some(size) = name.strip_prefix("hugepages-").and_then(page_size_label)
            && let Some(limit) = limits.huge_pages.get_mut(&size)
        {
            *limit += amount.value();
        }
    }
    if QosClass::of(pod) == QosClass::BestEffort {
        limits.cpu_shares = Some(cpu_shares(0));
        return limits;
    }
    limits.cpu_shares = Some(cpu_shares(sums.milli_cpu_request()));
    let period = policy.cfs_period;
    let quota = |milli| if policy.cfs_quota { cpu_quota(milli, period) } else { -1 };
    let period = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
    limits.cpu_quota = sums.milli_cpu_limit().map(quota).filter(|quota| *quota != 0).map(|quota| (quota, period));
    limits.memory = sums.memory_limit().filter(|bytes| *bytes > 0);
    limits
}

/// Limits of a class's cgroup. `burstable_milli_cpu` is what all Burstable pods ask for together.
pub fn tier(class: QosClass, burstable_milli_cpu: i64) -> Limits {
    let shares = match class {
        QosClass::Guaranteed => None,
        QosClass::Burstable => Some(cpu_shares(burstable_milli_cpu)),
        QosClass::BestEffort => Some(cpu_shares(0)),
    };
    Limits { cpu_shares: shares, ..Limits::default() }
}

/// Limits of all pods together: what the node has, less what is reserved if that is enforced. Eviction thresholds are not taken off:
/// eviction shall start before the kernel kills.
pub fn all_pods(capacity: &Totals, pids: Option<i64>, config: &KubeletConfiguration) -> Limits {
    let enforced = config.enforce_node_allocatable.contains(&Enforcement::Pods);
    let left = |capacity: i64, of: fn(&Reserved) -> i64| {
        let reserved = of(&config.system_reserved).saturating_add(of(&config.kube_reserved));
        if enforced { capacity.saturating_sub(reserved).max(0) } else { capacity }
    };
    Limits {
        cpu_shares: Some(cpu_shares(left(capacity.milli_cpu, |r| r.milli_cpu))),
        memory: Some(left(capacity.memory, |r| r.memory)).filter(|bytes| *bytes > 0),
        pids: pids.map(|pids| left(pids, |r| r.pids)).filter(|pids| *pids > 0),
        ..Limits::default()
    }
}

/// The cgroups outside of the pods' tree that are limited to what is reserved for them.
pub fn reserved(config: &KubeletConfiguration) -> Vec<(&str, Limits)> {
    let limits = |reserved: &Reserved, all: bool| Limits {
        cpu_shares: Some(reserved.milli_cpu).filter(|milli| *milli > 0).map(cpu_shares),
        memory: Some(reserved.memory).filter(|bytes| all && *bytes > 0),
        pids: Some(reserved.pids).filter(|pids| all && *pids > 0),
        ..Limits::default()
    };
    let (system, kube) = (config.system_reserved_cgroup.as_str(), config.kube_reserved_cgroup.as_str());
    let of = |level: &Enforcement| match level {
        Enforcement::None | Enforcement::Pods => None,
        Enforcement::SystemReserved => Some((system, limits(&config.system_reserved, true))),
        Enforcement::SystemReservedCompressible => Some((system, limits(&config.system_reserved, false))),
        Enforcement::KubeReserved => Some((kube, limits(&config.kube_reserved, true))),
        Enforcement::KubeReservedCompressible => Some((kube, limits(&config.kube_reserved, false))),
    };
    config.enforce_node_allocatable.iter().filter_map(of).collect()
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller whose file it is.
    pub controller: &'static str,
    /// The file's name in the cgroup's directory.
    pub file: String,
    /// What it gets.
    pub value: String,
}

/// Limits as files, in the order in which they must be written.
pub fn writes(version: CgroupVersion, limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut push = |controller, file: &str, value: String| writes.push(Write { controller, file: file.to_owned(), value });
    match version {
        CgroupVersion::V1 => {
            if let Some(shares) = limits.cpu_shares {
                push("cpu", "cpu.shares", shares.to_string());
            }
            if let Some((quota, period)) = limits.cpu_quota {
                push("cpu", "cpu.cfs_period_us", period.to_string());
                push("cpu", "cpu.cfs_quota_us", quota.max(-1).to_string());
            }
            if let Some(bytes) = limits.memory {
                push("memory", "memory.limit_in_bytes", bytes.to_string());
            }
        }
        CgroupVersion::V2 => {
            if let Some(shares) = limits.cpu_shares {
                push("cpu", "cpu.weight", cpu_weight(shares).to_string());
            }
            if let Some((quota, period)) = limits.cpu_quota {
                let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
                push("cpu", "cpu.max", format!("{quota} {period}"));
            }
            if let Some(bytes) = limits.memory {
                push("memory", "memory.max", bytes.to_string());
            }
        }
    }
    if let Some(pids) = limits.pids {
        push("pids", "pids.max", pids.to_string());
    }
    let huge_page_file = if version == CgroupVersion::V1 { "limit_in_bytes" } else { "max" };
    for (size, bytes) in &limits.huge_pages {
        push("hugetlb", &format!("hugetlb.{size}.{huge_page_file}"), bytes.to_string());
    }
    writes
}

/// `2Mi` → `2MB`: a page size of a resource name as the kernel's files name it.
fn page_size_label(quantity: &str) -> Option<String> {
    let bytes = quantity.parse::<crate::model::quantity::Quantity>().ok()?.value();
    Some(byte_label(u64::try_from(bytes).ok()?))
}

/// Bytes of a page size as the kernel's files name it.
pub(super) fn byte_label(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 => format!("{}GB", b >> 30),
        b if b >= 1 << 20 => format!("{}MB", b >> 20),
        b => format!("{}KB", b >> 10),
    }
}

#[cfg(test)]
mod tests;
