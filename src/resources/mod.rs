//! Cgroups of the node, the QoS classes and pods.
//!
//! In: pods. Out: the `cgroup_parent` of each sandbox. Owns: the tree below `<cgroupRoot>/kubepods`. Survives a restart: the tree.
//!
//! `names.rs` says where a cgroup is, `plan.rs` which values it gets (both pure), `fs.rs` writes to the kernel's file systems, `act.rs`
//! puts the three together.

mod act;
mod detect;
pub mod fake;
mod fs;
mod names;
mod plan;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

use crate::model::PodUid;
pub use act::Cgroups;
pub use detect::{CgroupVersion, detect};

/// Why a cgroup could not be made or removed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cgroup {cgroup}: {message}")]
pub struct CgroupError {
    /// Path of the cgroup below the hierarchy's root.
    pub cgroup: String,
    /// What went wrong and what to do.
    pub message: String,
}

/// A pod's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodMemory {
    /// What its processes use, and what the kernel keeps for them.
    pub in_use: u64,
    /// The limit of its cgroup.
    pub limit: Option<u64>,
    /// The limit that its cgroup is to have.
    pub wanted: Option<u64>,
}

/// What the processes of a cgroup use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory, without file pages that nothing has touched for a while.
    pub working_set: u64,
    /// Bytes of memory that they may use at most.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
}

/// What the other rooms ask of this one.
#[async_trait]
pub trait PodCgroups: Send + Sync + 'static {
    /// Makes the pod's cgroup, or brings its limits up to date, and says what to put into `cgroup_parent` of its sandbox
    /// (a path for cgroupfs, a slice name for systemd).
    async fn set_up(&self, pod: &Pod) -> Result<String, CgroupError>;
    /// What the pod's memory is now, and what its limit will be with the next [`Self::set_up`]; `None` where the kernel does not tell.
    async fn memory(&self, _pod: &Pod) -> Option<PodMemory> {
        None
    }
    /// What a pod uses, or all pods together; `None` where the kernel does not tell.
    async fn usage(&self, _pod: Option<&Pod>) -> Option<Usage> {
        None
    }
    /// Removes the pod's cgroup, in whichever QoS class it is. Processes still in it are killed first.
    async fn tear_down(&self, uid: &PodUid) -> Result<(), CgroupError>;
    /// UIDs of all pods that have a cgroup.
    async fn pods_on_disk(&self) -> Result<Vec<PodUid>, CgroupError>;
}
