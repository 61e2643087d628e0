//! The pod's phase (upstream: `kubelet_pods.go`, `getPhase`).

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use crate::pods::spec::{self, RestartPolicy};

/// What a container's status says, reduced to what the phase depends on.
enum Seen {
    Running { started: bool },
    Ended { exit_code: i32 },
    NeverRan,
    Missing,
}

fn see(statuses: &[ContainerStatus], name: &str) -> Seen {
    let Some(status) = statuses.iter().find(|s| s.name == name) else { return Seen::Missing };
    let ended = |t: &ContainerStateTerminated| Seen::Ended { exit_code: t.exit_code };
    let state = status.state.as_ref();
    if state.is_some_and(|s| s.running.is_some()) {
        return Seen::Running { started: status.started.unwrap_or(false) };
    }
    if let Some(t) = state.and_then(|s| s.terminated.as_ref()) {
        return ended(t);
    }
    status.last_state.as_ref().and_then(|s| s.terminated.as_ref()).map_or(Seen::NeverRan, ended)
}

/// The phase. `stopped_for_good` says that the worker has seen all containers stop and will start none again.
pub fn phase(pod: &Pod, init: &[ContainerStatus], regular: &[ContainerStatus], stopped_for_good: bool) -> &'static str {
    let policy = spec::restart_policy(pod);
    let (mut initializing, mut sidecar_missing, mut init_failed) = (false, false, false);
    for c in spec::init_containers(pod) {
        match see(init, &c.name) {
            Seen::Ended { .. } | Seen::Running { started: true } if spec::is_sidecar(c) => {}
            _ if spec::is_sidecar(c) => sidecar_missing = true,
            Seen::Ended { exit_code: 0 } => {}
            Seen::Ended { .. } => init_failed |= policy == RestartPolicy::Never,
            Seen::Running { .. } | Seen::NeverRan | Seen::Missing => initializing = true,
        }
    }
    let (mut running, mut waiting, mut failed, mut succeeded) = (0, 0, 0, 0);
    for c in spec::containers(pod) {
        match see(regular, &c.name) {
            Seen::Running { .. } => running += 1,
            Seen::Ended { exit_code: 0 } => succeeded += 1,
            Seen::Ended { .. } => failed += 1,
            Seen::NeverRan | Seen::Missing => waiting += 1,
        }
    }
    if init_failed {
        return "Failed";
    }
    let begun = running + failed + succeeded > 0;
    // Init containers that run again, in a new sandbox, make the pod Pending again; sidecars that do, don't.
    if initializing || (sidecar_missing && !begun) || waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    match policy {
        _ if stopped_for_good && failed > 0 => "Failed",
        _ if stopped_for_good => "Succeeded",
        RestartPolicy::Always => "Running",
        _ if failed == 0 => "Succeeded",
        RestartPolicy::Never => "Failed",
        RestartPolicy::OnFailure => "Running",
    }
}
