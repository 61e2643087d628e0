//! The fixed part of the tables, and pieces as transactions. Pure.
//!
//! The way of a packet: `nat-prerouting` (or `nat-output` for local processes) looks its destination up in `service-ips` and
//! `service-nodeports`; the verdict leads to the chain for that number of endpoints, whose one rule draws a place at random and rewrites
//! the destination to what `endpoints` holds there. Connections that found no endpoint are refused in the filter chains, and
//! `nat-postrouting` gives node port traffic and pods that reach themselves the node's own address, so that answers come back this way.
//!
//! Hooks and priorities are those of kube-proxy's nftables mode, which documents them as its interface. No object belongs to one
//! Service: what costs in the kernel is the number of sets, not of elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::nft::objects::{PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT};
use crate::nft::{Chain, Element, Expr, Family, HookPoint, HookType, Name, Reject, Rule, TableId, Transaction};

use super::piece::{Balancer, Piece, SetId};

/// Name of the tables.
pub const TABLE: &str = "kubelet-rs";
/// The mark of packets that must leave with the node's own address: bit 14, upstream's `masqueradeBit`.
pub const MASQUERADE: u32 = 0x4000;

const SERVICES: &str = "services";
const MASQUERADING: &str = "masquerading";
const REJECT: &str = "reject-chain";
const SERVICE_CHECK: &str = "service-endpoints-check";
const NODE_PORT_CHECK: &str = "nodeport-endpoints-check";
const CLUSTER_IP_CHECK: &str = "cluster-ips-check";

/// The table of a family.
pub fn table(family: Family) -> TableId {
    TableId::new(family, TABLE)
}

/// The fixed chains, in an order in which they can be made.
pub fn chains() -> Vec<Chain> {
    use HookPoint::{Forward, Input, Output, Postrouting, Prerouting};
    let filter = |name, point| Chain::base(name, HookType::Filter, point, PRIORITY_FILTER);
    let nat = |name, point, priority| Chain::base(name, HookType::Nat, point, priority);
    let mut chains: Vec<_> =
        [SERVICES, MASQUERADING, REJECT, SERVICE_CHECK, NODE_PORT_CHECK, CLUSTER_IP_CHECK].into_iter().map(Chain::plain).collect();
    chains.extend([
        filter("filter-input", Input),
        filter("filter-forward", Forward),
        filter("filter-output", Output),
        nat("nat-prerouting", Prerouting, PRIORITY_DSTNAT),
        nat("nat-output", Output, PRIORITY_DSTNAT),
        nat("nat-postrouting", Postrouting, PRIORITY_SRCNAT),
    ]);
    chains
}

/// The rules of the fixed chains.
fn rules(family: Family) -> Vec<(&'static str, Rule)> {
    use Expr::{Daddr, Dport, L4Proto, Saddr};
    let check = |chain| Rule::new().ct_new().jump(chain);
    let refuse = || Rule::new().reject(Reject::PortUnreachable);
    vec![
        ("nat-prerouting", Rule::new().jump(SERVICES)),
        ("nat-output", Rule::new().jump(SERVICES)),
        ("nat-postrouting", Rule::new().jump(MASQUERADING)),
        ("filter-input", check(NODE_PORT_CHECK)),
        ("filter-input", check(SERVICE_CHECK)),
        ("filter-forward", check(SERVICE_CHECK)),
        ("filter-forward", check(CLUSTER_IP_CHECK)),
        ("filter-output", check(SERVICE_CHECK)),
        ("filter-output", check(CLUSTER_IP_CHECK)),
        (SERVICES, Rule::new().vmap([Daddr, L4Proto, Dport], SetId::ServiceIps.name())),
        (SERVICES, to_node(family).vmap([L4Proto, Dport], SetId::ServiceNodePorts.name())),
        (MASQUERADING, Rule::new().marked(MASQUERADE).mark_xor(MASQUERADE).masquerade()),
        (MASQUERADING, Rule::new().ct_dnat().in_set([Saddr, Daddr, L4Proto, Dport], SetId::Hairpin.name()).masquerade()),
        (REJECT, refuse()),
        (SERVICE_CHECK, Rule::new().in_set([Daddr, L4Proto, Dport], SetId::NoEndpointServices.name()).goto(REJECT)),
        (NODE_PORT_CHECK, to_node(family).in_set([L4Proto, Dport], SetId::NoEndpointNodePorts.name()).goto(REJECT)),
        (CLUSTER_IP_CHECK, Rule::new().in_set([Daddr], SetId::ClusterIps.name()).goto(REJECT)),
    ]
}

/// A rule that goes on for addresses of the node where node ports answer: all but localhost, which can't be masqueraded.
fn to_node(family: Family) -> Rule {
    match family {
        Family::Ip => Rule::new().not_within(Expr::Daddr, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8).daddr_local(),
        Family::Ip6 => Rule::new().is_not(Expr::Daddr, Ipv6Addr::LOCALHOST).daddr_local(),
    }
}

/// Adds the skeleton: makes what is missing, and writes the fixed rules anew. Packets see the old rules or the new ones, never none.
pub fn add_skeleton(tx: &mut Transaction) {
    let family = tx.table.family;
    tx.add_table_with_comment("Services, programmed by kubelet-rs");
    for chain in chains() {
        tx.add_chain(chain.clone());
        tx.flush_chain(chain.name);
    }
    for set in SetId::ALL {
        tx.add_set(set.set(family));
    }
    for (chain, rule) in rules(family) {
        tx.add_rule(chain, rule);
    }
}

/// Adds the chain for a number of endpoints, or writes its rules anew.
pub fn add_balancer(tx: &mut Transaction, balancer: Balancer) {
    use Expr::{Daddr, Dport, L4Proto, Random};
    let name: Name = balancer.name().into();
    tx.add_chain(Chain::plain(name.clone()));
    tx.flush_chain(name.clone());
    let place = Random(balancer.count);
    if balancer.node_port {
        // The endpoint may be on another node: its answer must come back through this one.
        tx.add_rule(name.clone(), Rule::new().mark_or(MASQUERADE));
        tx.add_rule(name, Rule::new().dnat_map([L4Proto, Dport, place], SetId::NodePortEndpoints.name()));
    } else {
        tx.add_rule(name, Rule::new().dnat_map([Daddr, L4Proto, Dport, place], SetId::Endpoints.name()));
    }
}

/// Removes chains for numbers of endpoints. All are emptied first: nothing but a rule of one of them may still lead to another.
pub fn remove_balancers(tx: &mut Transaction, balancers: &[Balancer]) {
    let names: Vec<Name> = balancers.iter().map(|balancer| balancer.name().into()).collect();
    names.iter().for_each(|name| tx.flush_chain(name.clone()));
    names.into_iter().for_each(|name| tx.delete_chain(name));
}

/// Adds elements to remove and then elements to add; those of one set together, because they share a message.
pub fn add_pieces(tx: &mut Transaction, deletes: &[Piece], adds: &[Piece]) {
    by_set(deletes, tx.table.family, |set, element| tx.delete_element(set, element));
    by_set(adds, tx.table.family, |set, element| tx.add_element(set, element));
}

fn by_set(pieces: &[Piece], family: Family, mut each: impl FnMut(&Name, Element)) {
    for set in SetId::ALL {
        let name: Name = Arc::from(set.name());
        pieces.iter().filter(|p| p.set() == set && p.family() == family).for_each(|p| each(&name, p.element()));
    }
}
