//! Manifests of the tests, as JSON.

use serde_json::{Value, json};

/// Upstream's name of the busybox image; the lab's is made of Debian's package.
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";
/// The web server that says its own name.
pub const WHOAMI: &str = "kubelet-rs.io/whoami:1";

/// A pod that runs a shell script once.
pub fn script(name: &str, script: &str) -> Value {
    pod(name, json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", script] }), "Never")
}

/// A pod of one container.
pub fn pod(name: &str, container: Value, restart_policy: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "restartPolicy": restart_policy, "terminationGracePeriodSeconds": 2, "containers": [container] },
    })
}

/// Puts one more container into a pod.
pub fn add_container(pod: &mut Value, container: Value) {
    if let Some(containers) = pod["spec"]["containers"].as_array_mut() {
        containers.push(container);
    }
}

/// A whoami pod, pinned to a node, with labels for Services to select.
pub fn whoami_on(name: &str, node: &str, app: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": app } },
        "spec": { "nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [whoami_container()] },
    })
}

/// whoami on two HTTP ports and one for UDP.
pub fn whoami_container() -> Value {
    json!({
        "name": "whoami", "image": WHOAMI, "args": ["serve", "-tcp", ":8080,:8081", "-udp", ":8080"],
        "ports": [
            { "name": "web", "containerPort": 8080 },
            { "name": "other", "containerPort": 8081 },
            { "name": "talk", "containerPort": 8080, "protocol": "UDP" },
        ],
    })
}

/// A Deployment of whoami.
pub fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "terminationGracePeriodSeconds": 1, "containers": [whoami_container()] },
            },
        },
    })
}

/// A Service with the fields of `spec` besides the selector.
pub fn service(name: &str, app: &str, spec: Value) -> Value {
    let mut service = json!({ "metadata": { "name": name }, "spec": spec });
    if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("selector".into(), json!({ "app": app }));
    }
    service
}

/// A Service with one TCP port, 80, to whoami's first.
pub fn web_service(name: &str, app: &str) -> Value {
    service(name, app, json!({ "ports": [{ "port": 80, "targetPort": 8080 }] }))
}
