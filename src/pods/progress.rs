//! What an action reports while it runs. The worker owns the state; actions only tell.

use std::time::Duration;

use super::memory::Subject;
use super::plan::Start;
use crate::model::{ContainerId, SandboxId};
use crate::runtime::{Container, Image, Sandbox};
use crate::volumes::PodVolumes;

/// One report.
#[derive(Debug)]
pub enum Progress {
    /// The volumes are set up.
    Volumes(PodVolumes),
    /// A sandbox is there.
    Sandbox(Sandbox),
    /// A sandbox has stopped.
    SandboxStopped(SandboxId),
    /// A sandbox and all in it is gone from the runtime.
    SandboxRemoved(SandboxId),
    /// An image is there for the container of this name.
    Image(String, Image),
    /// A container was started, or failed to start in a way that left a record.
    Started(Start, Container),
    /// A running container has the limits that are allocated to it.
    Limited(ContainerId),
    /// All of a changed allocation is in force.
    Resized,
    /// The hook before a container's end begins.
    PreStopping(ContainerId),
    /// A container has stopped.
    Stopped(Container),
    /// A container's record is gone from the runtime.
    ContainerRemoved(ContainerId),
    /// Volumes are unmounted and the cgroup is removed.
    Released,
    /// A try failed.
    Failed {
        /// What.
        subject: Subject,
        /// Reason as the API shows it.
        reason: String,
        /// For people.
        message: String,
        /// First and longest wait before the next try.
        retry: (Duration, Duration),
    },
    /// A try succeeded that may have failed before.
    Succeeded(Subject),
    /// A call failed in a way that leaves open what happened: look at the runtime.
    Uncertain,
}
