//! Sums of requests and limits, and what the kernel is told because of them.
//!
//! Sources: k8s.io/component-helpers/resource/helpers.go (sums; KEP-753 for sidecars, KEP-2837 for pod-level resources),
//! pkg/kubelet/cm/helpers_linux.go (shares, quota), pkg/kubelet/qos/policy.go (oom_score_adj).

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::qos::QosClass;
use super::quantity::{Quantity, binary};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// One amount out of a container's or pod's list. One that can't be read counts as absent: the API server lets none through.
pub fn amount(list: Option<&BTreeMap<String, Text>>, name: &str) -> Option<Quantity> {
    list?.get(name)?.0.parse().ok()
}

/// An amount as the API writes it: bytes in powers of 1024, all else in whole ones; what isn't whole in thousandths.
pub fn text(name: &str, amount: Quantity) -> Text {
    let bytes = matches!(name, "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    let milli = amount.milli_value();
    Text(match (bytes, milli % 1000) {
        (true, 0) => binary(amount.value()),
        (_, 0) => (milli / 1000).to_string(),
        _ => format!("{milli}m"),
    })
}

/// What a pod asks for and may use, overhead included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodResources {
    /// What is kept for it.
    pub requests: Amounts,
    /// What it may use. An amount here is no limit of the pod unless the flag below says so: a container without a limit may use more.
    pub limits: Amounts,
    /// Every container has a CPU limit, or the pod has.
    pub cpu_limited: bool,
    /// Every container has a memory limit, or the pod has.
    pub memory_limited: bool,
}

impl PodResources {
    /// Sums up a pod.
    pub fn of(pod: &Pod) -> Self {
        let (mut requests, _) = container_sums(pod, |r| r.requests.as_ref());
        let (mut limits, [mut cpu_limited, mut memory_limited]) = container_sums(pod, |r| r.limits.as_ref());
        let Some(spec) = &pod.spec else { return Self::default() };
        if let Some(own) = &spec.resources {
            override_with(&mut requests, own.requests.as_ref());
            override_with(&mut limits, own.limits.as_ref());
            let limited = |name| amount(own.limits.as_ref(), name).is_some_and(Quantity::is_positive);
            cpu_limited |= limited("cpu");
            memory_limited |= limited("memory");
        }
        for (name, overhead) in read(spec.overhead.as_ref()) {
            add(&mut requests, name.clone(), overhead);
            if let Some(limit) = limits.get_mut(&name).filter(|limit| limit.is_positive()) {
                *limit = *limit + overhead;
            }
        }
        Self { requests, limits, cpu_limited, memory_limited }
    }

    /// Requested CPU in thousandths.
    pub fn milli_cpu_request(&self) -> i64 {
        self.requests.get("cpu").map_or(0, |q| q.milli_value())
    }

    /// CPU limit in thousandths; `None` when some container may use any amount.
    pub fn milli_cpu_limit(&self) -> Option<i64> {
        self.limits.get("cpu").filter(|_| self.cpu_limited).map(|q| q.milli_value())
    }

    /// Memory limit in bytes; `None` when some container may use any amount.
    pub fn memory_limit(&self) -> Option<i64> {
        self.limits.get("memory").filter(|_| self.memory_limited).map(|q| q.value())
    }
}

/// The greater of (containers and sidecars together) and (each init container with the sidecars before it); and whether each step
/// names CPU and memory.
fn container_sums<'a>(pod: &'a Pod, part: impl Fn(&'a ResourceRequirements) -> Option<&'a BTreeMap<String, Text>>) -> (Amounts, [bool; 2]) {
    let mut total = Amounts::new();
    let mut named_everywhere = [true; 2];
    let mut step = |amounts: &Amounts| {
        for (named, name) in named_everywhere.iter_mut().zip(["cpu", "memory"]) {
            *named &= amounts.get(name).is_some_and(|q| q.is_positive());
        }
    };
    let amounts_of = |container: &'a Container| read(container.resources.as_ref().and_then(&part));
    let Some(spec) = &pod.spec else { return (total, named_everywhere) };
    for container in &spec.containers {
        let amounts = amounts_of(container);
        step(&amounts);
        add_all(&mut total, amounts);
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut amounts = amounts_of(container);
        if is_sidecar(container) {
            add_all(&mut total, amounts.clone());
            add_all(&mut sidecars, amounts);
            amounts = sidecars.clone();
        } else {
            add_all(&mut amounts, sidecars.clone());
        }
        step(&amounts);
        for (name, value) in amounts {
            let slot = peak.entry(name).or_default();
            *slot = (*slot).max(value);
        }
    }
    for (name, value) in peak {
        let slot = total.entry(name).or_default();
        *slot = (*slot).max(value);
    }
    (total, named_everywhere)
}

