//! The configuration, cut into what each room needs to know. Pure.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::config::{AuthorizationMode, Config, Enforcement, KUBERNETES_VERSION, KubeletConfiguration, Threshold, TlsVersion};
use crate::eviction::{self, Signal};
use crate::model::node::{NodeFacts, Totals};
use crate::network::dns::ClusterDns;
use crate::node::NodeSettings;
use crate::pods::context::Settings as PodSettings;
use crate::pods::images::ImageSettings;
use crate::pods::sources;
use crate::runtime::host::HostTraits;
use crate::runtime::log::rotate::Policy;
use crate::runtime::translate::TranslateSettings;
use crate::server::authn::AuthnSettings;
use crate::server::authz::AuthzSettings;
use crate::server::tls::{CertFiles, MinVersion, TlsSettings};
use crate::server::{ServerSettings, node_logs};

/// What pods don't get of the node: reservations and hard eviction thresholds (KEP-167, node allocatable).
pub fn withheld(config: &KubeletConfiguration, capacity: &Totals) -> Totals {
    let (system, kube) = (&config.system_reserved, &config.kube_reserved);
    let threshold = |signal: &str, of: i64| config.eviction_hard.get(signal).map_or(0, |t| t.of(of));
    Totals {
        milli_cpu: system.milli_cpu.saturating_add(kube.milli_cpu),
        memory: system.memory.saturating_add(kube.memory).saturating_add(threshold("memory.available", capacity.memory)),
        ephemeral_storage: system
            .ephemeral_storage
            .saturating_add(kube.ephemeral_storage)
            .saturating_add(threshold("nodefs.available", capacity.ephemeral_storage)),
        pods: 0,
    }
}

/// Resources of which more is withheld than there is, one line each. Such a node could run nothing, and upstream refuses to start
/// (pkg/kubelet/cm/node_container_manager_linux.go, validateNodeAllocatable).
pub fn overcommitted(capacity: &Totals, withheld: &Totals) -> Vec<String> {
    let all = [
        ("cpu (in thousandths)", capacity.milli_cpu, withheld.milli_cpu),
        ("memory", capacity.memory, withheld.memory),
        ("ephemeral-storage", capacity.ephemeral_storage, withheld.ephemeral_storage),
    ];
    let line = |(name, has, less)| {
        format!("systemReserved, kubeReserved and evictionHard keep {less} of {name} back, but there are {has}; lower them")
    };
    all.into_iter().filter(|(_, has, less)| less > has).map(line).collect()
}

/// For `node`.
pub fn node(config: &Config) -> NodeSettings {
    let kubelet = &config.kubelet;
    NodeSettings {
        register: kubelet.register_node,
        labels: config.options.node_labels.clone(),
        taints: kubelet.register_with_taints.clone(),
        provider_id: kubelet.provider_id.clone(),
        external_cloud_provider: config.options.external_cloud_provider,
        node_ips: config.options.node_ips.clone(),
        controller_attach_detach: kubelet.enable_controller_attach_detach,
        server_port: kubelet.port,
        update_frequency: kubelet.node_status_update_frequency,
        report_frequency: kubelet.node_status_report_frequency,
        lease_duration: Duration::from_secs(u64::from(kubelet.node_lease_duration_seconds)),
        max_images: kubelet.node_status_max_images,
        version: KUBERNETES_VERSION.to_owned(),
    }
}

/// For `server`.
pub fn server(config: &Config, facts: &NodeFacts) -> ServerSettings {
    let kubelet = &config.kubelet;
    let webhook = &kubelet.authorization.webhook;
    ServerSettings {
        address: kubelet.address,
        port: kubelet.port,
        node_name: facts.name.clone(),
        tls: TlsSettings {
            files: path(&kubelet.tls_cert_file).map(|cert| CertFiles { cert, key: kubelet.tls_private_key_file.clone() }),
            cert_dir: config.options.cert_dir.clone(),
            hostname: facts.name.clone(),
            ips: facts.ips.clone(),
            client_ca_file: path(&kubelet.authentication.x509.client_ca_file),
            min_version: match kubelet.tls_min_version {
                TlsVersion::V12 => MinVersion::Tls12,
                TlsVersion::V13 => MinVersion::Tls13,
            },
            cipher_suites: kubelet.tls_cipher_suites.clone(),
        },
        authentication: AuthnSettings {
            anonymous: kubelet.authentication.anonymous.enabled,
            webhook: kubelet.authentication.webhook.enabled,
            cache_ttl: kubelet.authentication.webhook.cache_ttl,
        },
        authorization: match kubelet.authorization.mode {
            AuthorizationMode::AlwaysAllow => AuthzSettings::AlwaysAllow,
            AuthorizationMode::Webhook => {
                AuthzSettings::Webhook { allowed_ttl: webhook.cache_authorized_ttl, denied_ttl: webhook.cache_unauthorized_ttl }
            }
        },
        system_logs: kubelet.enable_system_log_handler.then(|| node_logs::ROOT.into()),
        debugging_handlers: kubelet.enable_debugging_handlers,
        streaming_idle_timeout: kubelet.streaming_connection_idle_timeout,
    }
}

