//! The chains of one frontend. Pure.

use crate::nft::Family;
use crate::proxy::chain::{Ranges, fnv1a};
use crate::proxy::frontend::{Backend, Frontend, Role};
use crate::proxy::piece::Policy;
use crate::proxy::plan::Entry;
use crate::proxy::terms::Terms;

use super::skeleton::MARK_MASQUERADE;
use super::words::{destination, dnat, dnat_of, from_pods, one_of};

/// A list of endpoints that is longer is split, so that a packet is compared with some of them only.
const LONG: usize = 64;

/// More endpoints have a chain: the list in which a frontend is found holds several.
const FEW: usize = 8;

/// A chain and its rules.
pub type ChainText = (String, Vec<String>);

/// Whether a frontend must have chains of its own, because what it does is more than a few rules.
///
/// Most frontends have none: `iptables-restore` of the nf_tables flavour takes a time that grows with the square of the number of chains (20,000
/// of them 18 s, the same rules without them 1 s).
pub fn needs_chains(entry: &Entry) -> bool {
    let route = &entry.route;
    route.verdict.is_some_and(|balancer| {
        balancer.policy == Policy::Local || balancer.sticky.is_some() || route.ranges().is_some() || route.main.len() > FEW
    })
}

/// The rules of a frontend that needs no chains.
pub fn rules(frontend: &Frontend, entry: &Entry, terms: &Terms) -> Vec<String> {
    let Some(balancer) = entry.route.verdict else { return vec![] };
    let backends = &*entry.route.main;
    let matches = match balancer.policy {
        Policy::Masquerade => Some(String::new()),
        _ if entry.role == Role::Internal => from_outside(terms, frontend.family()),
        _ => None,
    };
    let to = destination(frontend);
    let mark = matches.map(|matches| format!("{to} {}", mark(&matches)));
    let count = backends.len();
    let endpoints = backends.iter().enumerate().map(|(n, backend)| format!("{to} {}{}", one_of(1, count - n), dnat(backend.address())));
    mark.into_iter().chain(endpoints).collect()
}

/// Marks packets that match, all if `matches` is empty, so that they leave with the node's own address.
fn mark(matches: &str) -> String {
    if matches.is_empty() { format!("-j {MARK_MASQUERADE}") } else { format!("{matches} -j {MARK_MASQUERADE}") }
}

/// The chains of a frontend that must have some, the one that packets must be sent to first.
///
/// Names are upstream's (`KUBE-SVC-…` and so on), so that a kube-proxy that takes over knows what it finds, but one frontend has all of its own.
pub fn chains(frontend: &Frontend, entry: &Entry, terms: &Terms) -> Vec<ChainText> {
    let route = &entry.route;
    let Some(balancer) = route.verdict else { return vec![] };
    let family = frontend.family();
    let name = |kind: &str| format!("KUBE-{kind}-{}", hash(&frontend.to_string()));
    let spread = Spread { frontend, sticky: balancer.sticky };
    let mut all = Vec::new();
    let mut rules = Vec::new();
    match balancer.policy {
        Policy::Direct if entry.role == Role::Internal => rules.extend(from_outside(terms, family).map(|matches| mark(&matches))),
        Policy::Direct => {}
        Policy::Masquerade => rules.push(mark("")),
        Policy::Local => {
            let inside = name("SVC");
            rules.extend(from_pods(&terms.local, family, false).map(|matches| format!("{matches} -j {inside}")));
            // The node may have the very address that it talks to: answers to that would never come.
            rules.push(mark("-m addrtype --src-type LOCAL"));
            rules.push(format!("-m addrtype --src-type LOCAL -j {inside}"));
            spread.over(inside, vec![], &route.main, "main", &mut all);
        }
    }
    let (backends, list) = if balancer.policy == Policy::Local { (route.local(), "local") } else { (&*route.main, "main") };
    let kind = if entry.role == Role::Internal { "SVC" } else { "EXT" };
    spread.over(name(kind), rules, backends, list, &mut all);
    if let Some(ranges) = ranges(entry, terms, family) {
        let allow = |range| format!("-s {range} -j {}", name(kind));
        all.push((name("FW"), ranges.prefixes.iter().map(allow).collect()));
    }
    all.reverse();
    // Chains of single endpoints may be in both lists.
    let mut seen = std::collections::HashSet::new();
    all.retain(|(name, _)| seen.insert(name.clone()));
    all
}

/// Who may use the frontend, if not everybody may.
pub fn ranges(entry: &Entry, terms: &Terms, family: Family) -> Option<Ranges> {
    entry.route.ranges()?;
    let traffic = entry.owner.traffic();
    Ranges::of(&traffic.source_ranges, &traffic.load_balancer_ips, &terms.node_ips, family)
}

/// A match of clients of cluster IPs that must see answers come back through this node; `None` if there are none or nobody can tell.
fn from_outside(terms: &Terms, family: Family) -> Option<String> {
    if terms.masquerade_all { Some(String::new()) } else { from_pods(&terms.local, family, true) }
}

fn hash(text: &str) -> String {
    format!("{:016X}", fnv1a(text.as_bytes()))
}

/// How connections of a frontend are spread.
struct Spread<'a> {
    frontend: &'a Frontend,
    sticky: Option<u32>,
}

impl Spread<'_> {
    /// Adds a chain that does `rules` first and then sends connections to one of the endpoints, and the chains that it needs for that before it.
    /// `list` tells the endpoints from other ones of the frontend.
    fn over(&self, name: String, mut rules: Vec<String>, backends: &[Backend], list: &str, all: &mut Vec<ChainText>) {
        if let Some(seconds) = self.sticky {
            for backend in backends {
                let own = self.own(backend);
                rules.push(format!("-m recent --name {own} --rcheck --seconds {seconds} --reap --rsource -j {own}"));
                let to = dnat_of(self.frontend.protocol(), backend.address());
                all.push((own.clone(), vec![format!("-m recent --name {own} --set --rsource {to}")]));
            }
        }
        if backends.len() <= LONG {
            rules.extend(self.among(backends));
        } else {
            let size = backends.len().isqrt();
            let mut left = backends.len();
            for (n, group) in backends.chunks(size).enumerate() {
                let own = format!("KUBE-SEP-{}", hash(&format!("{} {list} {n}", self.frontend)));
                rules.push(format!("{}-j {own}", one_of(group.len(), left)));
                left -= group.len();
                all.push((own, self.among(group).collect()));
            }
        }
        all.push((name, rules));
    }

    /// Each endpoint with the same chance.
    fn among(&self, backends: &[Backend]) -> impl Iterator<Item = String> {
        let count = backends.len();
        backends.iter().enumerate().map(move |(n, backend)| {
            let chance = one_of(1, count - n);
            match self.sticky {
                Some(_) => format!("{chance}-j {}", self.own(backend)),
                None => format!("{chance}{}", dnat_of(self.frontend.protocol(), backend.address())),
            }
        })
    }

    /// The chain of one endpoint, and the name of the list of its clients.
    fn own(&self, backend: &Backend) -> String {
        format!("KUBE-SEP-{}", hash(&format!("{} {} {}", self.frontend, backend.ip, backend.port)))
    }
}