/// Whether an init container keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn read(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    list.into_iter().flatten().filter_map(|(name, text)| Some((name.clone(), text.0.parse().ok()?))).collect()
}

fn add(total: &mut Amounts, name: String, value: Quantity) {
    let slot = total.entry(name).or_default();
    *slot = *slot + value;
}

fn add_all(total: &mut Amounts, more: Amounts) {
    for (name, value) in more {
        add(total, name, value);
    }
}

/// Pod-level amounts replace sums, for the resources that can be given on that level.
fn override_with(sums: &mut Amounts, own: Option<&BTreeMap<String, Text>>) {
    sums.extend(read(own).into_iter().filter(|(name, _)| name == "cpu" || name == "memory" || name.starts_with("hugepages-")));
}

/// `cpu.shares` for thousandths of a CPU: 1024 a CPU, within the kernel's bounds.
pub fn cpu_shares(milli_cpu: i64) -> u64 {
    let shares = i128::from(milli_cpu) * 1024 / 1000;
    u64::try_from(shares.clamp(2, 262_144)).unwrap_or(2)
}

/// `cpu.weight` (cgroup v2) for shares. The linear map is the one for the agent's own cgroups; runtimes map containers' shares in
/// another way (opencontainers/cgroups 0.0.6), which is their business.
pub fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// About the shares that a weight came from.
pub fn shares_of_weight(weight: u64) -> u64 {
    (weight.clamp(1, 10_000) - 1) * 262_142 / 9999 + 2
}

/// CFS quota in microseconds for thousandths of a CPU; the kernel takes no less than 1 ms. 0 for no CPU: no quota.
pub fn cpu_quota(milli_cpu: i64, period: Duration) -> i64 {
    if milli_cpu == 0 {
        return 0;
    }
    let micros = i128::try_from(period.as_micros()).unwrap_or(i128::MAX);
    let quota = i128::from(milli_cpu).saturating_mul(micros) / 1000;
    i64::try_from(quota).unwrap_or(i64::MAX).max(1000)
}

/// `oom_score_adj` of a container: from −997 (killed last) to 1000 (killed first). `memory_capacity` is the node's, in bytes.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    if is_node_critical(pod) {
        return -997;
    }
    match QosClass::of(pod) {
        QosClass::Guaranteed => return -997,
        QosClass::BestEffort => return 1000,
        QosClass::Burstable => {}
    }
    let Some(spec) = &pod.spec else { return 1000 };
    let memory = |c: &Container| c.resources.as_ref().and_then(|r| amount(r.requests.as_ref(), "memory")).map_or(0, Quantity::value);
    let score = |request: i64| 1000 - 1000 * i128::from(request) / i128::from(memory_capacity.max(1));

    // What a pod-level request leaves over is divided equally.
    let pod_request = spec.resources.as_ref().and_then(|r| amount(r.requests.as_ref(), "memory")).map_or(0, Quantity::value);
    let spare = if pod_request == 0 {
        0
    } else {
        let (sums, _) = container_sums(pod, |r| r.requests.as_ref());
        let count = spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len);
        (pod_request - sums.get("memory").map_or(0, |q| q.value())) / i64::try_from(count.max(1)).unwrap_or(i64::MAX)
    };
    let mut adj = score(memory(container).saturating_add(spare));
    // A sidecar isn't killed before the containers that need it.
    if is_sidecar(container) && spec.init_containers.iter().flatten().any(|c| c.name == container.name) {
        let least = spec.containers.iter().map(memory).min().unwrap_or(0);
        adj = adj.min(score(least.saturating_add(spare)));
    }
    // Worse than any Guaranteed container, better than BestEffort ones.
    if adj == 1000 { 999 } else { i32::try_from(adj.max(3)).unwrap_or(999) }
}

/// Whether the pod is critical (static, mirror or of a system priority; pkg/kubelet/types/pod_update.go) for the node itself.
fn is_node_critical(pod: &Pod) -> bool {
    let annotation = |name: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(name));
    let spec = pod.spec.as_ref();
    let is_static = annotation("kubernetes.io/config.source").is_some_and(|source| source != "api");
    let is_mirror = annotation("kubernetes.io/config.mirror").is_some();
    let has_priority = spec.and_then(|s| s.priority).is_some_and(|priority| priority >= 2_000_000_000);
    (is_static || is_mirror || has_priority) && spec.and_then(|s| s.priority_class_name.as_deref()) == Some("system-node-critical")
}

#[cfg(test)]
mod tests;
