//! Probes: whether containers are started, ready and alive (upstream: `pkg/kubelet/prober`).
//!
//! In: what runs, from the pod's worker ([`Scene`]). Out: results, as letters to it, and events. Owns: for each pod with probes one
//! task with all its timers; no probe has a thread or a process of the agent. Survives a restart: the last status in the API, which
//! holds until a probe says something else.

mod attempt;
mod grpc;
mod prober;
mod schedule;
mod verdict;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, Probe};

use super::spec;

pub use prober::{Handle, Scene, Target};
pub use verdict::{Before, Deadly, Results, Verdict, Verdicts};

/// Which question a probe answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// startupProbe: whether the others may begin.
    Startup,
    /// livenessProbe: whether the container may go on.
    Liveness,
    /// readinessProbe: whether it gets traffic.
    Readiness,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// A container's probe of this kind.
    pub fn of(self, spec: &Spec) -> Option<&Probe> {
        match self {
            Self::Startup => spec.startup_probe.as_ref(),
            Self::Liveness => spec.liveness_probe.as_ref(),
            Self::Readiness => spec.readiness_probe.as_ref(),
        }
    }

    /// As events begin.
    fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// The containers of a pod that are probed: init containers only if they are sidecars.
pub fn probed(pod: &Pod) -> impl Iterator<Item = &Spec> {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    sidecars.chain(spec::containers(pod)).filter(|c| Kind::ALL.iter().any(|kind| kind.of(c).is_some()))
}
