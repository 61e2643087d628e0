//! Volumes of pods: set up before containers start, kept up to date, torn down when the pod is gone.
//!
//! In: pods. Out: [`PodVolumes`], the host path of each volume. Owns: `<root>/pods/<uid>/volumes` and the mounts below it, tokens,
//! and copies of ConfigMaps and Secrets. Survives a restart: directories, mounts and the tokens in them; setting up again finds
//! them in place and changes nothing.
//!
//! The way of one volume: `kind` tells what it is. `host_path` and `empty_dir` act at once. All others are made of files: `projected`
//! names their parts, `objects` and `token` fetch them, `payload` puts them together, `atomic` writes what differs. `sub_path` gives a
//! container one part of a volume.

mod atomic;
mod authorizer;
mod config_map;
mod context;
mod downward_api;
mod empty_dir;
pub mod env_file;
mod fs_group;
mod host_path;
mod kind;
mod layout;
pub mod manager;
pub mod mounts;
mod nested;
pub mod objects;
mod payload;
mod problem;
mod projected;
mod remove;
mod secret;
mod sub_path;
mod teardown;
mod token;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::model::PodUid;
use crate::sys::disk::Held;

/// Why one volume of a pod could not be set up or torn down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("volume {volume:?}: {message}")]
pub struct VolumeError {
    /// The volume's name in the pod spec, or its directory where the spec is gone.
    pub volume: String,
    /// What went wrong, for people.
    pub message: String,
}

/// Where a volume is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedVolume {
    /// Path to bind into containers.
    pub host_path: PathBuf,
    /// The volume can't be written to, whatever the mount says (ConfigMaps, Secrets, tokens).
    pub read_only: bool,
}

/// A container's mount of a part of a volume.
#[derive(Debug, Clone, Copy)]
pub struct SubPathMount<'a> {
    /// The container.
    pub container: &'a str,
    /// Which of its mounts, from 0 on.
    pub index: usize,
    /// The volume.
    pub volume: &'a str,
    /// Where that is.
    pub root: &'a Path,
    /// Which part of it: relative, without `..`.
    pub path: &'a str,
}

/// The volumes of one pod by name.
pub type PodVolumes = BTreeMap<String, MountedVolume>;

/// What the pod workers ask of this room.
#[async_trait]
pub trait Volumes: Send + Sync + 'static {
    /// Sets up every volume of the pod, and brings projected contents up to date. May be called any number of times: again when
    /// [`Self::next_refresh`] says so, and when the pod's labels or annotations change. One call at a time for one pod.
    async fn set_up(&self, pod: &Pod) -> Result<PodVolumes, Vec<VolumeError>>;
    /// Makes a part of a volume that is set up ready for mount number `index` of a container, and says where it is on the host. `path` is below
    /// the volume; what is missing of it becomes directories. May be called any number of times; [`Self::tear_down`] undoes it.
    async fn sub_path(&self, uid: &PodUid, mount: SubPathMount<'_>) -> Result<PathBuf, VolumeError>;
    /// Unmounts the pod's volumes and removes its directory `<root>/pods/<uid>`. May be called any number of times.
    async fn tear_down(&self, uid: &PodUid) -> Result<(), Vec<VolumeError>>;
    /// UIDs of all pods that have a directory.
    async fn pods_on_disk(&self) -> std::io::Result<Vec<PodUid>>;
    /// What the pod's emptyDirs on disk hold, by name. What can't be counted in time is left out.
    async fn usage(&self, _pod: &Pod) -> BTreeMap<String, Held> {
        BTreeMap::new()
    }
    /// When the contents of the pod's volumes may be out of date; `None` for pods that hold nothing which changes. Now, for pods that are
    /// not set up.
    fn next_refresh(&self, _uid: &PodUid) -> Option<Instant> {
        None
    }
}
