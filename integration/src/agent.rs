//! What can stand on a node: kubelet-rs, or upstream's kubelet and kube-proxy, with the same configuration.
//!
//! The tests run with both, which proves that they test behaviour and not an implementation.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::cgroups;
use crate::error::{Doing as _, Error, Result};
use crate::network::{CLUSTER_DNS, NodeNet, POD_CIDRS};
use crate::process::Spec;
use crate::tools::{Tools, kubelet_rs};

/// Chooses the agent of the tests: `kubelet-rs` (the default), `upstream` or `beside`.
pub const AGENT_VARIABLE: &str = "LAB_AGENT";

/// Chooses what Services are programmed in, for either agent: `nftables` (the default) or `iptables`.
pub const MODE_VARIABLE: &str = "LAB_PROXY_MODE";

/// Which agent the nodes run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// One process, this binary.
    KubeletRs(PathBuf),
    /// kubelet, and kube-proxy in nftables mode.
    Upstream,
    /// Upstream's kubelet, and this binary as the Service proxy alone.
    Beside(PathBuf),
}

impl Agent {
    /// The agent that `LAB_AGENT` names.
    pub fn from_env() -> Result<Self> {
        Self::named(&std::env::var(AGENT_VARIABLE).unwrap_or_default())
    }

    /// `kubelet-rs`, also where nothing is said, `upstream` or `beside`.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "kubelet-rs" | "" => Ok(Self::KubeletRs(kubelet_rs()?)),
            "upstream" => Ok(Self::Upstream),
            "beside" => Ok(Self::Beside(kubelet_rs()?)),
            other => Err(Error::Other(format!("no agent is called {other:?}: it can be kubelet-rs, upstream or beside"))),
        }
    }
}

/// What an agent is told about its node.
#[derive(Debug)]
pub struct NodeFacts<'a> {
    /// The lab's name.
    pub lab: &'a str,
    /// The node's name.
    pub node: &'a str,
    /// Its addresses.
    pub net: NodeNet,
    /// Where its files go.
    pub folder: &'a Path,
    /// The cluster's CA.
    pub ca: &'a Path,
    /// Its credentials.
    pub kubeconfig: &'a Path,
}

/// Socket of a node's containerd, as seen on the node.
pub const RUNTIME_SOCKET: &str = "/run/containerd/containerd.sock";
/// The agent's own folder, as seen on the node.
pub const ROOT_DIR: &str = "/var/lib/kubelet";

/// File of the agent's configuration, in a node's folder.
pub const CONFIG: &str = "kubelet.yaml";

/// Writes the agent's files and tells how to start its processes.
pub fn specs(agent: &Agent, tools: &Tools, facts: &NodeFacts<'_>) -> Result<Vec<Spec>> {
    let config = facts.folder.join(CONFIG);
    let resolv_conf = facts.folder.join("resolv.conf");
    write(&resolv_conf, "nameserver 172.30.0.1\n")?;
    let arguments = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", facts.kubeconfig.display()),
        format!("--hostname-override={}", facts.node),
        format!("--node-ip={}", facts.net.node_ip()),
        format!("--root-dir={ROOT_DIR}"),
    ];
    match agent {
        Agent::KubeletRs(binary) => {
            write(&config, &format!("{}---\n{}", kubelet_configuration(facts, &resolv_conf), proxy_configuration(facts)))?;
            Ok(vec![Spec::new(facts.node, binary, arguments)])
        }
        Agent::Upstream | Agent::Beside(_) => {
            write(&config, &kubelet_configuration(facts, &resolv_conf))?;
            let proxy = facts.folder.join("kube-proxy.yaml");
            write(&proxy, &proxy_configuration(facts))?;
            let settings = format!("--config={}", proxy.display());
            let name = format!("{}-kube-proxy", facts.node);
            let proxy = match agent {
                Agent::Beside(binary) => Spec::new(&name, binary, ["proxy", &settings]),
                _ => Spec::new(&name, tools.kubernetes("kube-proxy"), [settings]),
            };
            Ok(vec![Spec::new(facts.node, tools.kubernetes("kubelet"), arguments), proxy])
        }
    }
}

/// A stock configuration, but for what this kind of host needs: cgroup v1 is allowed, swap is allowed, little disk is enough.
fn kubelet_configuration(facts: &NodeFacts<'_>, resolv_conf: &Path) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
failSwapOn: false
containerRuntimeEndpoint: unix://{RUNTIME_SOCKET}
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {ca}}}
authorization: {{mode: Webhook}}
clusterDNS: [{CLUSTER_DNS}]
clusterDomain: cluster.local
resolvConf: {resolv_conf}
staticPodPath: {manifests}
volumePluginDir: {ROOT_DIR}/volume-plugins
serializeImagePulls: false
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
",
        cgroup = cgroups::name(facts.lab, facts.node),
        ca = facts.ca.display(),
        resolv_conf = resolv_conf.display(),
        manifests = facts.folder.join("manifests").display(),
    )
}

fn proxy_configuration(facts: &NodeFacts<'_>) -> String {
    let mode = std::env::var(MODE_VARIABLE).ok().filter(|mode| !mode.is_empty()).unwrap_or_else(|| "nftables".to_owned());
    let mut text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: {mode}
hostnameOverride: {node}
clusterCIDR: {POD_CIDRS}
clientConnection: {{kubeconfig: {kubeconfig}}}
",
        node = facts.node,
        kubeconfig = facts.kubeconfig.display(),
    );
    // The connection-tracking limits are the host's: a network namespace may not write them.
    let _ = writeln!(text, "conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}");
    text
}

fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).doing(|| format!("writing {}", path.display()))
}
