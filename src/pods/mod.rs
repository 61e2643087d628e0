//! Pods: sources, desired set, one worker a pod, its plan (pure), its acts, its status.
//!
//! In: pods from the API server, hints from the runtime. Out: calls to `runtime`, `volumes`, `resources`; statuses and events to
//! `api`. Owns: one worker task a pod UID. Survives a restart: nothing here; the runtime, the disk and the API server are the memory.

mod act;
pub mod admission;
mod backoff;
pub mod context;
pub mod directory;
#[cfg(test)]
pub mod fixture;
pub mod heartbeat;
mod http_get;
pub mod images;
mod log_files;
mod mailbox;
pub mod manager;
mod memory;
pub mod mirrors;
pub mod orders;
pub mod plan;
pub mod pleg;
pub mod probes;
mod progress;
mod resize;
mod restarts;
pub mod sources;
pub mod spec;
pub mod stage;
pub mod status;
pub mod turns;
mod worker;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::model::{ContainerId, PodUid, SandboxId};

/// A container that a log or stream request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerTarget {
    /// Runtime's id.
    pub id: ContainerId,
    /// Its log file on the host.
    pub log_path: String,
    /// Whether it runs right now.
    pub running: bool,
}

/// Read access to what the workers know, for the server.
pub trait PodLookup: Send + Sync + 'static {
    /// All pods of this node with their latest statuses.
    fn all(&self) -> Vec<Arc<Pod>>;
    /// One pod with its latest status.
    fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    /// The newest instance of a container, or with `previous` the one before it.
    fn container(&self, uid: &PodUid, name: &str, previous: bool) -> Option<ContainerTarget>;
    /// The pod's ready sandbox.
    fn sandbox(&self, uid: &PodUid) -> Option<SandboxId>;
}
