//! Parts of rules, in iptables' words. Pure.

use std::net::IpAddr;

use crate::model::prefix::Prefix;
use crate::model::service::{Protocol, ServiceName};
use crate::nft::Family;
use crate::proxy::frontend::{Frontend, family_of};
use crate::proxy::terms::{LocalTraffic, Terms};

/// The longest comment that the kernel takes is 255 bytes.
const LONGEST_COMMENT: usize = 200;

/// A protocol.
pub fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// A match of what a frontend's clients connect to, but for the node's address of a node port.
pub fn destination(frontend: &Frontend) -> String {
    let word = protocol_word(frontend.protocol());
    match *frontend {
        Frontend::Address { ip, port, .. } => format!("-d {} -p {word} -m {word} --dport {port}", Prefix::host(ip)),
        Frontend::NodePort { port, .. } => format!("-p {word} -m {word} --dport {port}"),
    }
}

/// A comment with a Service port's name. Names come from the API: what could end the quotes is left out.
pub fn comment(service: &ServiceName, port: &str) -> String {
    let name = if port.is_empty() { service.to_string() } else { format!("{service}:{port}") };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-./:_".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).take(LONGEST_COMMENT).collect();
    format!("-m comment --comment \"{name}\"")
}

/// A rewrite of the destination, where the protocol is known.
pub fn dnat((ip, port): (IpAddr, u16)) -> String {
    match ip {
        IpAddr::V4(ip) => format!("-j DNAT --to-destination {ip}:{port}"),
        IpAddr::V6(ip) => format!("-j DNAT --to-destination [{ip}]:{port}"),
    }
}

/// The same in a chain of its own.
pub fn dnat_of(protocol: Protocol, to: (IpAddr, u16)) -> String {
    let word = protocol_word(protocol);
    format!("-p {word} -m {word} {}", dnat(to))
}

/// A match of packets of this node's pods, or (`not`) of others; `None` where they aren't told apart.
pub fn from_pods(local: &LocalTraffic, family: Family, not: bool) -> Option<String> {
    let not = if not { "! " } else { "" };
    match local {
        LocalTraffic::Unknown => None,
        LocalTraffic::Ranges(ranges) => {
            ranges.iter().find(|range| family_of(range.addr()) == family).map(|range| format!("{not}-s {range}"))
        }
        LocalTraffic::Interface(name) => Some(format!("{not}-i {}", name.replace('*', "+"))),
    }
}

/// Matches of the addresses of the node where node ports answer, one for each rule that is needed.
pub fn node_addresses(terms: &Terms, family: Family, localhost: bool) -> Vec<String> {
    match (terms.node_port_ips.get(&family), family) {
        (Some(ips), _) => ips.iter().map(|ip| format!("-d {}", Prefix::host(*ip))).collect(),
        (None, Family::Ip) if localhost => vec!["-m addrtype --dst-type LOCAL".to_owned()],
        (None, Family::Ip) => vec!["! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL".to_owned()],
        // The kernel doesn't let ::1 leave a host, whatever it is rewritten to.
        (None, Family::Ip6) => vec!["! -d ::1/128 -m addrtype --dst-type LOCAL".to_owned()],
    }
}

/// A match, with a blank behind it, of `share` in `count` packets; nothing for all of them.
pub fn one_of(share: usize, count: usize) -> String {
    if share == count {
        return String::new();
    }
    // Both are numbers of endpoints, exact in an f64.
    format!("-m statistic --mode random --probability {:.10} ", share as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stay_in_their_quotes() {
        let name = |name: &str| ServiceName { namespace: "default".into(), name: name.into() };
        assert_eq!(comment(&name("web"), "http"), "-m comment --comment \"default/web:http\"");
        assert_eq!(comment(&name("a\" -j ACCEPT\n"), ""), "-m comment --comment \"default/a__-j_ACCEPT_\"");
        assert_eq!(comment(&name(&"x".repeat(300)), "").len(), "-m comment --comment \"\"".len() + LONGEST_COMMENT);
    }

    #[test]
    fn words() {
        let ip: IpAddr = "fd00::1".parse().unwrap();
        assert_eq!(dnat_of(Protocol::Udp, (ip, 53)), "-p udp -m udp -j DNAT --to-destination [fd00::1]:53");
        assert_eq!(destination(&Frontend::Address { ip, protocol: Protocol::Sctp, port: 80 }), "-d fd00::1/128 -p sctp -m sctp --dport 80");
        let interface = LocalTraffic::Interface("veth*".into());
        assert_eq!(from_pods(&interface, Family::Ip, true).as_deref(), Some("! -i veth+"));
        let ranges = LocalTraffic::Ranges(vec!["10.244.0.0/16".parse().unwrap()]);
        assert_eq!(from_pods(&ranges, Family::Ip, false).as_deref(), Some("-s 10.244.0.0/16"));
        assert_eq!(from_pods(&ranges, Family::Ip6, false), None);
        assert_eq!(one_of(1, 3), "-m statistic --mode random --probability 0.3333333333 ");
        assert_eq!(one_of(3, 3), "");
    }
}
