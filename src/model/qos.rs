//! The quality-of-service class of a pod (pkg/apis/core/v1/helper/qos/qos.go).

use std::fmt;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::quantity::Quantity;
use super::resources::amount;

/// Which pods suffer first when the node runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QosClass {
    /// Limits of CPU and memory on every container, requests equal to them.
    Guaranteed,
    /// Anything in between.
    Burstable,
    /// No requests, no limits.
    BestEffort,
}

impl QosClass {
    /// The class that the API server wrote into the status, or else the one that follows from the spec.
    pub fn of(pod: &Pod) -> Self {
        match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
            Some("Guaranteed") => Self::Guaranteed,
            Some("Burstable") => Self::Burstable,
            Some("BestEffort") => Self::BestEffort,
            _ => Self::computed(pod),
        }
    }

    /// The class as the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    fn computed(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::BestEffort };
        // Pod-level resources (KEP-2837) decide alone where they are given.
        let parts: Vec<Option<&ResourceRequirements>> = match &spec.resources {
            Some(resources) => vec![Some(resources)],
            None => spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.resources.as_ref()).collect(),
        };
        let mut sums = [(Quantity::default(), Quantity::default()); 2];
        let mut limited_everywhere = true;
        for part in &parts {
            for (name, (requests, limits)) in ["cpu", "memory"].into_iter().zip(sums.iter_mut()) {
                let limit = part.and_then(|p| amount(p.limits.as_ref(), name)).filter(|q| q.is_positive());
                let request = part.and_then(|p| amount(p.requests.as_ref(), name)).filter(|q| q.is_positive());
                limited_everywhere &= limit.is_some();
                *requests = *requests + request.unwrap_or_default();
                *limits = *limits + limit.unwrap_or_default();
            }
        }
        if sums.iter().all(|(requests, limits)| !requests.is_positive() && !limits.is_positive()) {
            Self::BestEffort
        } else if limited_everywhere && sums.iter().all(|(requests, limits)| requests == limits) {
            Self::Guaranteed
        } else {
            Self::Burstable
        }
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(spec: serde_json::Value) -> QosClass {
        QosClass::of(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod"))
    }

    #[test]
    fn classes() {
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}});
        let table = [
            (json!({"containers": [{"name": "a"}]}), QosClass::BestEffort),
            (json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "0"}}}]}), QosClass::BestEffort),
            (json!({"containers": [{"name": "a", "resources": {"requests": {"ephemeral-storage": "1Gi"}}}]}), QosClass::BestEffort),
            (json!({"containers": [{"name": "a", "resources": full}]}), QosClass::Guaranteed),
            (json!({"containers": [{"name": "a", "resources": full}, {"name": "b"}]}), QosClass::Burstable),
            (json!({"containers": [{"name": "a", "resources": full}], "initContainers": [{"name": "i"}]}), QosClass::Burstable),
            (
                json!({"containers": [{"name": "a", "resources": full}], "initContainers": [{"name": "i", "resources": full}]}),
                QosClass::Guaranteed,
            ),
            (json!({"containers": [{"name": "a", "resources": {"limits": {"memory": "1Gi"}}}]}), QosClass::Burstable),
            (json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}), QosClass::Burstable),
            (json!({"containers": [{"name": "a"}], "resources": full}), QosClass::Guaranteed),
            (json!({"containers": [{"name": "a", "resources": full}], "resources": {"requests": {"cpu": "3"}}}), QosClass::Burstable),
        ];
        for (spec, expected) in table {
            assert_eq!(class(spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn the_status_wins() {
        let pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "a"}]}, "status": {"qosClass": "Guaranteed"}}));
        assert_eq!(QosClass::of(&pod.expect("a pod")), QosClass::Guaranteed);
    }
}
