//! What is said about an eviction: tools match on these texts (`pkg/kubelet/eviction/helpers.go`). Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

use super::judge::{Levels, Limit};
use super::signal::{Resource, Signal};
use super::usage::PodUsage;
use crate::config::Threshold;
use crate::model::quantity::{Quantity, binary, decimal};
use crate::model::resources::{amount, text};

/// Why a pod was taken, and annotations of the event about it.
pub fn message(
    signal: Signal,
    limits: &[Limit],
    levels: &Levels,
    pod: &Pod,
    usage: Option<&PodUsage>,
) -> (String, BTreeMap<String, String>) {
    let resource = signal.resource();
    let name = resource.as_str();
    let mut message = format!("The node was low on resource: {name}. ");
    let shown = |amount| if matches!(resource, Resource::Memory | Resource::Storage) { binary(amount) } else { decimal(amount) };
    let mut met =
        limits.iter().filter(|limit| limit.signal.resource() == resource).filter_map(|limit| Some((limit, levels.get(&limit.signal)?)));
    if let Some((limit, level)) = met.next() {
        let threshold = match limit.value {
            Threshold::Amount(amount) => binary(amount),
            share @ Threshold::Share(_) => shown(share.of(level.capacity)),
        };
        let _ = write!(message, "Threshold quantity: {threshold}, available: {}. ", shown(level.available));
    }
    let Some(usage) = usage else { return (message, BTreeMap::new()) };
    let mut annotations = BTreeMap::new();
    let spec = pod.spec.as_ref();
    let consumption = |whose: &str, used: i64, asked: Quantity| {
        format!("{whose} was using {}, request is {}, has larger consumption of {name}. ", binary(used), text(name, asked).0)
    };
    if resource == Resource::Memory
        && let Some(asked) = spec.and_then(|spec| amount(spec.resources.as_ref()?.requests.as_ref(), name))
    {
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        message += &consumption(&format!("Pod {pod_name}"), usage.memory, asked);
        annotations.insert("offending_pod".to_owned(), pod_name.to_owned());
        annotations.insert("offending_pod_usage".to_owned(), binary(usage.memory));
    }
    let all = || spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let (mut offenders, mut amounts) = (vec![], vec![]);
    for container in &usage.containers {
        let Some(asked) = all().find(|c| c.name == container.name) else { continue };
        let asked = amount(asked.resources.as_ref().and_then(|r| r.requests.as_ref()), name).unwrap_or_default();
        let used = match resource {
            Resource::Storage => container.writable.bytes + container.logs.bytes,
            Resource::Memory => container.memory,
            Resource::Inodes | Resource::Pids => continue,
        };
        if used > asked.value() {
            message += &consumption(&format!("Container {}", container.name), used, asked);
            offenders.push(container.name.as_str());
            amounts.push(binary(used));
        }
    }
    annotations.insert("offending_containers".to_owned(), offenders.join(","));
    annotations.insert("offending_containers_usage".to_owned(), amounts.join(","));
    annotations.insert("starved_resource".to_owned(), name.to_owned());
    (message, annotations)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::eviction::judge::Level;
    use crate::eviction::usage::{ContainerUsage, Held};

    fn limit(signal: Signal, value: Threshold) -> Limit {
        Limit { signal, value, grace: Duration::ZERO, reclaim: None }
    }

    #[test]
    fn names_what_was_short_and_who_used_more_than_it_asked_for() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a", "resources": {"requests": {"memory": "100Mi"}}}, {"name": "b"}],
            "initContainers": [{"name": "i"}]
        }}))
        .unwrap();
        let container = |name: &str, mib: i64| ContainerUsage { name: name.into(), memory: mib << 20, ..ContainerUsage::default() };
        let usage = PodUsage {
            memory: 1 << 30,
            containers: vec![container("a", 50), container("b", 30), container("i", 0)],
            ..PodUsage::default()
        };
        let levels: Levels = [(Signal::Memory, Level { available: 1000, capacity: 1 << 30 })].into();
        let limits = [limit(Signal::ImageFs, Threshold::Share(0.1)), limit(Signal::Memory, Threshold::Amount(100 << 20))];
        let (text, annotations) = message(Signal::Memory, &limits, &levels, &pod, Some(&usage));
        let want = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 1000. \
                    Container b was using 30Mi, request is 0, has larger consumption of memory. ";
        assert_eq!(text, want);
        let pairs: Vec<(&str, &str)> = annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("offending_containers", "b"), ("offending_containers_usage", "30Mi"), ("starved_resource", "memory")]);
    }

    #[test]
    fn storage_inodes_and_whole_pods() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "resources": {"requests": {"memory": "1Mi"}}, "containers": [{"name": "a"}]
        }}))
        .unwrap();
        let held = |bytes| Held { bytes, inodes: 1 };
        let container = ContainerUsage { name: "a".into(), memory: 1, writable: held(4096), logs: held(4096) };
        let usage = PodUsage { memory: 2 << 20, containers: vec![container], ..PodUsage::default() };
        let level = Level { available: 50_000, capacity: 1_000_000 };
        let levels: Levels = [(Signal::NodeFsInodes, level), (Signal::NodeFs, Level { available: 1 << 20, capacity: 1 << 30 })].into();
        let say = |signal, value| message(signal, &[limit(signal, value)], &levels, &pod, Some(&usage)).0;
        let inodes = say(Signal::NodeFsInodes, Threshold::Share(0.5));
        assert_eq!(inodes, "The node was low on resource: inodes. Threshold quantity: 500k, available: 50k. ");
        let storage = say(Signal::NodeFs, Threshold::Share(0.5));
        let want = "The node was low on resource: ephemeral-storage. Threshold quantity: 512Mi, available: 1Mi. \
                    Container a was using 8Ki, request is 0, has larger consumption of ephemeral-storage. ";
        assert_eq!(storage, want);
        let memory = say(Signal::Memory, Threshold::Amount(1));
        let want = "The node was low on resource: memory. Pod p was using 2Mi, request is 1Mi, has larger consumption of memory. \
                    Container a was using 1, request is 0, has larger consumption of memory. ";
        assert_eq!(memory, want);
    }
}
