//! The /etc/hosts of a pod's containers. Pure.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::hostname::PodHostname;
use crate::model::PodUid;

/// Where containers look.
pub const CONTAINER_PATH: &str = "/etc/hosts";

/// The file on the host: `<root_dir>/pods/<uid>/etc-hosts`.
pub fn path(root_dir: &Path, uid: &PodUid) -> PathBuf {
    root_dir.join("pods").join(uid.as_str()).join("etc-hosts")
}

/// Content for a pod with a network of its own: localhost, the pod's addresses, its hostAliases. The first line tells people who
/// look in a container why their change is gone after a restart; programs test for it, so it is upstream's.
pub fn pod_hosts(pod: &Pod, hostname: &PodHostname, ips: &[IpAddr]) -> String {
    let mut out = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    let PodHostname { name, domain } = hostname;
    for ip in ips {
        // Writing into a String can't fail.
        let _ = if domain.is_empty() { writeln!(out, "{ip}\t{name}") } else { writeln!(out, "{ip}\t{name}.{domain}\t{name}") };
    }
    out + &aliases(pod)
}

/// Content for a pod in the host's network: the node's own file and the pod's hostAliases.
pub fn host_network_hosts(pod: &Pod, node_file: &str) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{node_file}{}", aliases(pod))
}

fn aliases(pod: &Pod) -> String {
    let aliases = pod.spec.as_ref().and_then(|s| s.host_aliases.as_deref()).unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let line = |a: &HostAlias| format!("{}\t{}\n", a.ip, a.hostnames.as_deref().unwrap_or_default().join("\t"));
    let lines: String = aliases.iter().map(line).collect();
    format!("\n# Entries added by HostAliases.\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    fn pod(aliases: Option<Vec<HostAlias>>) -> Pod {
        Pod { spec: Some(PodSpec { host_aliases: aliases, ..Default::default() }), ..Default::default() }
    }

    #[test]
    fn a_pods_own_file() {
        let ips: Vec<IpAddr> = vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let host = PodHostname { name: "web".into(), domain: "sub.shop.svc.cluster.local".into() };
        let aliases = vec![
            HostAlias { ip: "192.0.2.1".into(), hostnames: Some(vec!["a.example.org".into(), "b".into()]) },
            HostAlias { ip: "192.0.2.2".into(), hostnames: None },
        ];
        let want = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
                    10.1.0.2\tweb.sub.shop.svc.cluster.local\tweb\nfd00::2\tweb.sub.shop.svc.cluster.local\tweb\n\
                    \n# Entries added by HostAliases.\n192.0.2.1\ta.example.org\tb\n192.0.2.2\t\n";
        assert_eq!(pod_hosts(&pod(Some(aliases)), &host, &ips), want);
        let plain = pod_hosts(&pod(None), &PodHostname { name: "web".into(), domain: String::new() }, &ips[..1]);
        assert!(plain.ends_with("ip6-allrouters\n10.1.0.2\tweb\n"), "{plain}");
    }

    #[test]
    fn host_network_keeps_the_nodes_file() {
        let aliases = vec![HostAlias { ip: "192.0.2.1".into(), hostnames: Some(vec!["a".into()]) }];
        assert_eq!(
            host_network_hosts(&pod(Some(aliases)), "127.0.0.1 localhost\n"),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n\n# Entries added by HostAliases.\n192.0.2.1\ta\n"
        );
    }

    #[test]
    fn the_file_is_where_upstream_has_it() {
        assert_eq!(path(Path::new("/var/lib/kubelet"), &"u1".into()), Path::new("/var/lib/kubelet/pods/u1/etc-hosts"));
    }
}
