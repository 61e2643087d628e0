use serde_json::{Value, json};

use super::*;
use crate::api::fake::FakeApi;
use crate::node::Pressures;

fn pod(name: &str, spec: Value) -> Pod {
    let meta = json!({"name": name, "namespace": "default", "uid": name});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

fn with(requests: Value, extra: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

fn node(extra: Value) -> Node {
    let allocatable = json!({"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi", "pods": "3"});
    let mut node =
        json!({"metadata": {"name": "node", "labels": {"zone": "a", "level": "5"}}, "spec": {}, "status": {"allocatable": allocatable}});
    node.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(node).expect("a node")
}

fn gate_of(node: Node) -> Admission {
    let (sender, receiver) = watch::channel(Some(Arc::new(node)));
    drop(sender);
    let none = Totals { milli_cpu: 0, memory: 0, ephemeral_storage: 0, pods: 0 };
    Admission::new(Arc::new(FakeApi::new("node")), receiver, none, Pressures::default(), &["kernel.msg*".to_owned()])
}

fn gate() -> Admission {
    gate_of(node(json!({})))
}

async fn reason(gate: &Admission, pod: Pod) -> String {
    match gate.decide(&pod).await {
        Decision::Admitted => String::new(),
        Decision::Rejected(rejection) => rejection.reason.into_owned(),
        Decision::After(victims) => format!("after {}", victims.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
    }
}

#[tokio::test]
async fn what_is_too_much_is_named() {
    let gate = gate();
    assert_eq!(reason(&gate, pod("a", with(json!({"cpu": "1500m"}), json!({})))).await, "");
    let second = gate.decide(&pod("b", with(json!({"cpu": "600m", "memory": "2Gi"}), json!({})))).await;
    let message = "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000";
    assert_eq!(second, Decision::Rejected(Rejection::new("OutOfcpu", message)));
    for (requests, want) in [
        (json!({"memory": "2Gi"}), "OutOfmemory"),
        (json!({"ephemeral-storage": "2Gi"}), "OutOfephemeral-storage"),
        (json!({"hugepages-2Mi": "2Mi"}), "OutOfhugepages-2Mi"),
        (json!({"example.com/gpu": "1"}), ""),
    ] {
        assert_eq!(reason(&gate, pod("c", with(requests.clone(), json!({})))).await, want, "{requests}");
    }
    assert_eq!(reason(&gate, pod("d", with(json!({}), json!({})))).await, "");
    assert_eq!(reason(&gate, pod("e", with(json!({}), json!({})))).await, "OutOfpods");
    gate.release(&"a".into());
    assert_eq!(reason(&gate, pod("e", with(json!({"cpu": "2"}), json!({})))).await, "");
}

#[tokio::test]
async fn a_pod_that_was_let_in_before_is_only_counted() {
    let gate = gate();
    let mut old = pod("old", with(json!({"cpu": "5"}), json!({"nodeSelector": {"zone": "b"}})));
    old.status = serde_json::from_value(json!({"startTime": "2026-01-01T00:00:00Z"})).ok();
    assert_eq!(reason(&gate, old).await, "");
    assert_eq!(reason(&gate, pod("new", with(json!({"cpu": "1m"}), json!({})))).await, "OutOfcpu");
}

#[tokio::test]
async fn each_check_has_its_reason() {
    let expression = |op: &str, values: Value| json!([{"key": "level", "operator": op, "values": values}]);
    let affinity = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
    for (extra, want) in [
        (json!({"nodeSelector": {"zone": "a"}}), ""),
        (json!({"nodeSelector": {"zone": "b"}}), "NodeAffinity"),
        (affinity(json!([{"matchExpressions": expression("Gt", json!(["4"]))}])), ""),
        (affinity(json!([{"matchExpressions": expression("Lt", json!(["4"]))}])), "NodeAffinity"),
        (
            affinity(
                json!([{"matchExpressions": expression("NotIn", json!(["5"]))}, {"matchExpressions": expression("Exists", json!([]))}]),
            ),
            "",
        ),
        (affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["other"]}]}])), "NodeAffinity"),
        (affinity(json!([{}])), "NodeAffinity"),
        (json!({"nodeName": "other"}), "NodeName"),
        (json!({"os": {"name": "windows"}}), "PodOSNotSupported"),
        (json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}), "SupplementalGroupsPolicyNotSupported"),
        (json!({"hostNetwork": true, "hostUsers": false}), "PodFeatureUnsupported"),
        (sysctl("kernel.shm_rmid_forced"), ""),
        (sysctl("net/ipv4/tcp_syncookies"), ""),
        (sysctl("kernel.msgmax"), ""),
        (sysctl("kernel.sem"), "SysctlForbidden"),
        (
            json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}}),
            "SysctlForbidden",
        ),
    ] {
        assert_eq!(reason(&gate(), pod("p", with(json!({}), extra.clone()))).await, want, "{extra}");
    }
    let mut labelled = pod("p", with(json!({}), json!({})));
    labelled.metadata.labels = Some([("kubernetes.io/os".to_owned(), "windows".to_owned())].into());
    assert_eq!(reason(&gate(), labelled).await, "PodOSSelectorNodeLabelDoesNotMatch");
}

