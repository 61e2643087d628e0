//! The typed configuration: what other rooms read. Units are part of the type or said in the comment.
//!
//! Names are upstream's (k8s.io/kubelet/config/v1beta1 `KubeletConfiguration`) in snake case. Fields that no room reads yet are
//! not here; they are checked and shown all the same (`schema.rs`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Deserializer};

use super::threshold::{Reserved, Threshold};
use super::{duration, threshold};
use crate::runtime::CgroupDriver;

/// The agent's own settings, complete and checked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "upstream's shape")]
pub struct KubeletConfiguration {
    /// Whether the HTTPS server runs at all.
    pub enable_server: bool,
    /// Address that the HTTPS server listens on.
    pub address: IpAddr,
    /// Port of the HTTPS server.
    pub port: u16,
    /// Port of the server without authentication; 0 is off.
    pub read_only_port: u16,
    /// Port of the health endpoint; 0 is off.
    pub healthz_port: u16,
    /// Address that the health endpoint listens on.
    pub healthz_bind_address: IpAddr,
    /// Who may talk to the server.
    pub authentication: Authentication,
    /// What they may do.
    pub authorization: Authorization,
    /// Serving certificate (PEM), or empty: a self-signed one in the certificate directory.
    pub tls_cert_file: PathBuf,
    /// Its key.
    pub tls_private_key_file: PathBuf,
    /// Oldest TLS version that the server accepts.
    pub tls_min_version: TlsVersion,
    /// Cipher suites of TLS 1.2 by IANA name; empty for the defaults.
    #[serde(default)]
    pub tls_cipher_suites: Vec<String>,
    /// Renew the client certificate before it expires.
    pub rotate_certificates: bool,
    /// Ask the API server for a serving certificate.
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    /// Exec, attach, port-forward and log endpoints.
    pub enable_debugging_handlers: bool,
    /// Whether `/logs/` shows the host's log directory.
    pub enable_system_log_handler: bool,
    /// A stream without traffic is closed after this time.
    #[serde(deserialize_with = "duration::deserialize")]
    pub streaming_connection_idle_timeout: Duration,

    /// How often each pod is looked at without a reason.
    #[serde(deserialize_with = "duration::deserialize")]
    pub sync_frequency: Duration,
    /// Directory (or file) of static pods, or empty.
    pub static_pod_path: PathBuf,
    /// How often it is looked at, whatever the kernel tells of changes.
    #[serde(deserialize_with = "duration::deserialize")]
    pub file_check_frequency: Duration,
    /// Where static pods are asked for, or empty.
    #[serde(rename = "staticPodURL", default)]
    pub static_pod_url: String,
    /// What is sent along.
    #[serde(rename = "staticPodURLHeader", default)]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    /// How often it is asked.
    #[serde(deserialize_with = "duration::deserialize")]
    pub http_check_frequency: Duration,
    /// Root of the container logs.
    pub pod_logs_dir: PathBuf,

    /// Image pulls per second; 0 is without limit.
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: u32,
    /// Image pulls that may start at once when none started before.
    pub registry_burst: u32,
    /// One image pull at a time.
    pub serialize_image_pulls: bool,
    /// Most pulls at the same time; `None` is without limit (when pulls are not serialized).
    #[serde(default)]
    pub max_parallel_image_pulls: Option<u32>,
    /// Whether the chains that tell other programs about iptables on this host are kept.
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    /// Events per second; 0 is without limit.
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: u32,
    /// Events that may be sent at once.
    pub event_burst: u32,

    /// Domain of the cluster, such as `cluster.local`, or empty.
    pub cluster_domain: String,
    /// Addresses of the cluster's DNS servers.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<IpAddr>,
    /// The host's resolver configuration that pods inherit; empty is none.
    pub resolv_conf: PathBuf,

    /// How often the node's status is computed.
    #[serde(deserialize_with = "duration::deserialize")]
    pub node_status_update_frequency: Duration,
    /// How often it is posted when nothing has changed.
    #[serde(deserialize_with = "duration::deserialize")]
    pub node_status_report_frequency: Duration,
    /// `leaseDurationSeconds` of the node's Lease.
    pub node_lease_duration_seconds: u32,
    /// Most images named in the node's status; −1 is all.
    pub node_status_max_images: i32,
    /// Register the Node object.
    pub register_node: bool,
    /// A controller, and not the agent, attaches volumes to this node.
    pub enable_controller_attach_detach: bool,
    /// Taints of a newly registered Node.
    pub register_with_taints: Vec<Taint>,
    /// `spec.providerID` of the Node, or empty.
    #[serde(rename = "providerID")]
    pub provider_id: String,

