//! The fixed chains. Pure.
//!
//! Their names, and how the kernel's own chains lead to them, are kube-proxy's (`pkg/proxy/iptables/proxier.go`): whoever takes over from the
//! other finds what to replace and what to remove, and the change is one step.

use crate::iptables::{Restore, Saved, Table};
use crate::proxy::terms::Terms;

/// All chains that belong to Services or nodes begin so.
pub const PREFIX: &str = "KUBE-";
/// Of nat: everybody's way in.
pub const SERVICES: &str = "KUBE-SERVICES";
/// Of nat: node ports. Of filter: ports that load balancers ask.
pub const NODE_PORTS: &str = "KUBE-NODEPORTS";
/// Of nat: marks packets that must leave with the node's own address.
pub const MARK_MASQUERADE: &str = "KUBE-MARK-MASQ";
/// Of nat: gives those that address.
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
/// Of nat: pods of this node that reach themselves through a Service.
pub const HAIRPIN: &str = "KUBE-SVC-HAIRPIN";
/// Of filter: refuses what no endpoint of a cluster IP takes. Its name is [`SERVICES`].
pub const REFUSED_INSIDE: &str = SERVICES;
/// Of filter: refuses what no endpoint of an external address takes.
pub const REFUSED_OUTSIDE: &str = "KUBE-EXTERNAL-SERVICES";
/// Of filter: the same for node ports.
pub const REFUSED_NODE_PORTS: &str = "KUBE-EXTERNAL-NODEPORTS";
/// Of filter: drops who may not use a load balancer's address.
pub const FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// Of filter: lets Services' packets through the host.
pub const FORWARD: &str = "KUBE-FORWARD";
/// In each table: gone when somebody removed everything.
pub const CANARY: &str = "KUBE-PROXY-CANARY";

/// Chains below the tree of nat. kube-proxy removes what begins like this.
pub const STEM: &str = "KUBE-SVC-BY-";
/// Chains below the tree of node ports.
pub const STEM_NODE_PORTS: &str = "KUBE-SVC-PORT-";
/// Chains below the trees of filter.
pub const STEM_INSIDE: &str = "KUBE-NO-EP-";
/// See [`STEM_INSIDE`].
pub const STEM_OUTSIDE: &str = "KUBE-NO-XEP-";
/// See [`STEM_INSIDE`].
pub const STEM_REFUSED_NODE_PORTS: &str = "KUBE-NO-NP-";

/// How the kernel's own chains lead to ours, the first one last: each is put in front.
const JUMPS: [(Table, &str, &str, &str); 14] = [
    (Table::Nat, "PREROUTING", "-m comment --comment \"kubernetes service portals\"", SERVICES),
    (Table::Nat, "OUTPUT", "-m comment --comment \"kubernetes service portals\"", SERVICES),
    (Table::Nat, "POSTROUTING", "-m comment --comment \"kubernetes postrouting rules\"", POSTROUTING),
    (Table::Filter, "INPUT", "-m comment --comment \"kubernetes health check service ports\"", NODE_PORTS),
    (Table::Filter, "FORWARD", "-m comment --comment \"kubernetes forwarding rules\"", FORWARD),
    (Table::Filter, "FORWARD", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\"", REFUSED_INSIDE),
    (Table::Filter, "OUTPUT", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\"", REFUSED_INSIDE),
    (Table::Filter, "FORWARD", EXTERNALLY, REFUSED_OUTSIDE),
    (Table::Filter, "INPUT", EXTERNALLY, REFUSED_OUTSIDE),
    // The node itself may ask an external address as well.
    (Table::Filter, "OUTPUT", EXTERNALLY, REFUSED_OUTSIDE),
    (Table::Filter, "FORWARD", LOAD_BALANCER, FIREWALL),
    (Table::Filter, "INPUT", LOAD_BALANCER, FIREWALL),
    (Table::Filter, "OUTPUT", LOAD_BALANCER, FIREWALL),
    (Table::Filter, "INPUT", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\"", REFUSED_INSIDE),
];
const EXTERNALLY: &str = "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\"";
const LOAD_BALANCER: &str = "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\"";

