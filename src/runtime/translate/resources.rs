//! Resource amounts as the runtime gets them.
//!
//! Rules from pkg/kubelet/kuberuntime/kuberuntime_container_linux.go of Kubernetes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use proto::cri::{HugepageLimit, LinuxContainerResources};

use super::TranslateSettings;
use crate::model::quantity::Quantity;
use crate::model::resources::{PodResources, amount, cpu_quota, cpu_shares, oom_score_adj};

/// A container's resources.
pub(super) fn container(pod: &Pod, container: &Container, settings: &TranslateSettings) -> LinuxContainerResources {
    let own = container.resources.as_ref();
    let of_pod = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
    let limits = |r: Option<&ResourceRequirements>, name| amount(r.and_then(|r| r.limits.as_ref()), name).filter(|q| q.is_positive());
    // A limit that the container does not set is the pod's (KEP-2837).
    let limit = |name| limits(own, name).or_else(|| limits(of_pod, name));
    let cpu_request = amount(own.and_then(|r| r.requests.as_ref()), "cpu").map(Quantity::milli_value);
    let cpu_limit = limit("cpu").map_or(0, Quantity::milli_value);
    let memory = limit("memory").map_or(0, Quantity::value);
    let mut out = linux(cpu_request.unwrap_or(cpu_limit), cpu_limit, memory, settings);
    out.oom_score_adj = oom_score_adj(pod, container, settings.facts.capacity.memory).into();
    out.hugepage_limits = huge_pages(own, of_pod, &settings.host.huge_page_sizes);
    no_swap(&mut out, settings);
    out
}

/// What all containers of the pod use together, without overhead: for runtimes that size a virtual machine by it.
pub(super) fn sandbox(pod: &Pod, settings: &TranslateSettings) -> LinuxContainerResources {
    let sums = PodResources::of(pod);
    let overhead = pod.spec.as_ref().and_then(|s| s.overhead.as_ref());
    let over = |name| amount(overhead, name).unwrap_or_default();
    let limit = |name| sums.limits.get(name).copied().filter(|q| q.is_positive());
    let cpu_limit = limit("cpu").map_or(0, |q| q.milli_value() - over("cpu").milli_value());
    let memory = limit("memory").map_or(0, |q| q.value() - over("memory").value());
    let cpu_request = match sums.requests.get("cpu") {
        Some(cpu) => cpu.milli_value() - over("cpu").milli_value(),
        None => cpu_limit,
    };
    linux(cpu_request, cpu_limit, memory, settings)
}

/// What the sandbox itself costs (spec.overhead, from the RuntimeClass).
pub(super) fn overhead(pod: &Pod, settings: &TranslateSettings) -> LinuxContainerResources {
    let Some(overhead) = pod.spec.as_ref().and_then(|s| s.overhead.as_ref()) else { return LinuxContainerResources::default() };
    let cpu = amount(Some(overhead), "cpu").map_or(0, Quantity::milli_value);
    linux(cpu, cpu, amount(Some(overhead), "memory").map_or(0, Quantity::value), settings)
}

/// CPU in thousandths, memory in bytes; 0 for none.
fn linux(cpu_request: i64, cpu_limit: i64, memory: i64, settings: &TranslateSettings) -> LinuxContainerResources {
    let mut out = LinuxContainerResources {
        cpu_shares: i64::try_from(cpu_shares(cpu_request)).unwrap_or(i64::MAX),
        memory_limit_in_bytes: memory,
        ..Default::default()
    };
    if settings.cpu_cfs_quota {
        let period = settings.cpu_cfs_quota_period;
        out.cpu_quota = cpu_quota(cpu_limit, period);
        out.cpu_period = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
    }
    if settings.facts.cgroup_v2 && !settings.single_process_oom_kill {
        out.unified.insert("memory.oom.group".into(), "1".into());
    }
    out
}

/// Containers get no swap, also where the host has some (swapBehavior NoSwap).
fn no_swap(out: &mut LinuxContainerResources, settings: &TranslateSettings) {
    if !settings.host.swap_controller {
        return;
    }
    if settings.facts.cgroup_v2 {
        out.unified.insert("memory.swap.max".into(), "0".into());
    } else {
        // Memory and swap together: the same amount leaves nothing for swap.
        out.memory_swap_limit_in_bytes = out.memory_limit_in_bytes;
    }
}

/// A limit for each size that the host offers, 0 where neither the container nor the pod asks for pages of that size.
fn huge_pages(own: Option<&ResourceRequirements>, pod: Option<&ResourceRequirements>, sizes: &[u64]) -> Vec<HugepageLimit> {
    let limits = |r: Option<&ResourceRequirements>| -> BTreeMap<u64, u64> {
        let list = r.and_then(|r| r.limits.as_ref()).into_iter().flatten();
        list.filter_map(|(name, text)| Some((bytes(name.strip_prefix("hugepages-")?)?, bytes_of(text)?))).collect()
    };
    let mut wanted = limits(pod);
    wanted.extend(limits(own));
    let limit = |size: &u64| HugepageLimit { page_size: file_name(*size), limit: wanted.get(size).copied().unwrap_or(0) };
    sizes.iter().map(limit).collect()
}

