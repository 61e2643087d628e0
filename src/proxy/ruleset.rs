//! The fixed part of the tables, and pieces as transactions. Pure.
//!
//! The way of a packet: `nat-prerouting` (or `nat-output` for local processes) looks its destination up in `service-ips` and
//! `service-nodeports`; the verdict leads to a chain that is shared by all frontends with as many endpoints and the same policy ([`chain`]),
//! whose rule draws a place at random and rewrites the destination to what `endpoints` holds there. Before that, `firewall-check` drops
//! who may not use a load balancer's address. Connections that found no endpoint are refused or dropped in the filter chains. When a
//! connection leaves, or arrives at a process of the node, `learning` remembers which endpoint a client of a Service with affinity has got,
//! and `masquerading` gives it the node's own address where answers must come back this way: node ports, pods that reach themselves.
//!
//! Hooks and priorities are those of kube-proxy's nftables mode, which documents them as its interface. No object belongs to one
//! Service: what costs in the kernel is the number of sets, not of elements.
//!
//! [`chain`]: super::chain

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::nft::objects::{PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT};
use crate::nft::{Chain, Element, Expr, Family, HookPoint, HookType, Name, Reject, Rule, TableId, Transaction, Verdict};

use super::chain::{ChainId, inside_check};
use super::frontend::family_of;
use super::piece::{Piece, SetId};
use super::plan::NewChain;
use super::terms::Terms;

/// Name of the tables.
pub const TABLE: &str = "kubelet-rs";
/// The chain that refuses.
pub const REJECT: &str = "reject-chain";

/// Before destinations are rewritten: who may use a load balancer's address is seen from the address that its clients use.
const PRIORITY_BEFORE_DSTNAT: i32 = PRIORITY_DSTNAT - 10;

const SERVICES: &str = "services";
const MASQUERADING: &str = "masquerading";
const LEARNING: &str = "learning";
const FIREWALL_CHECK: &str = "firewall-check";
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
    let filter = |name, point, priority| Chain::base(name, HookType::Filter, point, priority);
    let nat = |name, point, priority| Chain::base(name, HookType::Nat, point, priority);
    let plain = [
        SERVICES,
        inside_check(false),
        inside_check(true),
        MASQUERADING,
        LEARNING,
        REJECT,
        FIREWALL_CHECK,
        SERVICE_CHECK,
        NODE_PORT_CHECK,
        CLUSTER_IP_CHECK,
    ];
    let mut chains: Vec<_> = plain.into_iter().map(Chain::plain).collect();
    chains.extend([
        filter("filter-prerouting-pre-dnat", Prerouting, PRIORITY_BEFORE_DSTNAT),
        filter("filter-output-pre-dnat", Output, PRIORITY_BEFORE_DSTNAT),
        filter("filter-input", Input, PRIORITY_FILTER),
        filter("filter-forward", Forward, PRIORITY_FILTER),
        filter("filter-output", Output, PRIORITY_FILTER),
        nat("nat-prerouting", Prerouting, PRIORITY_DSTNAT),
        nat("nat-output", Output, PRIORITY_DSTNAT),
        nat("nat-input", Input, PRIORITY_SRCNAT),
        nat("nat-postrouting", Postrouting, PRIORITY_SRCNAT),
    ]);
    chains
}