/// What is not in the configuration of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Node ports answer on 127.0.0.1 as well (`iptables.localhostNodePorts`).
    pub localhost_node_ports: bool,
    /// Packets that the kernel's connection tracking finds invalid are dropped: a reset that goes astray ends somebody's connection
    /// (kubernetes/kubernetes#74839). Not where it was told to be liberal.
    pub drop_invalid: bool,
}

/// Adds the fixed chains, but for those that trees fill, and what leads to them if that is missing.
pub fn add(restore: &mut Restore, saved: &Saved, terms: &Terms, options: Options) {
    let mark = format!("{0:#x}/{0:#x}", terms.mark);
    for table in Table::ALL {
        restore.chain(table, CANARY);
    }
    fixed(restore, Table::Nat, MARK_MASQUERADE, &[format!("-j MARK --or-mark {:#x}", terms.mark)]);
    let postrouting = [
        format!("-m conntrack --ctstate DNAT -j {HAIRPIN}"),
        format!("-m mark ! --mark {mark} -j RETURN"),
        // Once: the packet may pass here again, on its way through a tunnel.
        format!("-j MARK --xor-mark {:#x}", terms.mark),
        "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully".to_owned(),
    ];
    fixed(restore, Table::Nat, POSTROUTING, &postrouting);
    let invalid = options.drop_invalid.then(|| "-m conntrack --ctstate INVALID -j DROP".to_owned());
    let accept = [
        format!("-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark} -j ACCEPT"),
        "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned(),
    ];
    let forward: Vec<_> = invalid.into_iter().chain(accept).collect();
    fixed(restore, Table::Filter, FORWARD, &forward);
    for (table, from, matches, to) in JUMPS {
        if !saved.leads(table, from, to) {
            restore.insert(table, from, &format!("{matches} -j {to}"));
        }
    }
}

/// A chain with exactly these rules.
pub fn fixed(restore: &mut Restore, table: Table, chain: &str, rules: &[String]) {
    restore.chain(table, chain);
    rules.iter().for_each(|rule| restore.rule(table, chain, rule));
}

/// What takes away all that a proxy in iptables mode left, this one or kube-proxy; nothing if there is nothing. What belongs to kubelet stays.
pub fn removal(saved: &Saved) -> Restore {
    let mut restore = Restore::default();
    // Some networks have host ports masqueraded by these chains (`externalSetMarkChain` of the CNI plugin portmap).
    let of_masquerading = [MARK_MASQUERADE, POSTROUTING, HAIRPIN];
    let mut jumps = saved.jumps.get(&Table::Nat).into_iter().flatten();
    let borrowed = jumps.any(|(_, rule)| crate::iptables::target(rule) == Some(MARK_MASQUERADE));
    let ours = |table: Table, chain: &str| match table {
        Table::Nat if borrowed && of_masquerading.contains(&chain) => false,
        Table::Mangle => chain == CANARY,
        Table::Filter => {
            let fixed = [REFUSED_INSIDE, REFUSED_OUTSIDE, REFUSED_NODE_PORTS, FIREWALL, FORWARD, NODE_PORTS, CANARY];
            fixed.contains(&chain) || is_of_a_tree(chain)
        }
        Table::Nat => [SERVICES, NODE_PORTS, MARK_MASQUERADE, POSTROUTING, CANARY].contains(&chain) || is_of_a_service(chain),
    };
    for (table, rules) in &saved.jumps {
        let leads = |rule: &str| crate::iptables::target(rule).is_some_and(|to| ours(*table, to));
        rules.iter().filter(|(_, rule)| leads(rule)).for_each(|(chain, rule)| restore.delete(*table, chain, rule));
    }
    for (table, chains) in &saved.chains {
        chains.iter().filter(|chain| ours(*table, chain)).for_each(|chain| restore.remove(*table, chain));
    }
    restore
}

/// Whether a chain of nat belongs to a Service.
pub fn is_of_a_service(chain: &str) -> bool {
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"].iter().any(|prefix| chain.starts_with(prefix))
}

/// Whether a chain of filter is below one of the trees.
pub fn is_of_a_tree(chain: &str) -> bool {
    [STEM_INSIDE, STEM_OUTSIDE, STEM_REFUSED_NODE_PORTS].iter().any(|stem| chain.starts_with(stem))
}
