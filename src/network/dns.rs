//! DNS settings of a pod: policy, the pod's own dnsConfig, and the limits of what resolvers can hold. Pure.
//!
//! Rules from pkg/kubelet/network/dns of Kubernetes.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};
use proto::cri::DnsConfig;

/// Most name servers that the C library reads (resolv.conf(5), MAXNS).
const MAX_SERVERS: usize = 3;
/// Most search domains that the API server accepts (KEP-2595).
const MAX_SEARCHES: usize = 32;
/// Most bytes of the search list, blanks between domains included (KEP-2595).
const MAX_SEARCH_BYTES: usize = 2048;
/// Longest domain: glibc 2.28 aborts on longer ones.
const MAX_DOMAIN: usize = 253;

/// What a resolv.conf holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, `name` or `name:value`.
    pub options: Vec<String>,
}

impl DnsSettings {
    /// Adds an option, or replaces the one of the same name.
    pub fn set_option(&mut self, option: String) {
        fn name(option: &str) -> &str {
            option.split(':').next().unwrap_or_default()
        }
        match self.options.iter_mut().find(|o| name(o) == name(&option)) {
            Some(old) => *old = option,
            None => self.options.push(option),
        }
    }
}

/// The cluster's DNS service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// Its addresses (clusterDNS); with none, pods get the host's settings.
    pub servers: Vec<IpAddr>,
    /// Its domain (clusterDomain); may be empty.
    pub domain: String,
}

/// Something that the pod's owner should be told in a Warning event on the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsProblem {
    /// The event's reason.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
}

/// The resolv.conf of a pod.
///
/// `host` is what the file named by `resolvConf` holds, or `None` when that field is empty: pods with the host's settings then ask
/// a resolver on the loopback address of each family in `node_ips`.
pub fn pod_dns(pod: &Pod, cluster: &ClusterDns, host: Option<&DnsSettings>, node_ips: &[IpAddr]) -> (DnsConfig, Vec<DnsProblem>) {
    let mut problems = Vec::new();
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|s| s.host_network) == Some(true);
    let policy = spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let mut dns = match policy {
        "None" => DnsSettings::default(),
        "Default" => host_dns(host, node_ips),
        "ClusterFirst" if host_network => host_dns(host, node_ips),
        _ if cluster.servers.is_empty() => {
            problems.push(DnsProblem {
                reason: "MissingClusterDNS",
                message: "the node's configuration names no clusterDNS, so policy ClusterFirst can't be followed; the pod gets the \
                          node's own DNS settings"
                    .into(),
            });
            host_dns(host, node_ips)
        }
        _ => cluster_first(pod, cluster, host),
    };
    if let Some(own) = spec.and_then(|s| s.dns_config.as_ref()) {
        merge(&mut dns, own);
    }
    limit_servers(&mut dns.servers, &mut problems);
    limit_searches(&mut dns.searches, &mut problems);
    (DnsConfig { servers: dns.servers, searches: dns.searches, options: dns.options }, problems)
}

fn host_dns(host: Option<&DnsSettings>, node_ips: &[IpAddr]) -> DnsSettings {
    if let Some(host) = host {
        return host.clone();
    }
    let mut servers: Vec<String> = node_ips.iter().map(|ip| if ip.is_ipv6() { "::1" } else { "127.0.0.1" }.to_owned()).collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".into());
    }
    DnsSettings { servers, searches: vec![".".into()], options: vec![] }
}

fn cluster_first(pod: &Pod, cluster: &ClusterDns, host: Option<&DnsSettings>) -> DnsSettings {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &cluster.domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    }
    let from_host = host.into_iter().flat_map(|h| h.searches.iter().cloned());
    add_new(&mut searches, from_host);
    let servers = cluster.servers.iter().map(IpAddr::to_string).collect();
    // Five dots: `_port._proto.service.namespace.svc` is still looked up in the search list first.
    DnsSettings { servers, searches, options: vec!["ndots:5".into()] }
}

fn merge(dns: &mut DnsSettings, own: &PodDNSConfig) {
    add_new(&mut dns.servers, own.nameservers.iter().flatten().cloned());
    add_new(&mut dns.searches, own.searches.iter().flatten().cloned());
    for option in own.options.iter().flatten() {
        let Some(name) = option.name.as_deref() else { continue };
        dns.set_option(match option.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.to_owned(),
        });
    }
}

fn add_new(list: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

fn limit_servers(servers: &mut Vec<String>, problems: &mut Vec<DnsProblem>) {
    if servers.len() > MAX_SERVERS {
        servers.truncate(MAX_SERVERS);
        problems.push(DnsProblem {
            reason: "DNSConfigForming",
            message: format!("a resolver reads {MAX_SERVERS} name servers at most; the ones in use are: {}", servers.join(" ")),
        });
    }
}

fn limit_searches(searches: &mut Vec<String>, problems: &mut Vec<DnsProblem>) {
    let all = searches.len();
    searches.truncate(MAX_SEARCHES);
    searches.retain(|s| s.len() <= MAX_DOMAIN);
    let mut bytes = 0;
    let fitting = searches.iter().take_while(|s| {
        bytes += s.len() + 1;
        bytes <= MAX_SEARCH_BYTES + 1
    });
    let fitting = fitting.count();
    searches.truncate(fitting);
    if searches.len() < all {
        problems.push(DnsProblem {
            reason: "DNSConfigForming",
            message: format!(
                "the search list may hold {MAX_SEARCHES} domains of {MAX_DOMAIN} bytes, {MAX_SEARCH_BYTES} bytes in all; the domains in use are: {}",
                searches.join(" ")
            ),
        });
    }
}

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;