fn bytes(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Quantity>().ok()?.value()).ok()
}

fn bytes_of(text: &Text) -> Option<u64> {
    bytes(&text.0)
}

/// The size as the kernel's hugetlb files have it in their names: `64KB`, `2MB`, `1GB`.
fn file_name(size: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut left = size;
    for unit in UNITS {
        if left == 0 || !left.is_multiple_of(1024) {
            return format!("{left}{unit}");
        }
        left /= 1024;
    }
    format!("{size}B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::translate::tests::{first, pod, settings};
    use serde_json::{Value, json};

    fn of(resources: Value, of_pod: Value) -> LinuxContainerResources {
        let pod = pod(json!({"containers": [{"name": "app", "resources": resources}], "resources": of_pod}));
        container(&pod, first(&pod), &settings())
    }

    #[test]
    fn cpu_and_memory() {
        let table = [
            (json!({}), json!(null), (2, 0, 0)),
            (json!({"requests": {"cpu": "250m"}}), json!(null), (256, 0, 0)),
            (json!({"limits": {"cpu": "1500m", "memory": "64Mi"}}), json!(null), (1536, 150_000, 64 << 20)),
            (json!({"requests": {"cpu": "1"}, "limits": {"cpu": "5m"}}), json!(null), (1024, 1000, 0)),
            (json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "3", "memory": "1Gi"}}), (1024, 100_000, 1 << 30)),
            (json!({"requests": {"cpu": "1"}}), json!({"limits": {"cpu": "3"}}), (1024, 300_000, 0)),
        ];
        for (own, of_pod, want) in table {
            let got = of(own.clone(), of_pod);
            assert_eq!((got.cpu_shares, got.cpu_quota, got.memory_limit_in_bytes), want, "{own}");
            assert_eq!(got.cpu_period, 100_000);
        }
    }

    #[test]
    fn without_quota_limits_are_not_enforced() {
        let pod = pod(json!({"containers": [{"name": "app", "resources": {"limits": {"cpu": "1"}}}]}));
        let got = container(&pod, first(&pod), &TranslateSettings { cpu_cfs_quota: false, ..settings() });
        assert_eq!((got.cpu_shares, got.cpu_quota, got.cpu_period), (1024, 0, 0));
    }

    #[test]
    fn kernel_files() {
        let unified = |settings: &TranslateSettings| {
            let pod = pod(json!({"containers": [{"name": "app", "resources": {"limits": {"memory": "1Mi"}}}]}));
            let got = container(&pod, first(&pod), settings);
            (got.unified.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "), got.memory_swap_limit_in_bytes)
        };
        let mut s = settings();
        assert_eq!(unified(&s), ("memory.oom.group=1 memory.swap.max=0".into(), 0));
        s.single_process_oom_kill = true;
        assert_eq!(unified(&s), ("memory.swap.max=0".into(), 0));
        s.facts.cgroup_v2 = false;
        s.single_process_oom_kill = false;
        assert_eq!(unified(&s), (String::new(), 1 << 20));
        s.host.swap_controller = false;
        assert_eq!(unified(&s), (String::new(), 0));
    }

    #[test]
    fn huge_pages_of_every_size() {
        let mut s = settings();
        s.host.huge_page_sizes = vec![64 << 10, 2 << 20, 1 << 30];
        let pod = pod(json!({
            "containers": [{"name": "app", "resources": {"limits": {"hugepages-2Mi": "4Mi", "hugepages-x": "1"}}}],
            "resources": {"limits": {"hugepages-2Mi": "8Mi", "hugepages-1Gi": "1Gi"}}
        }));
        let got = container(&pod, first(&pod), &s).hugepage_limits;
        let got: Vec<_> = got.iter().map(|l| (l.page_size.as_str(), l.limit)).collect();
        assert_eq!(got, [("64KB", 0), ("2MB", 4 << 20), ("1GB", 1 << 30)]);
        assert_eq!([file_name(0), file_name(1000), file_name(1 << 60)], ["0B", "1000B", "1152921504606846976B"]);
    }

    #[test]
    fn sandboxes_are_told_sums_and_overhead_apart() {
        let pod = pod(json!({
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Gi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "1Gi"}}}
            ],
            "overhead": {"cpu": "250m", "memory": "128Mi"}
        }));
        let sums = sandbox(&pod, &settings());
        assert_eq!((sums.cpu_shares, sums.cpu_quota, sums.memory_limit_in_bytes), (768, 100_000, 2 << 30));
        let over = overhead(&pod, &settings());
        assert_eq!((over.cpu_shares, over.cpu_quota, over.memory_limit_in_bytes), (256, 25_000, 128 << 20));
    }

    #[test]
    fn the_kernel_kills_best_effort_pods_first() {
        assert_eq!(of(json!({}), json!(null)).oom_score_adj, 1000);
        assert_eq!(of(json!({"requests": {"memory": "1Gi"}}), json!(null)).oom_score_adj, 875);
    }
}
