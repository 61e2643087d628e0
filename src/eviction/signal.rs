//! What may run short on a node (`pkg/kubelet/eviction/api/types.go`).

use crate::node::Pressure;

/// A resource of the node that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `memory.available`: of the whole machine.
    Memory,
    /// `allocatableMemory.available`: of what all pods together may use. Nobody sets it: it follows the hard threshold for memory.
    AllocatableMemory,
    /// `nodefs.available`: bytes on the file system of the root directory.
    NodeFs,
    /// `nodefs.inodesFree`.
    NodeFsInodes,
    /// `imagefs.available`: bytes on the file system of the runtime's images.
    ImageFs,
    /// `imagefs.inodesFree`.
    ImageFsInodes,
    /// `pid.available`: process ids.
    Pid,
}

/// What evicting a pod gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of memory.
    Memory,
    /// Bytes on disk.
    Storage,
    /// Inodes.
    Inodes,
    /// Process ids.
    Pids,
}

impl Signal {
    /// The signal of a key of `evictionHard`. `None` for those that nobody sets: what is written for `containerfs` counts for nothing, as
    /// it always follows another file system (upstream: `UpdateContainerFsThresholds`).
    pub fn parse(key: &str) -> Option<Self> {
        let all = [Self::Memory, Self::NodeFs, Self::NodeFsInodes, Self::ImageFs, Self::ImageFsInodes, Self::Pid];
        all.into_iter().find(|signal| signal.as_str() == key)
    }

    /// Its name in configurations and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::AllocatableMemory => "allocatableMemory.available",
            Self::NodeFs => "nodefs.available",
            Self::NodeFsInodes => "nodefs.inodesFree",
            Self::ImageFs => "imagefs.available",
            Self::ImageFsInodes => "imagefs.inodesFree",
            Self::Pid => "pid.available",
        }
    }

    /// The condition that it leads to.
    pub fn pressure(self) -> Pressure {
        match self {
            Self::Memory | Self::AllocatableMemory => Pressure::Memory,
            Self::NodeFs | Self::NodeFsInodes | Self::ImageFs | Self::ImageFsInodes => Pressure::Disk,
            Self::Pid => Pressure::Pid,
        }
    }

    /// What is scarce.
    pub fn resource(self) -> Resource {
        match self {
            Self::Memory | Self::AllocatableMemory => Resource::Memory,
            Self::NodeFs | Self::ImageFs => Resource::Storage,
            Self::NodeFsInodes | Self::ImageFsInodes => Resource::Inodes,
            Self::Pid => Resource::Pids,
        }
    }
}

impl Resource {
    /// Its name in messages and events, and in requests where pods can ask for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Storage => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }
}
