//! Pod → what the runtime is asked to make. Pure: everything that is read from a disk or a server comes in as a value.
//!
//! In: pods, the node's settings, the pod's volumes and addresses, ConfigMaps and Secrets that its environment names. Out:
//! `PodSandboxConfig` and `ContainerConfig`, or an error that says which field can't be followed. Owns nothing.
//!
//! Rules from pkg/kubelet/kuberuntime of Kubernetes; configs are the same for the same pod, so a second call after a restart of the
//! agent describes the sandbox that runs.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::node::NodeFacts;
use crate::network::dns::ClusterDns;
use crate::network::hostname::HostnameError;

mod container;
pub mod env;
pub mod expansion;
mod links;
mod mounts;
mod profiles;
mod resources;
mod sandbox;
mod security;

pub use container::{ContainerInput, container_config};
pub use mounts::{mounts_hosts_file, sub_path, wants_recursive_read_only};
pub use profiles::APPARMOR_ANNOTATION;
pub use sandbox::{SandboxInput, sandbox_config};

use super::host::HostTraits;

/// What a container of a pod may use, as the runtime is told it when it is made and when that changes.
pub fn container_resources(
    pod: &k8s_openapi::api::core::v1::Pod,
    container: &k8s_openapi::api::core::v1::Container,
    settings: &TranslateSettings,
) -> proto::cri::LinuxContainerResources {
    resources::container(pod, container, settings)
}

/// What the sandbox costs, and what all containers use together.
pub fn sandbox_resources(
    pod: &k8s_openapi::api::core::v1::Pod,
    settings: &TranslateSettings,
) -> (proto::cri::LinuxContainerResources, proto::cri::LinuxContainerResources) {
    (resources::overhead(pod, settings), resources::sandbox(pod, settings))
}

/// The node's settings that pods are translated with. They don't change while the agent runs.
#[derive(Debug, Clone, PartialEq)]
pub struct TranslateSettings {
    /// podLogsDir.
    pub pod_logs_dir: PathBuf,
    /// rootDir.
    pub root_dir: PathBuf,
    /// clusterDNS and clusterDomain.
    pub cluster_dns: ClusterDns,
    /// cpuCFSQuota: whether CPU limits are enforced.
    pub cpu_cfs_quota: bool,
    /// cpuCFSQuotaPeriod.
    pub cpu_cfs_quota_period: Duration,
    /// seccompDefault: what containers get that ask for no profile: RuntimeDefault, or else Unconfined.
    pub seccomp_default: bool,
    /// singleProcessOOMKill: whether the kernel kills one process of a container that is out of memory, or all of them.
    pub single_process_oom_kill: bool,
    /// What was read from the host's /sys at start.
    pub host: HostTraits,
    /// Facts about the node.
    pub facts: NodeFacts,
}

/// Why a pod can't be translated. Upstream shows these as `CreateContainerConfigError`, or as event `FailedCreatePodSandBox`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// No host name.
    #[error(transparent)]
    Hostname(#[from] HostnameError),
    /// The agent can't do this yet.
    #[error("{field} is not supported yet by this node; remove it from the pod, or run the pod on another node")]
    Unsupported {
        /// The field of the pod's spec, with its value where that matters.
        field: &'static str,
    },
    /// A field holds what it must not hold.
    #[error("{field} {value:?} is not valid: {expected}")]
    Invalid {
        /// The field of the pod's spec.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A volumeMount names a volume that is not there.
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    MissingVolume {
        /// The volume's name.
        volume: String,
        /// The container.
        container: String,
    },
    /// A mount that was to be read-only with everything below it.
    #[error("failed to resolve recursive read-only mode: {0}")]
    RecursiveReadOnly(String),
    /// A part of a volume that can't be had. The words are upstream's.
    #[error("{0}")]
    SubPath(String),
    /// runAsNonRoot forbids what would run.
    #[error("{0}")]
    Root(String),
}

#[cfg(test)]
pub(crate) mod tests;
