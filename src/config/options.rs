//! What only flags can say: paths, identity, labels.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings that upstream keeps out of its config file.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// `--kubeconfig`; `None` means that there is no API server.
    pub kubeconfig: Option<PathBuf>,
    /// `--bootstrap-kubeconfig`.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// `--hostname-override`, as given.
    pub hostname_override: Option<String>,
    /// `--node-ip`, at most one a family; an unspecified address (`0.0.0.0`, `::`) only chooses the family. Empty: find out.
    pub node_ips: Vec<IpAddr>,
    /// `--node-labels`.
    pub node_labels: BTreeMap<String, String>,
    /// `--service-proxy`: whether the agent programs Services. Otherwise somebody else does.
    pub service_proxy: bool,
    /// `--root-dir`.
    pub root_dir: PathBuf,
    /// `--cert-dir`.
    pub cert_dir: PathBuf,
    /// `--cloud-provider=external`: the node starts with the taint that a cloud controller takes away.
    pub external_cloud_provider: bool,
    /// `--minimum-container-ttl-duration`: exited containers are kept at least this long.
    pub minimum_container_ttl: Duration,
    /// `--maximum-dead-containers-per-container`: exited instances kept of each container; negative keeps all.
    pub maximum_dead_containers_per_container: i32,
    /// `--maximum-dead-containers`: exited containers kept in all; negative is without limit.
    pub maximum_dead_containers: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            bootstrap_kubeconfig: None,
            hostname_override: None,
            node_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            service_proxy: true,
            root_dir: PathBuf::from("/var/lib/kubelet"),
            cert_dir: PathBuf::from("/var/lib/kubelet/pki"),
            external_cloud_provider: false,
            minimum_container_ttl: Duration::ZERO,
            maximum_dead_containers_per_container: 1,
            maximum_dead_containers: -1,
        }
    }
}

impl Options {
    /// The Node object's name: the override, or else the host's name; blanks around it go, letters become small.
    /// `None` when nothing is left.
    pub fn node_name(&self, hostname: &str) -> Option<String> {
        let name = self.hostname_override.as_deref().filter(|name| !name.is_empty()).unwrap_or(hostname).trim().to_lowercase();
        (!name.is_empty()).then_some(name)
    }
}
