//! Objects that the tests of this room share.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::model::node::{NodeFacts, Totals};

/// Pod shop/web with a label and the given spec.
pub(super) fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "uid-web", "labels": {"app": "web"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod")
}

/// A node with 4 GiB allocatable.
pub(super) fn node() -> NodeFacts {
    let allocatable = Totals { milli_cpu: 2000, memory: 4 << 30, ephemeral_storage: 1 << 30, pods: 110 };
    NodeFacts { name: "n1".into(), ips: Vec::new(), capacity: allocatable, allocatable, cgroup_v2: true }
}
