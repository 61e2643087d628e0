//! What a pod takes of the node.

use std::collections::BTreeMap;

pub use crate::sys::disk::Held;

/// What one container takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// The container's name in the spec.
    pub name: String,
    /// Bytes of memory that it works with: without files that it could read again.
    pub memory: i64,
    /// What it has written outside of volumes.
    pub writable: Held,
    /// Its log, rotated parts included.
    pub logs: Held,
}

/// What a pod takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Bytes of memory that all its processes work with.
    pub memory: i64,
    /// Processes and threads.
    pub pids: i64,
    /// By container.
    pub containers: Vec<ContainerUsage>,
    /// Its emptyDirs on disk, by name.
    pub volumes: BTreeMap<String, Held>,
}

/// Where a pod's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What containers have written outside of volumes.
    Writable,
    /// Logs.
    Logs,
    /// emptyDirs.
    Volumes,
}

/// As what is counted with: amounts may be subtracted from each other.
pub fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl PodUsage {
    /// What it holds in these places.
    pub fn held(&self, parts: &[Part]) -> Held {
        let one = |part: &Part| match part {
            Part::Writable => self.containers.iter().map(|c| c.writable).sum(),
            Part::Logs => self.containers.iter().map(|c| c.logs).sum(),
            Part::Volumes => self.volumes.values().copied().sum::<Held>(),
        };
        parts.iter().map(one).sum()
    }
}