    /// Cgroup below which pods live; empty is the hierarchy's root.
    pub cgroup_root: String,
    /// Make QoS and pod cgroups.
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    /// Who manages cgroups, unless the runtime says otherwise.
    #[serde(deserialize_with = "cgroup_driver")]
    pub cgroup_driver: CgroupDriver,
    /// Refuse to start on a host with cgroup v1.
    pub fail_cgroup_v1: bool,
    /// Refuse to start on a host with swap.
    pub fail_swap_on: bool,
    /// Use of swap by pods.
    pub memory_swap: MemorySwap,
    /// Limit CPU time of containers with a CPU limit.
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    /// The period of that limit.
    #[serde(rename = "cpuCFSQuotaPeriod", deserialize_with = "duration::deserialize")]
    pub cpu_cfs_quota_period: Duration,
    /// Most pods on this node.
    pub max_pods: u32,
    /// Most pods per CPU; 0 is without limit.
    pub pods_per_core: u32,
    /// Most processes of one pod; −1 is without limit of its own.
    pub pod_pids_limit: i64,
    /// When only one process of a container is killed when memory runs out; `None` follows the cgroup version.
    #[serde(default, rename = "singleProcessOOMKill")]
    pub single_process_oom_kill: Option<bool>,
    /// Kept back for the system.
    #[serde(deserialize_with = "threshold::deserialize_reserved")]
    pub system_reserved: Reserved,
    /// Kept back for the agent and the runtime.
    #[serde(deserialize_with = "threshold::deserialize_reserved")]
    pub kube_reserved: Reserved,
    /// Cgroup that the system's limits are set on, or empty.
    pub system_reserved_cgroup: String,
    /// Cgroup that the agent's and the runtime's limits are set on, or empty.
    pub kube_reserved_cgroup: String,
    /// Which limits are set.
    pub enforce_node_allocatable: Vec<Enforcement>,
    /// Hard eviction thresholds by signal; signals that are switched off are left out.
    #[serde(deserialize_with = "threshold::deserialize_thresholds")]
    pub eviction_hard: BTreeMap<String, Threshold>,
    /// Soft ones, which hold for some time before pods have to go.
    #[serde(default, deserialize_with = "threshold::deserialize_thresholds")]
    pub eviction_soft: BTreeMap<String, Threshold>,
    /// For how long each does.
    #[serde(default, deserialize_with = "duration::deserialize_map")]
    pub eviction_soft_grace_period: BTreeMap<String, Duration>,
    /// How much more than the threshold an eviction frees, by signal.
    #[serde(default, deserialize_with = "threshold::deserialize_reclaims")]
    pub eviction_minimum_reclaim: BTreeMap<String, Threshold>,
    /// How long the node says that it is short of something after it was.
    #[serde(deserialize_with = "duration::deserialize")]
    pub eviction_pressure_transition_period: Duration,
    /// Longest grace, in seconds, of pods that go because of a soft threshold.
    #[serde(default)]
    pub eviction_max_pod_grace_period: i32,
    /// Pods' own limits of disk space are kept.
    pub local_storage_capacity_isolation: bool,

    /// The agent's own `oom_score_adj`.
    pub oom_score_adj: i32,
    /// The agent's own limit of open files.
    pub max_open_files: u64,
    /// Use the runtime's seccomp profile for containers that name none.
    pub seccomp_default: bool,
    /// Sysctls or patterns (`net.*`) that pods may set although they are not known to be safe.
    pub allowed_unsafe_sysctls: Vec<String>,

    /// The runtime's socket: `unix:///run/containerd/containerd.sock`.
    pub container_runtime_endpoint: String,
    /// The socket of its image service; empty is the same.
    pub image_service_endpoint: String,
    /// Deadline of calls to the runtime.
    #[serde(deserialize_with = "duration::deserialize")]
    pub runtime_request_timeout: Duration,
    /// How long restarts of containers are put off at most.
    pub crash_loop_back_off: CrashLoopBackOff,
    /// Size in bytes at which a log file is rotated; `None` is never.
    #[serde(deserialize_with = "log_size")]
    pub container_log_max_size: Option<u64>,
    /// Log files kept of one container, the current one included.
    pub container_log_max_files: u32,
    /// How often sizes of log files are looked at.
    #[serde(deserialize_with = "duration::deserialize")]
    pub container_log_monitor_interval: Duration,