/// The rules of the fixed chains.
fn rules(family: Family, terms: &Terms) -> Vec<(&'static str, Rule)> {
    use Expr::{Daddr, Dport, L4Proto, OriginalDaddr, OriginalDport, Saddr};
    let check = |chain| Rule::new().ct_new().jump(chain);
    let to = |set: SetId| set.name();
    let mut rules = vec![
        ("nat-prerouting", Rule::new().jump(SERVICES)),
        ("nat-output", Rule::new().jump(SERVICES)),
        ("nat-input", Rule::new().ct_dnat().jump(LEARNING)),
        ("nat-postrouting", Rule::new().ct_dnat().jump(LEARNING)),
        ("nat-postrouting", Rule::new().jump(MASQUERADING)),
        ("filter-prerouting-pre-dnat", check(FIREWALL_CHECK)),
        ("filter-output-pre-dnat", check(FIREWALL_CHECK)),
        ("filter-input", check(NODE_PORT_CHECK)),
        ("filter-input", check(SERVICE_CHECK)),
        ("filter-forward", check(SERVICE_CHECK)),
        ("filter-forward", check(CLUSTER_IP_CHECK)),
        ("filter-output", check(SERVICE_CHECK)),
        ("filter-output", check(CLUSTER_IP_CHECK)),
        (FIREWALL_CHECK, Rule::new().vmap([Daddr, L4Proto, Dport], to(SetId::FirewallIps))),
        (LEARNING, Rule::new().vmap([OriginalDaddr, L4Proto, OriginalDport], to(SetId::StickyIps))),
        (LEARNING, Rule::new().vmap([L4Proto, OriginalDport], to(SetId::StickyNodePorts))),
        (MASQUERADING, Rule::new().marked(terms.mark).mark_xor(terms.mark).masquerade()),
        (MASQUERADING, Rule::new().ct_dnat().in_set([Saddr, Daddr, L4Proto, Dport], to(SetId::Hairpin)).masquerade()),
        (REJECT, Rule::new().reject(Reject::PortUnreachable)),
        (SERVICE_CHECK, Rule::new().vmap([Daddr, L4Proto, Dport], to(SetId::NoEndpointServices))),
        (NODE_PORT_CHECK, to_node(family, terms, false).vmap([L4Proto, Dport], to(SetId::NoEndpointNodePorts))),
        (CLUSTER_IP_CHECK, Rule::new().in_set([Daddr], to(SetId::ClusterIps)).goto(REJECT)),
    ];
    let ranges = terms.service_ranges.iter().filter(|range| family_of(range.addr()) == family);
    rules.extend(ranges.map(|range| (CLUSTER_IP_CHECK, Rule::new().within(Daddr, range.addr(), range.bits()).verdict(Verdict::Drop))));
    // Clients outside that reach a cluster IP through this node: their packets may leave for another one, and must come back this way.
    let to_cluster_ip = Rule::new().in_set([Daddr], to(SetId::ClusterIps));
    if terms.masquerade_all {
        rules.push((SERVICES, to_cluster_ip.mark_or(terms.mark)));
    } else if terms.local.is_known(family) {
        rules.push((SERVICES, terms.local.narrow(to_cluster_ip, family, true).mark_or(terms.mark)));
    }
    rules.push((SERVICES, Rule::new().vmap([Daddr, L4Proto, Dport], to(SetId::ServiceIps))));
    rules.push((SERVICES, to_node(family, terms, true).vmap([L4Proto, Dport], to(SetId::ServiceNodePorts))));
    // Clients inside go where the Cluster policy leads, as if they went out to a load balancer and came back.
    for (node_port, set) in [(false, SetId::InsideIps), (true, SetId::InsideNodePorts)] {
        let lookup = |rule: Rule| match node_port {
            true => rule.vmap([L4Proto, Dport], to(set)),
            false => rule.vmap([Daddr, L4Proto, Dport], to(set)),
        };
        if terms.local.is_known(family) {
            rules.push((inside_check(node_port), lookup(terms.local.narrow(Rule::new(), family, false))));
        }
        // The node may have the very address that it talks to: answers to that would never come.
        rules.push((inside_check(node_port), Rule::new().saddr_local().mark_or(terms.mark)));
        rules.push((inside_check(node_port), lookup(Rule::new().saddr_local())));
    }
    rules
}

/// A rule that goes on for addresses of the node where node ports answer: never for localhost, which can't be masqueraded. `any`: packets
/// for other hosts come along as well.
fn to_node(family: Family, terms: &Terms, any: bool) -> Rule {
    if terms.node_port_ips.contains_key(&family) {
        return Rule::new().in_set([Expr::Daddr], SetId::NodePortIps.name());
    }
    let rule = match family {
        Family::Ip => Rule::new().not_within(Expr::Daddr, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        Family::Ip6 => Rule::new().is_not(Expr::Daddr, Ipv6Addr::LOCALHOST),
    };
    if any { rule.daddr_local() } else { rule }
}

/// Adds the skeleton: makes what is missing, and writes the fixed rules anew. Packets see the old rules or the new ones, never none.
pub fn add_skeleton(tx: &mut Transaction, terms: &Terms) {
    let family = tx.table.family;
    tx.add_table_with_comment("Services, programmed by kubelet-rs");
    for chain in chains() {
        tx.add_chain(chain.clone());
        tx.flush_chain(chain.name);
    }
    for set in SetId::ALL {
        tx.add_set(set.set(family));
    }
    for (chain, rule) in rules(family, terms) {
        tx.add_rule(chain, rule);
    }
}

/// Adds a shared chain, or writes its rules anew.
pub fn add_chain(tx: &mut Transaction, new: &NewChain, terms: &Terms) {
    let name: Name = new.id.name().into();
    tx.add_chain(Chain::plain(name.clone()));
    tx.flush_chain(name.clone());
    for rule in new.id.rules(tx.table.family, terms, &new.ranges) {
        tx.add_rule(name.clone(), rule);
    }
}

/// Removes shared chains. All are emptied first: nothing but a rule of one of them may still lead to another.
pub fn remove_chains(tx: &mut Transaction, chains: &[ChainId]) {
    let names: Vec<Name> = chains.iter().map(|chain| chain.name().into()).collect();
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
