//! Why a container is stopped: what its Killing event says, and whether another instance follows.

use k8s_openapi::api::core::v1::Pod;

use crate::pods::probes::Deadly;
use crate::pods::spec;

/// A reason to stop a container (upstream: `kuberuntime_manager.go`, `computePodActions`, and `kuberuntime_container.go`, `killContainer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The pod goes down.
    Stopping,
    /// The container lives outside the pod's current sandbox.
    SandboxChanged,
    /// The runtime does not know the container's state.
    UnknownState,
    /// The object has another definition of the container than this instance was made from.
    DefinitionChanged,
    /// A probe has failed too often.
    FailedProbe {
        /// Which one.
        probe: Deadly,
        /// Another instance follows.
        restarts: bool,
    },
    /// The hook after its start has failed.
    FailedPostStart,
    /// Its resources have changed, and its policy for that is to restart.
    Resized,
    /// All containers of the pod begin anew.
    BeginAnew,
    /// There is a newer instance of the container.
    NewerInstance,
}

impl Why {
    /// The message of the Killing event about a container of a pod.
    pub fn message(self, pod: Option<&Pod>, name: &str) -> String {
        let kind = match pod.is_some_and(|pod| spec::init_containers(pod).iter().any(|c| c.name == name)) {
            true => "Init container",
            false => "Container",
        };
        match self {
            Self::Stopping => format!("Stopping container {name}"),
            Self::SandboxChanged => "Pod sandbox changed, it will be killed and re-created.".to_owned(),
            Self::UnknownState => format!("{kind} is in \"unknown\" state, try killing it before restart"),
            Self::DefinitionChanged => format!("{kind} {name} definition changed, will be restarted"),
            Self::FailedProbe { probe, restarts } => {
                let probe = match probe {
                    Deadly::Liveness => "liveness",
                    Deadly::Startup => "startup",
                };
                format!("{kind} {name} failed {probe} probe{}", if restarts { ", will be restarted" } else { "" })
            }
            Self::FailedPostStart => "FailedPostStartHook".to_owned(),
            Self::Resized => format!("{kind} {name} resize requires restart"),
            Self::BeginAnew => "killing".to_owned(),
            Self::NewerInstance => format!("{kind} {name} has a newer instance"),
        }
    }

    /// Whether another instance follows, whatever the restart policy says about the end of this one; `None` where that is asked.
    pub fn is_replaced(self) -> Option<bool> {
        match self {
            Self::DefinitionChanged | Self::Resized => Some(true),
            Self::FailedProbe { restarts, .. } => Some(restarts),
            Self::Stopping | Self::SandboxChanged | Self::UnknownState | Self::FailedPostStart | Self::BeginAnew | Self::NewerInstance => {
                None
            }
        }
    }
}
