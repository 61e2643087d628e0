//! Small pods and runtime records for tests of this room.

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};

use crate::model::PodRef;
use crate::model::hash::container_hash;
use crate::runtime::{Container, ContainerPhase, ObservedPod, Sandbox};

/// A second in nanoseconds.
pub const S: i64 = 1_000_000_000;

/// A pod `default/web` with the given restart policy and containers.
pub fn pod(policy: &str, containers: &[&str]) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some("default".into());
    pod.metadata.name = Some("web".into());
    pod.metadata.uid = Some("u1".into());
    pod.metadata.generation = Some(1);
    let containers = containers.iter().map(|name| container(name)).collect();
    pod.spec = Some(PodSpec { containers, restart_policy: Some(policy.into()), ..Default::default() });
    pod
}

/// The same with init containers before.
pub fn pod_with_init(policy: &str, init: &[&str], containers: &[&str]) -> Pod {
    let mut pod = pod(policy, containers);
    if let Some(spec) = pod.spec.as_mut() {
        spec.init_containers = Some(init.iter().map(|name| container(name)).collect());
    }
    pod
}

/// A container spec.
pub fn container(name: &str) -> Spec {
    Spec { name: name.into(), image: Some("image".into()), ..Default::default() }
}

/// Nothing seen of the pod.
pub fn nothing() -> ObservedPod {
    ObservedPod::empty(PodRef { namespace: "default".into(), name: "web".into(), uid: "u1".into() })
}

/// A ready sandbox `s<attempt>`.
pub fn sandbox(attempt: u32) -> Sandbox {
    Sandbox {
        id: format!("s{attempt}").into(),
        attempt,
        created_at: i64::from(attempt) * S,
        ready: true,
        ips: vec!["10.0.0.1".parse().expect("an address")],
        host_network: false,
    }
}

/// The n-th instance `<name>-<n>` of a container, in sandbox `s0`.
pub fn record(name: &str, n: u32, phase: ContainerPhase) -> Container {
    Container {
        id: format!("{name}-{n}").into(),
        sandbox: "s0".into(),
        name: name.into(),
        restart_count: n,
        hash: container_hash(&container(name)),
        phase,
        created_at: S,
        started_at: 2 * S,
        finished_at: if phase == ContainerPhase::Exited { 3 * S } else { 0 },
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        termination_message: String::new(),
        image: "image".into(),
        image_id: "sha256:1".into(),
        log_path: format!("/logs/{name}/{n}.log"),
        hook: None,
        limits: None,
        user: None,
        recursive_read_only: vec![],
    }
}

/// An ended instance with this exit code.
pub fn exited(name: &str, n: u32, code: i32) -> Container {
    let reason = if code == 0 { "Completed" } else { "Error" };
    Container { exit_code: code, reason: reason.into(), ..record(name, n, ContainerPhase::Exited) }
}

/// A running instance.
pub fn running(name: &str, n: u32) -> Container {
    record(name, n, ContainerPhase::Running)
}

/// What is seen: sandboxes and containers, newest first.
pub fn seen(sandboxes: Vec<Sandbox>, containers: Vec<Container>) -> ObservedPod {
    ObservedPod { sandboxes, containers, ..nothing() }
}
