//! What the host must have for Services to work: said once at start, never a reason to stop.

use std::path::Path;

use tracing::warn;

use crate::nft::Family;

/// The families to program: IPv6 unless the kernel runs without it (upstream's rule: `/proc/net/if_inet6` exists).
pub fn families() -> Vec<Family> {
    let ipv6 = Path::new("/proc/net/if_inet6").exists();
    if ipv6 { vec![Family::Ip, Family::Ip6] } else { vec![Family::Ip] }
}

/// Says what must be changed on the host. Reads a few files of /proc.
pub fn report(families: &[Family]) {
    for family in families {
        let (name, effect) = match family {
            Family::Ip => ("net.ipv4.ip_forward", "pods on this node can't reach Services over IPv4"),
            Family::Ip6 => ("net.ipv6.conf.all.forwarding", "pods on this node can't reach Services over IPv6"),
        };
        if is_off(&format!("/proc/sys/{}", name.replace('.', "/"))) {
            // Single-stack IPv4 nodes are the common case: for IPv6 this is no warning.
            match family {
                Family::Ip => warn!("{name} is 0, so {effect}: set it with sysctl -w {name}=1"),
                Family::Ip6 => tracing::info!("{name} is 0, so {effect}; set it with sysctl -w {name}=1 if the cluster uses IPv6"),
            }
        }
    }
    // With br_netfilter off, answers between pods of one bridge skip the way back through NAT (`bridge-nf-call-iptables`
    // governs nftables' IP hooks, too). Absent file: no bridge netfilter, which plug-ins that route don't need.
    if is_off("/proc/sys/net/bridge/bridge-nf-call-iptables") {
        warn!(
            "net.bridge.bridge-nf-call-iptables is 0: pods on one bridge may not reach each other through a Service; \
             set it with sysctl -w net.bridge.bridge-nf-call-iptables=1"
        );
    }
}

fn is_off(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "0")
}
