//! What a pod has as a whole (KEP-5419; upstream: `kubelet_pods.go`, `convertToAPIPodLevelResourcesStatus`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::model::quantity::Quantity;
use crate::model::resources::{Amounts, PodResources, amount, text};

type List = BTreeMap<String, Text>;

/// Puts in what is allocated, and what is in force: the one before, as long as `changing`.
pub(super) fn put(pod: &Pod, previous: &PodStatus, changing: bool, status: &mut PodStatus) {
    let sums = PodResources::of(pod);
    status.allocated_resources = texts(&sums.requests);
    let before = previous.resources.clone().filter(|_| changing);
    let running = status.phase.as_deref() == Some("Running");
    status.resources = before.or_else(|| Some(if running { in_force(pod, &sums) } else { planned(&sums) }));
}

/// All that its containers ask for together, or the pod itself does.
fn planned(sums: &PodResources) -> ResourceRequirements {
    ResourceRequirements { requests: texts(&sums.requests), limits: texts(&sums.limits), claims: None }
}

/// What the pod itself asks for, and what its cgroup is made with. Upstream reads that from the kernel, in steps of shares; here it is what
/// they were made from.
fn in_force(pod: &Pod, sums: &PodResources) -> ResourceRequirements {
    let mut own = pod.spec.as_ref().and_then(|spec| spec.resources.clone()).unwrap_or_default();
    own.claims = None;
    let set = |list: &mut Option<List>, name: &str, value: Option<Quantity>| {
        if let Some(value) = value.filter(|value| value.is_positive() && amount(list.as_ref(), name) != Some(*value)) {
            list.get_or_insert_default().insert(name.to_owned(), text(name, value));
        }
    };
    // The kernel's least is no amount that anybody has asked for.
    set(&mut own.requests, "cpu", sums.requests.get("cpu").copied().filter(|cpu| cpu.milli_value() > LEAST_SHARES));
    set(&mut own.requests, "memory", sums.requests.get("memory").copied());
    set(&mut own.limits, "cpu", sums.limits.get("cpu").copied().filter(|_| sums.cpu_limited));
    set(&mut own.limits, "memory", sums.limits.get("memory").copied().filter(|_| sums.memory_limited));
    own
}

/// `cpu.shares` of who asks for nothing.
const LEAST_SHARES: i64 = 2;

fn texts(amounts: &Amounts) -> Option<List> {
    (!amounts.is_empty()).then(|| amounts.iter().map(|(name, value)| (name.clone(), text(name, *value))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(spec: Value, phase: &str) -> Value {
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        let mut status = PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
        put(&pod, &PodStatus::default(), false, &mut status);
        json!([status.allocated_resources, status.resources])
    }

    #[test]
    fn a_pod_without_its_own_shows_what_its_containers_have_together() {
        let both = json!({"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}});
        let spec = json!({"containers": [{"name": "a", "resources": both}, {"name": "b", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]});
        let requests = json!({"cpu": "1250m", "memory": "1088Mi"});
        assert_eq!(
            shown(spec.clone(), "Running"),
            json!([requests, {"requests": requests}]),
            "one container has no limit: neither has the pod"
        );
        assert_eq!(shown(spec, "Pending"), json!([requests, {"requests": requests, "limits": {"memory": "128Mi"}}]));
        assert_eq!(shown(json!({"containers": [{"name": "a"}]}), "Running"), json!([null, {}]));
    }

    #[test]
    fn its_own_amounts_stay_as_they_are_written() {
        let own = json!({"requests": {"cpu": "0.5"}, "limits": {"memory": "1G"}});
        let spec = json!({"resources": own, "containers": [{"name": "a", "resources": {"requests": {"memory": "1Mi"}}}]});
        let requests = json!({"cpu": "500m", "memory": "1Mi"});
        let in_force = json!({"requests": {"cpu": "0.5", "memory": "1Mi"}, "limits": {"memory": "1G"}});
        assert_eq!(shown(spec, "Running"), json!([requests, in_force]));
        // Nobody needs a hundredth of a byte, but what the API server took it gets back.
        let spec = json!({"resources": {"requests": {"memory": "10m"}}, "containers": [{"name": "a"}]});
        assert_eq!(shown(spec, "Pending")[0], json!({"memory": "10m"}));
    }
}
