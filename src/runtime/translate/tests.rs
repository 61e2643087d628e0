//! Pods, settings and Services that the tests of this room share, and tests of whole configs.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::*;
use crate::model::node::Totals;
use crate::model::service::{Protocol, Service, ServiceName, ServicePort};
use crate::runtime::Image;

pub(crate) fn service(namespace: &str, name: &str, ip: &str, ports: &[(&str, Protocol, u16)]) -> Service {
    let port = |&(name, protocol, port): &(&str, Protocol, u16)| ServicePort { name: name.into(), protocol, port, node_port: 0 };
    Service {
        id: ServiceName { namespace: namespace.into(), name: name.into() },
        ours: true,
        cluster_ips: vec![ip.parse().unwrap()],
        ports: ports.iter().map(port).collect(),
        traffic: None,
    }
}

/// A pod named `web` in namespace `shop` with this spec, as the API server would send it.
pub(crate) fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"app": "web"}, "annotations": {"note": "x"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

pub(crate) fn first(pod: &Pod) -> &Container {
    &pod.spec.as_ref().unwrap().containers[0]
}

pub(crate) fn facts() -> NodeFacts {
    NodeFacts {
        name: "n1".into(),
        ips: vec!["10.0.0.1".parse().unwrap()],
        capacity: Totals { milli_cpu: 4000, memory: 8 << 30, ephemeral_storage: 100 << 30, pods: 110 },
        allocatable: Totals { milli_cpu: 3800, memory: 7 << 30, ephemeral_storage: 90 << 30, pods: 110 },
        cgroup_v2: true,
    }
}

pub(crate) fn settings() -> TranslateSettings {
    TranslateSettings {
        pod_logs_dir: "/var/log/pods".into(),
        root_dir: "/var/lib/kubelet".into(),
        cluster_dns: ClusterDns { servers: vec!["10.96.0.10".parse().unwrap()], domain: "cluster.local".into() },
        cpu_cfs_quota: true,
        cpu_cfs_quota_period: Duration::from_millis(100),
        seccomp_default: false,
        single_process_oom_kill: false,
        host: HostTraits { thermal_throttle: vec![], huge_page_sizes: vec![2 << 20], swap_controller: true },
        facts: facts(),
    }
}

pub(crate) fn image() -> Image {
    Image { id: "sha256:1".into(), tags: vec![], digests: vec![], size: 1, uid: None, username: String::new(), pinned: false }
}

mod configs;
