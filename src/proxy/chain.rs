//! Chains that Services share: by how many endpoints there are and how they are reached, never one for each Service.

use std::net::IpAddr;

use crate::model::prefix::Prefix;
use crate::nft::{Expr, Family, Rule, Verdict};

use super::piece::{Balancer, Policy, SetId};
use super::terms::Terms;

/// Names a shared chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChainId {
    /// Spreads connections over endpoints.
    Balancer(Balancer),
    /// Remembers for so many seconds which endpoint a client has got.
    Learn(u32),
    /// Keeps clients away that are in none of the ranges of this name.
    Ranges(u64),
}

impl ChainId {
    /// The chain's name.
    pub fn name(self) -> String {
        match self {
            Self::Balancer(balancer) => balancer.name(),
            Self::Learn(seconds) => format!("learn-{seconds}"),
            Self::Ranges(name) => format!("ranges-{name:016x}"),
        }
    }

    /// Reads a chain's name.
    pub fn parse(name: &str) -> Option<Self> {
        let read = match name.split_once('-')? {
            ("learn", seconds) => Self::Learn(seconds.parse().ok()?),
            ("ranges", hash) => Self::Ranges(u64::from_str_radix(hash, 16).ok()?),
            _ => Self::Balancer(Balancer::parse(name)?),
        };
        // Only the exact name: not `learn-+2`, not `ranges-2`.
        (read.name() == name).then_some(read)
    }

    /// Its rules. `ranges` are those of its name.
    pub fn rules(self, family: Family, terms: &Terms, ranges: &[Prefix]) -> Vec<Rule> {
        match self {
            Self::Balancer(balancer) => balance(balancer, terms),
            Self::Learn(seconds) => {
                let client = [Expr::Saddr, Expr::OriginalDaddr, Expr::L4Proto, Expr::OriginalDport];
                vec![Rule::new().learn(SetId::Affinity.name(), client, seconds, [Expr::Daddr, Expr::Dport])]
            }
            Self::Ranges(_) => {
                let ours = ranges.iter().filter(|range| super::frontend::family_of(range.addr()) == family);
                let let_through = |range: &Prefix| Rule::new().within(Expr::Saddr, range.addr(), range.bits()).verdict(Verdict::Return);
                ours.map(let_through).chain([Rule::new().verdict(Verdict::Drop)]).collect()
            }
        }
    }
}

fn balance(balancer: Balancer, terms: &Terms) -> Vec<Rule> {
    use Expr::{Daddr, Dport, L4Proto, Random, Saddr};
    let Balancer { node_port, policy, count, sticky } = balancer;
    let mut rules = vec![];
    match policy {
        Policy::Direct => {}
        // The endpoint may be on another node: its answer must come back through this one.
        Policy::Masquerade => rules.push(Rule::new().mark_or(terms.mark)),
        Policy::Local => rules.push(Rule::new().jump(inside_check(node_port))),
    }
    // Where the client went before: learned when that connection had found its endpoint, see `ChainId::Learn`.
    if sticky.is_some() {
        rules.push(Rule::new().dnat_map([Saddr, Daddr, L4Proto, Dport], SetId::Affinity.name()));
    }
    let map = SetId::endpoints(node_port, policy == Policy::Local).name();
    match (node_port, count) {
        (_, 0) => {}
        (true, count) => rules.push(Rule::new().dnat_map([L4Proto, Dport, Random(count)], map)),
        (false, count) => rules.push(Rule::new().dnat_map([Daddr, L4Proto, Dport, Random(count)], map)),
    }
    rules
}

/// The chain that takes clients inside to where the Cluster policy leads.
pub fn inside_check(node_port: bool) -> &'static str {
    if node_port { "inside-nodeports-check" } else { "inside-ips-check" }
}

/// Who may use a load balancer's address, and the name of the chain that sees to it: the same ranges, the same chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Which chain.
    pub name: u64,
    /// The ranges, sorted.
    pub prefixes: Box<[Prefix]>,
}

impl Ranges {
    /// The ranges in one family; `None`: everybody may. Where the node itself may, so may who comes with the load balancer's address: that
    /// is the node again, if the address is one of its own (`pkg/proxy/nftables/proxier.go`, allowFromNode).
    pub fn of(ranges: &[Prefix], load_balancer: &[IpAddr], node: &[IpAddr], family: Family) -> Option<Self> {
        let ours = |ip: &&IpAddr| super::frontend::family_of(**ip) == family;
        let mut prefixes: Vec<_> = ranges.iter().copied().filter(|range| ours(&&range.addr())).collect();
        if prefixes.is_empty() || prefixes.iter().any(|range| range.bits() == 0) {
            return None;
        }
        let node_may = node.iter().find(ours).is_some_and(|ip| prefixes.iter().any(|range| range.contains(*ip)));
        if node_may {
            prefixes.extend(load_balancer.iter().filter(ours).map(|ip| Prefix::host(*ip)));
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        let text: String = prefixes.iter().map(|range| format!("{range} ")).collect();
        Some(Self { name: fnv1a(text.as_bytes()), prefixes: prefixes.into() })
    }
}

/// The FNV-1a hash: the same after each restart, unlike the standard library's.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let balancer = |node_port, policy, count, sticky| ChainId::Balancer(Balancer { node_port, policy, count, sticky });
        for (id, name) in [
            (balancer(false, Policy::Direct, 2, None), "ip-2"),
            (balancer(true, Policy::Masquerade, 5000, None), "port-masquerade-5000"),
            (balancer(false, Policy::Local, 0, None), "ip-local-0"),
            (balancer(true, Policy::Direct, 1, Some(60)), "port-1-sticky-60"),
            (balancer(true, Policy::Local, 1, Some(10_800)), "port-local-1-sticky-10800"),
            (ChainId::Learn(10_800), "learn-10800"),
            (ChainId::Ranges(0xab), "ranges-00000000000000ab"),
        ] {
            assert_eq!(id.name(), name);
            assert_eq!(ChainId::parse(name), Some(id), "{name}");
        }
        for name in [
            "n2",
            "ip",
            "ip-",
            "ip-+2",
            "ip-02",
            "ip-0",
            "ip-2-sticky",
            "ip-2-sticky-",
            "ip-x-2",
            "learn-",
            "learn-+1",
            "ranges-1",
            "nat-output",
        ] {
            assert_eq!(ChainId::parse(name), None, "{name}");
        }
    }

    #[test]
    fn ranges_of_a_family() {
        let read = |text: &str| -> Vec<Prefix> { text.split_whitespace().map(|t| t.parse().unwrap()).collect() };
        let of = |ranges: &str, node: [u8; 4]| {
            let ranges =
                Ranges::of(&read(ranges), &[[192, 0, 2, 1].into(), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)], &[node.into()], Family::Ip);
            ranges.map(|r| r.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of("", [10, 0, 0, 1]), None);
        assert_eq!(of("fd00::/8", [10, 0, 0, 1]), None, "nobody is kept away in this family, as upstream does it");
        assert_eq!(of("10.0.0.0/8 0.0.0.0/0", [10, 0, 0, 1]), None);
        assert_eq!(of("172.16.0.0/12 fd00::/8 10.0.0.0/8 10.0.0.0/8", [192, 168, 0, 1]).unwrap(), "10.0.0.0/8 172.16.0.0/12");
        assert_eq!(of("10.0.0.0/8", [10, 0, 0, 1]).unwrap(), "10.0.0.0/8 192.0.2.1/32");
    }
}
