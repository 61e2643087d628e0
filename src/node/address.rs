//! The node's own addresses: given with `--node-ip`, or found the way upstream finds them.
//!
//! Order (`pkg/kubelet/nodestatus/setters.go`, NodeAddress): the node's name where it is an address, what it resolves to, the
//! interface of the default route. One step is ours: a host without a default route but with a single address uses that.

use std::net::IpAddr;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::time::timeout;
use tracing::debug;

/// A resolver that is down must not hold up the start.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);
/// Between looks while the node has no address yet.
const START_RETRY: Duration = Duration::from_secs(2);

/// Why the node has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A given address that can't be a node's.
    #[error("node IP {0} {1}; give an address of one of this host's interfaces with --node-ip")]
    Unusable(IpAddr, &'static str),
    /// Nothing found.
    #[error(
        "no address of node {0:?} was found: its name resolves to none of this host's addresses and there is no default route; give one with --node-ip"
    )]
    None(String),
    /// The interfaces can't be read.
    #[error("this host's interfaces can't be listed: {0}")]
    Interfaces(String),
}

/// An address of one of the host's interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// Whether the interface is up.
    pub up: bool,
}

/// Finds the node's addresses.
#[derive(Debug, Clone)]
pub enum Finder {
    /// On this host.
    Host {
        /// `--node-ip`: at most one address a family.
        given: Vec<IpAddr>,
        /// The node's name.
        name: String,
    },
    /// What a test says.
    #[cfg(test)]
    Fake(std::sync::Arc<std::sync::Mutex<Result<Vec<IpAddr>, AddressError>>>),
}

impl Finder {
    /// The addresses, primary family first. `known` is what was found before; empty the first time.
    pub async fn find(&self, known: &[IpAddr]) -> Result<Vec<IpAddr>, AddressError> {
        match self {
            Self::Host { given, name } => find(given, name, known).await,
            #[cfg(test)]
            Self::Fake(answer) => answer.lock().expect("lock").clone(),
        }
    }

    /// The addresses at the start, waited for as long as there are none: the network may come up after the agent.
    pub async fn wait(&self) -> Vec<IpAddr> {
        let mut told = None;
        loop {
            match self.find(&[]).await {
                Ok(ips) => return ips,
                Err(error) => {
                    if told.as_ref() != Some(&error) {
                        tracing::error!("{error}; the agent waits until there is one");
                    }
                    told = Some(error);
                }
            }
            tokio::time::sleep(START_RETRY).await;
        }
    }
}

async fn find(given: &[IpAddr], name: &str, known: &[IpAddr]) -> Result<Vec<IpAddr>, AddressError> {
    let local = local()?;
    let resolved = if needs_lookup(given, name, &local) { lookup(name).await } else { Some(Vec::new()) };
    let is_good = !known.is_empty() && known.iter().all(|ip| validate(*ip, &local).is_ok());
    let resolved = match resolved {
        // A resolver that is down for a while must not make the node move to another of its addresses.
        None if is_good => return Ok(known.to_vec()),
        resolved => resolved.unwrap_or_default(),
    };
    let routes = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = default_interface_v4(&routes("/proc/net/route"));
    let v6 = default_interface_v6(&routes("/proc/net/ipv6_route"));
    choose(given, name, &local, &resolved, v4.as_deref(), v6.as_deref())
}

fn local() -> Result<Vec<Local>, AddressError> {
    let all = getifaddrs().map_err(|errno| AddressError::Interfaces(errno.to_string()))?;
    let all = all.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))?;
        Some(Local { interface: entry.interface_name, ip, up: entry.flags.contains(InterfaceFlags::IFF_UP) })
    });
    Ok(all.collect())
}

/// What the name resolves to; `None` when the resolver doesn't answer.
async fn lookup(name: &str) -> Option<Vec<IpAddr>> {
    match timeout(LOOKUP_DEADLINE, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => Some(found.map(|address| address.ip().to_canonical()).collect()),
        Ok(Err(error)) => {
            debug!("node name {name:?} can't be resolved: {error}");
            // glibc's and musl's words for EAI_AGAIN: the standard library hands on nothing else.
            let text = error.to_string();
            let later = ["Temporary failure", "Try again"].iter().any(|words| text.contains(words));
            (!later).then(Vec::new)
        }
        Err(_) => {
            debug!("node name {name:?} was not resolved within {LOOKUP_DEADLINE:?}");
            None
        }
    }
}