#[tokio::test]
async fn host_ports_are_had_once() {
    let gate = gate();
    let with_port = |name: &str, port: Value| pod(name, json!({"containers": [{"name": "c", "ports": [port]}]}));
    assert_eq!(reason(&gate, with_port("a", json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"}))).await, "");
    assert_eq!(reason(&gate, with_port("b", json!({"containerPort": 1, "hostPort": 80}))).await, "NodePorts");
    assert_eq!(reason(&gate, with_port("c", json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"}))).await, "");
    assert_eq!(reason(&gate, with_port("d", json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.2"}))).await, "");
}

#[tokio::test]
async fn taints_that_end_pods_keep_them_out() {
    let gate = gate_of(node(
        json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}, {"key": "s", "effect": "NoSchedule"}]}}),
    ));
    let tolerating = |toleration: Value| pod("p", with(json!({}), json!({"tolerations": [toleration]})));
    for (toleration, want) in [
        (json!({"operator": "Exists"}), ""),
        (json!({"key": "k", "value": "v"}), ""),
        (json!({"key": "k", "value": "w"}), "TaintToleration"),
        (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), "TaintToleration"),
    ] {
        assert_eq!(reason(&gate, tolerating(toleration.clone())).await, want, "{toleration}");
        gate.release(&"p".into());
    }
    let mut own = tolerating(json!({"key": "other"}));
    own.metadata.annotations = Some([("kubernetes.io/config.source".to_owned(), "file".to_owned())].into());
    assert_eq!(reason(&gate, own).await, "", "static pods stay");
}

#[tokio::test]
async fn the_least_important_make_room_for_a_critical_pod() {
    let limited = |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}, "limits": {"cpu": cpu, "memory": "1Mi"}}}]});
    let critical = |cpu: &str| pod("critical", with(json!({"cpu": cpu}), json!({"priority": 2_000_000_000})));
    let filled = async || {
        let gate = gate();
        for (name, spec) in
            [("guaranteed", limited("1")), ("burstable", with(json!({"cpu": "900m"}), json!({}))), ("effort", with(json!({}), json!({})))]
        {
            assert_eq!(reason(&gate, pod(name, spec)).await, "");
        }
        gate
    };
    for (cpu, want) in [("500m", "after burstable"), ("1500m", "after burstable,guaranteed"), ("3", "UnexpectedAdmissionError")] {
        assert_eq!(reason(&filled().await, critical(cpu)).await, want, "{cpu}");
    }
    let elsewhere = pod("critical", with(json!({"cpu": "1"}), json!({"priority": 2_000_000_000, "nodeSelector": {"zone": "b"}})));
    assert_eq!(reason(&filled().await, elsewhere).await, "OutOfpods", "nobody goes for a pod that can't run here anyway");
}
