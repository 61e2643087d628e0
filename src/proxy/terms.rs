//! On which terms Services are programmed: what the configuration says, and what is known of the node and the cluster.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::prefix::Prefix;
use crate::nft::{Expr, Family, Name, Rule};

use super::frontend::family_of;

/// A change of any of it programs everything anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// `masqueradeAll`: endpoints see the node's address in place of the client's, always.
    pub masquerade_all: bool,
    /// The bit of packets that must leave with the node's own address: `1 << masqueradeBit`.
    pub mark: u32,
    /// How packets of this node's pods are told from others.
    pub local: LocalTraffic,
    /// Where node ports answer; in families that are left out on each address of the node but those for localhost.
    pub node_port_ips: HashMap<Family, Vec<IpAddr>>,
    /// Addresses of the node, the primary one of each family first.
    pub node_ips: Vec<IpAddr>,
    /// The zone in which the node is (label `topology.kubernetes.io/zone`).
    pub zone: Option<Arc<str>>,
    /// From which ranges Services get their cluster IPs, as far as known: what nobody has is dropped.
    pub service_ranges: Vec<Prefix>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            masquerade_all: false,
            mark: 1 << 14,
            local: LocalTraffic::Unknown,
            node_port_ips: HashMap::new(),
            node_ips: vec![],
            zone: None,
            service_ranges: vec![],
        }
    }
}

/// How packets of this node's pods are told from others (`detectLocalMode`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalTraffic {
    /// They aren't.
    Unknown,
    /// By their source address: one range of each family at most.
    Ranges(Vec<Prefix>),
    /// By the interface where they come in; a `*` at the end matches any rest.
    Interface(Name),
}

impl LocalTraffic {
    /// Whether pods' packets are told from others in this family.
    pub fn is_known(&self, family: Family) -> bool {
        match self {
            Self::Unknown => false,
            Self::Ranges(ranges) => range(ranges, family).is_some(),
            Self::Interface(_) => true,
        }
    }

    /// Lets a rule go on for packets of this node's pods, or (`not`) for others. Without effect where they aren't told apart.
    pub fn narrow(&self, rule: Rule, family: Family, not: bool) -> Rule {
        match self {
            Self::Unknown => rule,
            Self::Ranges(ranges) => match (range(ranges, family), not) {
                (None, _) => rule,
                (Some(range), false) => rule.within(Expr::Saddr, range.addr(), range.bits()),
                (Some(range), true) => rule.not_within(Expr::Saddr, range.addr(), range.bits()),
            },
            Self::Interface(name) if not => rule.iifname_not(name.clone()),
            Self::Interface(name) => rule.iifname(name.clone()),
        }
    }
}

fn range(ranges: &[Prefix], family: Family) -> Option<&Prefix> {
    ranges.iter().find(|range| family_of(range.addr()) == family)
}
