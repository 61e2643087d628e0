//! The chains of one frontend. Pure.

use crate::nft::Family;
use crate::proxy::chain::{Ranges, fnv1a};
use crate::proxy::frontend::{Backend, Frontend, Role};
use crate::proxy::piece::Policy;
use crate::proxy::plan::Entry;
use crate::proxy::terms::Terms;

use super::skeleton::MARK_MASQUERADE;
use super::words::{dnat, from_pods, one_of};

/// A list of endpoints that is longer is split, so that a packet is compared with some of them only.
const LONG: usize = 64;

/// A chain and its rules.
pub type ChainText = (String, Vec<String>);

/// The chains of a frontend, the one that packets must be sent to first; none if nobody takes its packets.
///
/// Names are upstream's (`KUBE-SVC-…` and so on), so that a kube-proxy that takes over knows what it finds, but one frontend has all of its own.
pub fn chains(frontend: &Frontend, entry: &Entry, terms: &Terms) -> Vec<ChainText> {
    let route = &entry.route;
    let Some(balancer) = route.verdict else { return vec![] };
    let family = frontend.family();
    let name = |kind: &str| format!("KUBE-{kind}-{}", hash(&frontend.to_string()));
    let mark = |matches: &str| format!("{matches}{}-j {MARK_MASQUERADE}", if matches.is_empty() { "" } else { " " });
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
                let to = dnat(self.frontend.protocol(), backend.address());
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
                let chance = if group.len() < left { one_of(group.len(), left) + " " } else { String::new() };
                rules.push(format!("{chance}-j {own}"));
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
            let chance = if n + 1 < count { one_of(1, count - n) + " " } else { String::new() };
            match self.sticky {
                Some(_) => format!("{chance}-j {}", self.own(backend)),
                None => format!("{chance}{}", dnat(self.frontend.protocol(), backend.address())),
            }
        })
    }

    /// The chain of one endpoint, and the name of the list of its clients.
    fn own(&self, backend: &Backend) -> String {
        format!("KUBE-SEP-{}", hash(&format!("{} {} {}", self.frontend, backend.ip, backend.port)))
    }
}