/// Whether the resolver's answer can make a difference: not when the host has a single address.
fn needs_lookup(given: &[IpAddr], name: &str, local: &[Local]) -> bool {
    let specified = given.iter().any(|ip| !ip.is_unspecified());
    let usable = local.iter().filter(|l| l.up && is_global(l.ip)).count();
    !specified && name.parse::<IpAddr>().is_err() && usable > 1
}

fn choose(
    given: &[IpAddr],
    name: &str,
    local: &[Local],
    resolved: &[IpAddr],
    route_v4: Option<&str>,
    route_v6: Option<&str>,
) -> Result<Vec<IpAddr>, AddressError> {
    let specified: Vec<IpAddr> = given.iter().copied().filter(|ip| !ip.is_unspecified()).collect();
    if !specified.is_empty() {
        specified.iter().try_for_each(|ip| validate(*ip, local))?;
        return Ok(specified);
    }
    if let Ok(ip) = name.parse() {
        return Ok(vec![ip]);
    }
    let v4_first = given.first().is_none_or(IpAddr::is_ipv4);
    let preferred = |ip: &IpAddr| ip.is_ipv4() == v4_first;
    let valid: Vec<IpAddr> = resolved.iter().copied().filter(|ip| validate(*ip, local).is_ok()).collect();
    let by_name = valid.iter().copied().find(preferred).or(valid.first().copied());
    let on_route = |v4: bool| {
        let interface = if v4 { route_v4 } else { route_v6 }?;
        let mut all = local.iter().filter(|l| l.up && l.interface == interface && is_global(l.ip) && l.ip.is_ipv4() == v4);
        all.next().map(|l| l.ip)
    };
    let mut usable = local.iter().filter(|l| l.up && is_global(l.ip) && preferred(&l.ip));
    let only = usable.next().filter(|_| usable.next().is_none()).map(|l| l.ip);
    let found = by_name.or_else(|| on_route(v4_first)).or_else(|| on_route(!v4_first)).or(only);
    found.map(|ip| vec![ip]).ok_or_else(|| AddressError::None(name.to_owned()))
}

/// Rules for a node's address (`pkg/kubelet/kubelet_node_status.go`, validateNodeIP).
fn validate(ip: IpAddr, local: &[Local]) -> Result<(), AddressError> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let why = match () {
        () if ip.is_loopback() => "is a loopback address",
        () if ip.is_multicast() => "is a multicast address",
        () if link_local => "is a link-local address",
        () if ip.is_unspecified() => "is no address",
        () if !local.iter().any(|l| l.ip == ip) => "is on none of this host's interfaces",
        () => return Ok(()),
    };
    Err(AddressError::Unusable(ip, why))
}

fn is_global(ip: IpAddr) -> bool {
    validate(ip, &[Local { interface: String::new(), ip, up: true }]).is_ok()
}

/// The interface of the first default route in /proc/net/route: destination and mask are zero.
fn default_interface_v4(table: &str) -> Option<String> {
    let mut routes = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let default = routes.find(|f| f.get(1) == Some(&"00000000") && f.get(7) == Some(&"00000000"))?;
    default.first().map(|name| (*name).to_owned())
}

