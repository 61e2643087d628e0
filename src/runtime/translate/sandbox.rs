//! The config of a pod's sandbox.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodSpec};
use proto::cri::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol};

use super::{TranslateError, TranslateSettings, resources, security};
use crate::model::PodRef;
use crate::network::dns::{DnsProblem, DnsSettings, pod_dns};
use crate::network::hostname::PodHostname;
use crate::runtime::names;

/// What a sandbox config is made from, beside the node's settings.
#[derive(Debug, Clone, Copy)]
pub struct SandboxInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// Path or slice name of the pod's cgroup.
    pub cgroup_parent: &'a str,
    /// What the host's resolv.conf holds now; `None` when `resolvConf` is set to nothing.
    pub host_dns: Option<&'a DnsSettings>,
}

/// The config of a pod's sandbox, and what its owner should be told about its DNS settings.
pub fn sandbox_config(
    input: SandboxInput<'_>,
    settings: &TranslateSettings,
) -> Result<(PodSandboxConfig, Vec<DnsProblem>), TranslateError> {
    let pod = input.pod;
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let meta = &pod.metadata;
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let (name, namespace, uid) = (text(&meta.name), text(&meta.namespace), text(&meta.uid));

    let hostname = if spec.host_network == Some(true) {
        String::new()
    } else {
        PodHostname::of(pod, &settings.cluster_dns.domain)?.kernel_name(spec.set_hostname_as_fqdn == Some(true))?
    };
    let (dns, problems) = pod_dns(pod, &settings.cluster_dns, input.host_dns, &settings.facts.ips);

    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(names::POD_NAME.into(), name.clone());
    labels.insert(names::POD_NAMESPACE.into(), namespace.clone());
    labels.insert(names::POD_UID.into(), uid.clone());

    let sysctls = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    let linux = LinuxPodSandboxConfig {
        cgroup_parent: input.cgroup_parent.to_owned(),
        security_context: Some(security::sandbox(spec)?),
        sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
        overhead: Some(resources::overhead(pod, settings)),
        resources: Some(resources::sandbox(pod, settings)),
    };
    let config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name, uid, namespace, attempt: input.attempt }),
        hostname,
        log_directory: names::pod_log_dir(&settings.pod_logs_dir, &PodRef::of(pod)).to_string_lossy().into_owned(),
        dns_config: Some(dns),
        port_mappings: spec.containers.iter().flat_map(port_mappings).collect(),
        labels,
        annotations: meta.annotations.clone().unwrap_or_default(),
        linux: Some(linux),
    };
    Ok((config, problems))
}

/// Ports of one container. Where a name or the same mapping comes twice, the first one counts.
fn port_mappings(container: &Container) -> Vec<PortMapping> {
    let mut seen = HashSet::new();
    let ports = container.ports.iter().flatten();
    let new = ports.filter(|p| match p.name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => seen.insert((Some(name), None)),
        None => seen.insert((None, Some((p.protocol.as_deref(), p.host_ip.as_deref(), p.container_port, p.host_port)))),
    });
    new.map(port_mapping).collect()
}

fn port_mapping(port: &ContainerPort) -> PortMapping {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    }
}