/// The body of `/configz`.
pub fn configz(config: &Config) -> Arc<dyn Fn() -> Value + Send + Sync> {
    let config = config.clone();
    Arc::new(move || config.configz())
}

/// For `eviction`. A threshold of `containerfs` counts for nothing: that is always on the file system of another signal.
pub fn eviction(config: &Config) -> eviction::Settings {
    let kubelet = &config.kubelet;
    let reclaim = |signal: &str| kubelet.eviction_minimum_reclaim.get(signal).copied();
    let limit = |(signal, value): (&String, &Threshold), grace| {
        Some(eviction::Limit { signal: Signal::parse(signal)?, value: *value, grace, reclaim: reclaim(signal) })
    };
    let mut limits: Vec<eviction::Limit> = kubelet.eviction_hard.iter().filter_map(|entry| limit(entry, Duration::ZERO)).collect();
    let grace = |signal: &String| kubelet.eviction_soft_grace_period.get(signal).copied().unwrap_or_default();
    limits.extend(kubelet.eviction_soft.iter().filter_map(|entry| limit(entry, grace(entry.0))));
    if kubelet.enforce_node_allocatable.contains(&Enforcement::Pods) {
        let hard = limits.iter().find(|limit| limit.signal == Signal::Memory && limit.grace.is_zero());
        limits.extend(hard.map(|hard| eviction::Limit { signal: Signal::AllocatableMemory, ..*hard }));
    }
    eviction::Settings {
        limits,
        transition: kubelet.eviction_pressure_transition_period,
        max_grace: Duration::from_secs(u64::try_from(kubelet.eviction_max_pod_grace_period).unwrap_or(0)),
        keep_storage_limits: kubelet.local_storage_capacity_isolation,
        root_dir: config.options.root_dir.clone(),
        logs_dir: kubelet.pod_logs_dir.clone(),
    }
}

/// For the rotation of container logs; `None` when it is switched off.
pub fn log_rotation(config: &KubeletConfiguration) -> Option<Policy> {
    let max_files = usize::try_from(config.container_log_max_files).unwrap_or(usize::MAX);
    config.container_log_max_size.map(|max_size| Policy { max_size, max_files, interval: config.container_log_monitor_interval })
}

/// For image pulls.
pub fn images(config: &KubeletConfiguration) -> ImageSettings {
    ImageSettings {
        serialize_image_pulls: config.serialize_image_pulls,
        max_parallel_image_pulls: config.max_parallel_image_pulls,
        registry_pull_qps: config.registry_pull_qps,
        registry_burst: config.registry_burst,
    }
}

/// For translating pods into runtime configurations.
pub fn translate(config: &Config, facts: NodeFacts) -> TranslateSettings {
    let kubelet = &config.kubelet;
    TranslateSettings {
        pod_logs_dir: kubelet.pod_logs_dir.clone(),
        root_dir: config.options.root_dir.clone(),
        cluster_dns: ClusterDns { servers: kubelet.cluster_dns.clone(), domain: kubelet.cluster_domain.clone() },
        cpu_cfs_quota: kubelet.cpu_cfs_quota,
        cpu_cfs_quota_period: kubelet.cpu_cfs_quota_period,
        seccomp_default: kubelet.seccomp_default,
        single_process_oom_kill: kubelet.single_process_oom_kill.unwrap_or(!facts.cgroup_v2),
        host: HostTraits::read(Path::new("/"), facts.cgroup_v2),
        facts,
    }
}

/// For the pod workers.
pub fn pods(config: &Config, facts: &NodeFacts, runtime_name: String) -> PodSettings {
    PodSettings {
        node_ips: facts.ips.clone(),
        runtime_name,
        resolv_conf: path(&config.kubelet.resolv_conf),
        crash_loop_max: config.kubelet.crash_loop_back_off.max_container_restart_period,
    }
}

/// For the node's own pods.
pub fn sources(config: &Config, node: &str) -> sources::Settings {
    let kubelet = &config.kubelet;
    let headers = kubelet.static_pod_url_header.iter().flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone())));
    sources::Settings {
        node: node.to_owned(),
        path: path(&kubelet.static_pod_path),
        file_check: kubelet.file_check_frequency,
        url: Some((kubelet.static_pod_url.clone(), headers.collect())).filter(|(url, _)| !url.is_empty()),
        http_check: kubelet.http_check_frequency,
    }
}

/// An empty path is none.
fn path(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_can_not_be_withheld() {
        let capacity = Totals { milli_cpu: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30, pods: 110 };
        let mut config = Config::default().kubelet;
        assert_eq!(overcommitted(&capacity, &withheld(&config, &capacity)), Vec::<String>::new());
        config.system_reserved.memory = 1 << 30;
        let lines = overcommitted(&capacity, &withheld(&config, &capacity));
        assert!(matches!(lines.as_slice(), [line] if line.contains("of memory back")), "{lines:?}");
    }
}