/// The same in /proc/net/ipv6_route, where the unreachable default route through `lo` doesn't count.
fn default_interface_v6(table: &str) -> Option<String> {
    let mut routes = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let zero = |field: Option<&&str>| field.is_some_and(|text| text.bytes().all(|byte| byte == b'0'));
    let default = routes.find(|f| zero(f.first()) && f.get(1) == Some(&"00") && f.get(9).is_some_and(|name| *name != "lo"))?;
    default.get(9).map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
cni0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    const V6: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1\n";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn host() -> Vec<Local> {
        let all = [
            ("lo", "127.0.0.1"),
            ("eth0", "169.254.1.1"),
            ("eth0", "10.0.0.5"),
            ("cni0", "10.244.0.1"),
            ("eth1", "fd00::5"),
            ("eth1", "fe80::5"),
        ];
        all.into_iter().map(|(interface, address)| Local { interface: interface.into(), ip: ip(address), up: true }).collect()
    }

    fn chosen(given: &[&str], name: &str, resolved: &[&str], v4: Option<&str>, v6: Option<&str>) -> Result<Vec<String>, String> {
        let all = |texts: &[&str]| texts.iter().map(|t| ip(t)).collect::<Vec<_>>();
        let found = choose(&all(given), name, &host(), &all(resolved), v4, v6);
        found.map(|ips| ips.iter().map(IpAddr::to_string).collect()).map_err(|e| e.to_string())
    }

    /// Given, node name, resolved, default interfaces (IPv4, IPv6), chosen.
    type Case<'a> = (&'a [&'a str], &'a str, &'a [&'a str], Option<&'a str>, Option<&'a str>, &'a [&'a str]);

    #[test]
    fn addresses_are_chosen_in_upstreams_order() {
        let (e0, e1) = (Some("eth0"), Some("eth1"));
        let table: [Case<'_>; 10] = [
            (&["10.0.0.5"], "n", &[], None, None, &["10.0.0.5"]),
            (&["10.0.0.5", "fd00::5"], "n", &[], None, None, &["10.0.0.5", "fd00::5"]),
            (&[], "192.0.2.7", &[], e0, None, &["192.0.2.7"]),
            (&[], "n", &["fd00::5", "10.244.0.1"], e0, None, &["10.244.0.1"]),
            (&[], "n", &["fd00::5"], e0, None, &["fd00::5"]),
            (&[], "n", &["127.0.1.1", "192.0.2.9"], e0, e1, &["10.0.0.5"]),
            (&[], "n", &[], None, e1, &["fd00::5"]),
            (&["::"], "n", &[], e0, e1, &["fd00::5"]),
            (&["0.0.0.0"], "n", &["10.0.0.5", "fd00::5"], e0, e1, &["10.0.0.5"]),
            (&["::"], "n", &[], None, None, &["fd00::5"]),
        ];
        for (given, name, resolved, v4, v6, want) in table {
            let want = want.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(chosen(given, name, resolved, v4, v6), Ok(want), "{given:?} {name} {resolved:?}");
        }
    }

    #[test]
    fn what_can_not_be_a_node_address_is_refused() {
        let table = [
            ("127.0.0.1", "is a loopback address"),
            ("224.0.0.1", "is a multicast address"),
            ("169.254.1.1", "is a link-local address"),
            ("fe80::5", "is a link-local address"),
            ("192.0.2.1", "is on none of this host's interfaces"),
        ];
        for (given, why) in table {
            let error = chosen(&[given], "n", &[], None, None).expect_err(given);
            assert!(error.starts_with(&format!("node IP {given} {why}")), "{error}");
        }
        let error = chosen(&[], "n", &[], None, None).expect_err("two candidates");
        assert!(error.contains("--node-ip"), "{error}");
    }

    #[test]
    fn the_resolver_is_asked_only_when_it_matters() {
        assert!(needs_lookup(&[], "n", &host()));
        assert!(needs_lookup(&[ip("::")], "n", &host()));
        assert!(!needs_lookup(&[ip("10.0.0.5")], "n", &host()));
        assert!(!needs_lookup(&[], "10.0.0.5", &host()));
        assert!(!needs_lookup(&[], "n", &host()[..3]));
    }

    #[test]
    fn default_routes_are_found() {
        assert_eq!(default_interface_v4(V4).as_deref(), Some("eth0"));
        assert_eq!(default_interface_v6(V6).as_deref(), Some("eth1"));
        assert_eq!(default_interface_v4("Iface\ngarbage"), None);
        assert_eq!(default_interface_v6("garbage\n\n"), None);
    }
}
