//! The pod's phase (upstream: `kubelet_pods.go`, `getPhase`).

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::containers::RESTARTING_ALL;
use crate::pods::restarts::restarts;
use crate::pods::spec;

/// What a container's status says, reduced to what the phase depends on.
enum Seen {
    Running {
        started: bool,
    },
    /// `anew`: it was removed to begin anew with all others.
    Ended {
        exit_code: i32,
        anew: bool,
    },
    NeverRan,
    Missing,
}

fn see(statuses: &[ContainerStatus], name: &str) -> Seen {
    let Some(status) = statuses.iter().find(|s| s.name == name) else { return Seen::Missing };
    let ended = |t: &ContainerStateTerminated| Seen::Ended { exit_code: t.exit_code, anew: t.reason.as_deref() == Some(RESTARTING_ALL) };
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
    let (mut initializing, mut sidecar_missing, mut init_failed) = (false, false, false);
    for c in spec::init_containers(pod) {
        match see(init, &c.name) {
            Seen::Ended { .. } | Seen::Running { started: true } if spec::is_sidecar(c) => {}
            _ if spec::is_sidecar(c) => sidecar_missing = true,
            Seen::Ended { exit_code: 0, .. } => {}
            Seen::Ended { exit_code, anew } => init_failed |= !anew && !restarts(pod, c, exit_code),
            Seen::Running { .. } | Seen::NeverRan | Seen::Missing => initializing = true,
        }
    }
    let (mut running, mut waiting, mut failed, mut succeeded, mut restarting) = (0, 0, 0, 0, 0);
    for c in spec::containers(pod) {
        match see(regular, &c.name) {
            Seen::Running { .. } => running += 1,
            Seen::Ended { exit_code, anew } => {
                if anew || restarts(pod, c, exit_code) {
                    restarting += 1;
                }
                if exit_code == 0 {
                    succeeded += 1;
                } else {
                    failed += 1;
                }
            }
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
    match () {
        () if running > 0 => "Running",
        () if restarting > 0 && !stopped_for_good => "Running",
        () if failed > 0 => "Failed",
        () => "Succeeded",
    }
}
