//! Which kernel parameters a pod may set (upstream: `sysctl/allowlist.go`, `sysctl/safe_sysctls.go`).

use k8s_openapi::api::core::v1::Pod;

use super::Rejection;

/// Parameters that concern nobody but the pod itself. The kernel versions that some of them need are older than any that runs here.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace that a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// What may be set.
#[derive(Debug, Clone, Default)]
pub struct Allowlist {
    /// Names, and what names may begin with.
    unsafe_ones: Vec<(String, bool)>,
}

impl Allowlist {
    /// `patterns`: names, or beginnings followed by `*`.
    pub fn new(patterns: &[String]) -> Self {
        let read = |pattern: &String| {
            let name = normal(pattern);
            match name.strip_suffix('*') {
                Some(prefix) => (prefix.to_owned(), true),
                None => (name, false),
            }
        };
        Self { unsafe_ones: patterns.iter().map(read).collect() }
    }

    /// Whether all of a pod's parameters may be set.
    pub fn check(&self, pod: &Pod) -> Result<(), Rejection> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let wanted = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
        for sysctl in wanted {
            let name = normal(&sysctl.name);
            let forbidden = |why: String| Err(Rejection::new("SysctlForbidden", format!("forbidden sysctl: {why}")));
            if !self.allows(&name) {
                return forbidden(format!("{name:?} not allowlisted"));
            }
            match namespace(&name) {
                Some(Namespace::Ipc) if spec.host_ipc == Some(true) => {
                    return forbidden(format!("{name:?} not allowed with host ipc enabled"));
                }
                Some(Namespace::Net) if spec.host_network == Some(true) => {
                    return forbidden(format!("{name:?} not allowed with host net enabled"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn allows(&self, name: &str) -> bool {
        let listed = |(pattern, prefix): &(String, bool)| if *prefix { name.starts_with(pattern.as_str()) } else { name == pattern };
        SAFE.contains(&name) || self.unsafe_ones.iter().any(listed)
    }
}

/// `net/ipv4/x.y` and `net.ipv4.x/y` are the same: the first separator says which one it is.
fn normal(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn namespace(name: &str) -> Option<Namespace> {
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix)) || name == "kernel.sem";
    if ipc {
        return Some(Namespace::Ipc);
    }
    name.starts_with("net.").then_some(Namespace::Net)
}
