//! What to do next about one pod: a pure function of what is wanted, what is seen and what is remembered.
//!
//! Actions of one plan may run at the same time, except that a [`Action::StartContainers`] keeps its order. After they are
//! done, the worker looks at the result and plans again, until a plan holds no action.

pub mod anew;
mod leftovers;
#[cfg(test)]
mod model;
mod order;
mod sync;
mod terminate;
#[cfg(test)]
mod tests;
mod why;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodStatus};

use super::memory::Memory;
use super::probes::{Before, Verdict, Verdicts};
use super::resize::{Due, Resize};
use super::stage::{End, Stage};
use crate::model::{ContainerId, SandboxId};
use crate::runtime::{Container, ContainerPhase, ObservedPod};

pub use sync::{finished, will_restart};
pub use terminate::{is_alive, is_down};
pub use why::Why;

/// All that a decision may depend on.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The wanted pod. `None` for a pod that only the runtime knows.
    pub pod: Option<&'a Pod>,
    /// Its last known status.
    pub status: &'a PodStatus,
    /// The worker's stage.
    pub stage: Stage,
    /// What the runtime knows of the pod.
    pub observed: &'a ObservedPod,
    /// How far the volumes are.
    pub volumes: VolumeState,
    /// What probes say.
    pub verdicts: &'a Verdicts,
    /// The node has ended the pod, and why.
    pub end: Option<&'a End>,
    /// What the pod may use, and what of that is new.
    pub resize: &'a Resize,
    /// Failures and crash loops.
    pub memory: &'a Memory,
    /// Nanoseconds since the epoch.
    pub now: i64,
}

impl View<'_> {
    /// What is to be believed of a running instance.
    pub fn verdict(&self, spec: &Spec, record: &Container) -> Verdict {
        let known = super::spec::container_status(self.status, &record.name);
        let same =
            known.filter(|s| s.container_id.as_deref().and_then(|id| id.split_once("://")).is_some_and(|(_, id)| id == record.id.as_str()));
        let before = same.map(|s| Before { started: s.started.unwrap_or(false), ready: s.ready }).unwrap_or_default();
        self.verdicts.of(&record.id).verdict(spec, before, self.stage.cause().is_some())
    }
}

/// How far a pod's volumes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// Not set up since the agent began.
    Missing,
    /// Set up, and due for a refresh.
    Stale,
    /// Set up, and up to date as far as is known.
    Ready,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Set up the volumes, or bring them up to date.
    SetUpVolumes,
    /// Make the cgroup, then the sandbox.
    RunSandbox {
        /// Attempt number for its metadata.
        attempt: u32,
    },
    /// Have images ready for the time when the sandbox is.
    PrepareImages {
        /// Containers.
        names: Vec<String>,
        /// The sandbox's attempt number.
        attempt: u32,
    },
    /// Start these containers, one after the other.
    StartContainers(Vec<Start>),
    /// Stop a container.
    StopContainer {
        /// Which.
        id: ContainerId,
        /// Its name, for the event.
        name: String,
        /// The hook before the end and TERM, then KILL after this, but not sooner after TERM than a moment.
        grace: Duration,
        /// For the Killing event.
        why: Why,
        /// Instances that end before TERM is sent, as far as the grace period allows.
        after: Vec<ContainerId>,
        /// The hook before the end is run, if there is one: it has not been before.
        hook: bool,
    },
    /// Give the pod's cgroup and these running containers the limits that are allocated.
    Resize(Vec<Due>),
    /// Remove containers, one after the other, so that all of them begin anew. Their logs stay.
    ResetContainers(Vec<Reset>),
    /// Remove a dead container that nobody needs any more, with its log.
    RemoveContainer(ContainerId),
    /// Stop a sandbox.
    StopSandbox(SandboxId),
    /// Unmount the volumes: no container uses them any more.
    Unmount,
    /// Remove an old sandbox and all that is in it.
    RemoveSandbox(SandboxId),
    /// Unmount the volumes and remove the cgroup.
    Release,
}

impl Action {
    /// Stops an instance.
    fn stop(view: &View, record: &Container, grace: Duration, why: Why) -> Self {
        let hook = record.phase == ContainerPhase::Running && !view.memory.pre_stopped.contains(&record.id);
        Self::StopContainer { id: record.id.clone(), name: record.name.to_string(), grace, why, after: vec![], hook }
    }
}

/// An instance that goes so that all containers begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Which.
    pub id: ContainerId,
    /// Its name, for the event.
    pub name: String,
    /// It runs, and is stopped first.
    pub stop: bool,
}

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Name in the pod spec.
    pub name: String,
    /// Which instance this is: 0 for the first.
    pub restart_count: u32,
    /// When the instance before it ended, nanoseconds since the epoch; `None` for the first.
    pub previous_exit: Option<i64>,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub actions: Vec<Action>,
    /// Earliest time at which waiting ends, nanoseconds since the epoch.
    pub wake_at: Option<i64>,
}

impl Plan {
    fn wait(&mut self, at: i64) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}

/// Decides.
pub fn plan(view: &View) -> Plan {
    match (view.stage, view.pod) {
        (Stage::Syncing, Some(pod)) => sync::plan(view, pod),
        (Stage::Syncing, None) | (Stage::Finished, _) => Plan::default(),
        (Stage::Terminating { grace, .. }, _) => terminate::stop(view, grace),
        (Stage::Terminated { cause, released }, _) => terminate::release(view, cause, released),
    }
}
