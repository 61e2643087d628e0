//! Settings of the kernel's connection tracking (upstream: `pkg/proxy/conntrack/sysctls.go`).

use std::path::Path;

use tracing::{info, warn};

use crate::config::proxy::Conntrack;

/// More than this is not asked for, however many CPUs there are: each connection takes memory that the kernel never gives back.
const MOST: u64 = 1 << 20;
/// Connections for each bucket of the hash table.
const PER_BUCKET: u64 = 4;

const DIRECTORY: &str = "/proc/sys/net/netfilter";
const HASH_SIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// What must be set, by the name below `net.netfilter`. What is zero in the configuration is left alone.
fn wanted(conntrack: &Conntrack, cpus: u64) -> Vec<(&'static str, u64)> {
    let most = match conntrack.max_per_core {
        0 => 0,
        each => u64::from(each).saturating_mul(cpus).min(MOST).max(conntrack.min.into()),
    };
    let all = [
        ("nf_conntrack_max", most),
        ("nf_conntrack_tcp_timeout_established", conntrack.tcp_established.as_secs()),
        ("nf_conntrack_tcp_timeout_close_wait", conntrack.tcp_close_wait.as_secs()),
        ("nf_conntrack_tcp_be_liberal", conntrack.tcp_be_liberal.into()),
        ("nf_conntrack_udp_timeout", conntrack.udp.as_secs()),
        ("nf_conntrack_udp_timeout_stream", conntrack.udp_stream.as_secs()),
    ];
    all.into_iter().filter(|(_, value)| *value > 0).collect()
}

/// Sets what differs. What can't be set is said: Services work all the same.
pub fn apply(conntrack: &Conntrack) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, value) in wanted(conntrack, cpus.try_into().unwrap_or(1)) {
        set(&Path::new(DIRECTORY).join(name), value, |now| now != value);
        if name == "nf_conntrack_max" {
            set(Path::new(HASH_SIZE), value / PER_BUCKET, |now| now < value / PER_BUCKET);
        }
    }
}

/// Lets addresses of localhost be rewritten to others: for node ports on 127.0.0.1. A rule keeps them from coming in from outside
/// ([`super::iptables::keep_hint`]).
pub fn route_localhost() {
    set(Path::new("/proc/sys/net/ipv4/conf/all/route_localnet"), 1, |now| now != 1);
}

fn set(path: &Path, value: u64, differs: impl Fn(u64) -> bool) {
    let now = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    if !now.is_none_or(differs) {
        return;
    }
    match std::fs::write(path, value.to_string()) {
        Ok(()) => info!("{} is {value} now", path.display()),
        Err(error) => {
            warn!("can't set {} to {value}: {error}; set it on the host, or take it out of KubeProxyConfiguration", path.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::ProxyConfiguration;

    #[test]
    fn zeros_are_left_alone_and_many_cpus_have_a_limit() {
        let mut conntrack = ProxyConfiguration::default().conntrack;
        let most = |conntrack: &Conntrack, cpus| {
            wanted(conntrack, cpus).iter().find(|(name, _)| *name == "nf_conntrack_max").map(|(_, value)| *value)
        };
        assert_eq!([1, 2, 8, 200].map(|cpus| most(&conntrack, cpus)), [131_072, 131_072, 262_144, 1_048_576].map(Some));
        let names: Vec<_> = wanted(&conntrack, 1).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["nf_conntrack_max", "nf_conntrack_tcp_timeout_established", "nf_conntrack_tcp_timeout_close_wait"]);
        (conntrack.max_per_core, conntrack.tcp_be_liberal, conntrack.udp) = (0, true, Duration::from_secs(90));
        assert_eq!(most(&conntrack, 8), None);
        assert!(wanted(&conntrack, 8).contains(&("nf_conntrack_tcp_be_liberal", 1)));
        assert!(wanted(&conntrack, 8).contains(&("nf_conntrack_udp_timeout", 90)));
    }
}