    /// Requests per second to the API server.
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: u32,
    /// Requests that may be sent at once.
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: u32,
    /// How changes of ConfigMaps and Secrets are found.
    pub config_map_and_secret_change_detection_strategy: ChangeDetection,
    /// Log output.
    pub logging: Logging,
    /// Feature gates as given.
    pub feature_gates: BTreeMap<String, bool>,
}

impl KubeletConfiguration {
    /// The image service's socket: [`Self::image_service_endpoint`], or the runtime's own.
    pub fn image_endpoint(&self) -> &str {
        if self.image_service_endpoint.is_empty() { &self.container_runtime_endpoint } else { &self.image_service_endpoint }
    }
}

/// Who may talk to the server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Authentication {
    /// Callers without credentials.
    pub anonymous: Anonymous,
    /// Bearer tokens.
    pub webhook: TokenWebhook,
    /// Client certificates.
    pub x509: X509,
}

/// Callers without credentials.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Anonymous {
    /// Let them in as `system:anonymous`.
    pub enabled: bool,
}

/// Bearer tokens, checked by the API server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TokenWebhook {
    /// Accept them.
    pub enabled: bool,
    /// How long an answer is kept.
    #[serde(rename = "cacheTTL", deserialize_with = "duration::deserialize")]
    pub cache_ttl: Duration,
}

/// Client certificates.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct X509 {
    /// Bundle (PEM) of accepted authorities, or empty: client certificates are not accepted.
    #[serde(default, rename = "clientCAFile")]
    pub client_ca_file: PathBuf,
}

/// What callers may do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Authorization {
    /// Who decides.
    pub mode: AuthorizationMode,
    /// The API server's decisions.
    pub webhook: AccessWebhook,
}

/// Who decides what callers may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AuthorizationMode {
    /// Everybody who was let in may do everything.
    AlwaysAllow,
    /// The API server is asked.
    Webhook,
}

/// How long decisions of the API server are kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AccessWebhook {
    /// A yes.
    #[serde(rename = "cacheAuthorizedTTL", deserialize_with = "duration::deserialize")]
    pub cache_authorized_ttl: Duration,
    /// A no.
    #[serde(rename = "cacheUnauthorizedTTL", deserialize_with = "duration::deserialize")]
    pub cache_unauthorized_ttl: Duration,
}

/// A version of TLS. Older ones are accepted in the config file and mean 1.2: nothing older is implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// 1.2.
    #[serde(rename = "VersionTLS12", alias = "VersionTLS10", alias = "VersionTLS11", alias = "")]
    V12,
    /// 1.3.
    #[serde(rename = "VersionTLS13")]
    V13,
}

/// Use of swap by pods.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MemorySwap {
    /// How much.
    #[serde(rename = "swapBehavior")]
    pub swap_behavior: SwapBehavior,
}

/// How much swap pods may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SwapBehavior {
    /// None.
    #[serde(alias = "")]
    NoSwap,
    /// A share for Burstable pods (KEP-2400).
    LimitedSwap,
}

/// Which limits are set on the cgroups that divide the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// None.
    None,
    /// On all pods together.
    Pods,
    /// On the system's cgroup.
    SystemReserved,
    /// On the system's cgroup, CPU only.
    SystemReservedCompressible,
    /// On the cgroup of the agent and the runtime.
    KubeReserved,
    /// The same, CPU only.
    KubeReservedCompressible,
}

/// How long restarts of containers are put off.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CrashLoopBackOff {
    /// At most this long (KEP-4603).
    #[serde(rename = "maxContainerRestartPeriod", deserialize_with = "duration::deserialize")]
    pub max_container_restart_period: Duration,
}

/// How changes of ConfigMaps and Secrets are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ChangeDetection {
    /// One watch an object.
    Watch,
    /// Read again after some time.
    Cache,
    /// Read each time.
    Get,
}

/// Log output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Logging {
    /// Form of a line.
    pub format: LogFormat,
    /// 0 is what an operator acts on; each step says more.
    pub verbosity: u32,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn cgroup_driver<'de, D: Deserializer<'de>>(input: D) -> Result<CgroupDriver, D::Error> {
    match String::deserialize(input)?.as_str() {
        "systemd" => Ok(CgroupDriver::Systemd),
        "cgroupfs" => Ok(CgroupDriver::Cgroupfs),
        other => Err(serde::de::Error::custom(format_args!("{other:?} is neither systemd nor cgroupfs"))),
    }
}

fn log_size<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(input)?;
    let quantity: crate::model::quantity::Quantity = text.parse().map_err(serde::de::Error::custom)?;
    Ok(u64::try_from(quantity.value()).ok())
}
