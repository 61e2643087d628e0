//! Finding a frontend among many: jumps by bits of the address, in place of one long list. Pure.
//!
//! iptables has no maps: a packet is compared with rule after rule. Upstream has one rule for each frontend in one chain; here the last
//! twelve bits of the address lead, four at a time, to a chain with the few frontends whose address ends like that. Cluster IPs are drawn
//! at random from their range, so those bits spread them evenly. Node ports go by blocks of ports.
//!
//! A change of a frontend writes the chain that it stands in, and the ones on the way only if that chain came or went.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::iptables::{Restore, Table};
use crate::proxy::frontend::Frontend;

use super::words::protocol_word;

/// Up to so many frontends stand in one list. From then on each level of jumps makes lists shorter by as much.
const WIDE: usize = 16;
/// No more levels than bits that are looked at.
const DEEPEST: usize = 3;
/// Ports in a block.
const BLOCK: u16 = 32;

/// One step on the way: what the next chain's name gets, and what a packet must match.
type Step = (String, String);

/// The frontends of a chain that is everybody's way in.
#[derive(Clone, Debug)]
pub struct Tree {
    table: Table,
    root: &'static str,
    stem: &'static str,
    depth: usize,
    /// By the names of the steps to their chain.
    leaves: BTreeMap<String, BTreeSet<Frontend>>,
    /// Leaves to write, and whether they came or went: then also what leads to them.
    touched: BTreeMap<String, bool>,
}

impl Tree {
    /// An empty one: chain `root`, with chains below it whose names begin with `stem`.
    pub fn new(table: Table, root: &'static str, stem: &'static str) -> Self {
        Self { table, root, stem, depth: 0, leaves: BTreeMap::new(), touched: BTreeMap::new() }
    }

    /// Makes it as deep as it must be for what it holds. Everything must be written anew then.
    pub fn fit(&mut self) {
        let all: Vec<Frontend> = std::mem::take(&mut self.leaves).into_values().flatten().collect();
        self.depth = depth(all.len());
        all.into_iter().for_each(|frontend| self.set(frontend, true));
    }

    /// Puts a frontend in, or takes it out.
    pub fn set(&mut self, frontend: Frontend, stands: bool) {
        let leaf = path(&self.steps(&frontend));
        let there = self.leaves.get(&leaf).is_some_and(|leaf| leaf.contains(&frontend));
        if !there && !stands {
            return;
        }
        let had = self.leaves.contains_key(&leaf);
        let list = self.leaves.entry(leaf.clone()).or_default();
        if stands {
            list.insert(frontend);
        } else {
            list.remove(&frontend);
        }
        let has = !list.is_empty();
        if !has {
            self.leaves.remove(&leaf);
        }
        *self.touched.entry(leaf).or_default() |= had != has;
    }

    /// Whether it has become too flat for what it holds, or much too deep.
    pub fn misfits(&self) -> bool {
        let count: usize = self.leaves.values().map(BTreeSet::len).sum();
        depth(count) > self.depth || depth(count.saturating_mul(4)) < self.depth
    }

    /// Writes what was touched since the last time, or (`anew`) everything. `rules_of` gives the rules of a frontend. `tail` are rules of the root, after all jumps.
    pub fn write(&mut self, restore: &mut Restore, anew: bool, rules_of: impl Fn(&Frontend) -> Vec<String>, tail: &[String]) {
        let touched = std::mem::take(&mut self.touched);
        let leaves: BTreeMap<String, bool> =
            if anew { self.leaves.keys().cloned().chain([String::new()]).map(|leaf| (leaf, true)).collect() } else { touched };
        let mut nodes = BTreeSet::new();
        for (leaf, reshaped) in leaves {
            if reshaped && !leaf.is_empty() {
                nodes.extend(ancestors(&leaf));
            }
            nodes.insert(leaf);
        }
        for node in &nodes {
            let name = self.name(node);
            let rules = self.rules(node, &rules_of);
            if rules.is_empty() && !node.is_empty() {
                restore.remove(self.table, &name);
                continue;
            }
            restore.chain(self.table, &name);
            let tail = if node.is_empty() { tail } else { &[] };
            rules.iter().chain(tail).for_each(|rule| restore.rule(self.table, &name, rule));
        }
    }

    /// Names of all chains.
    pub fn chains(&self) -> BTreeSet<String> {
        let ways = self.leaves.keys().flat_map(|leaf| ancestors(leaf).into_iter().chain([leaf.clone()]));
        ways.chain([String::new()]).map(|node| self.name(&node)).collect()
    }

    fn rules(&self, node: &str, rules_of: &impl Fn(&Frontend) -> Vec<String>) -> Vec<String> {
        if let Some(frontends) = self.leaves.get(node) {
            return frontends.iter().flat_map(rules_of).collect();
        }
        let level = level(node);
        let mut rules: Vec<String> = Vec::new();
        for (leaf, frontends) in self.leaves.range(node.to_owned()..).take_while(|(leaf, _)| leaf.starts_with(node)) {
            let steps = frontends.first().map(|frontend| self.steps(frontend)).unwrap_or_default();
            let Some((_, matches)) = steps.get(level).filter(|_| leaf != node) else { continue };
            let next = path(steps.get(..=level).unwrap_or_default());
            let jump = format!("{matches} -j {}", self.name(&next));
            if rules.last() != Some(&jump) {
                rules.push(jump);
            }
        }
        rules
    }

    fn name(&self, node: &str) -> String {
        if node.is_empty() { self.root.to_owned() } else { format!("{}{}", self.stem, node.replace('/', "")) }
    }

    fn steps(&self, frontend: &Frontend) -> Vec<Step> {
        match *frontend {
            Frontend::Address { ip, .. } => (0..self.depth).map(|level| nibble(ip, level)).collect(),
            Frontend::NodePort { protocol, port, .. } => {
                let (word, from) = (protocol_word(protocol), port / BLOCK * BLOCK);
                let step = || (format!("{word}-{from}"), format!("-p {word} -m {word} --dport {from}:{}", from + (BLOCK - 1)));
                (0..self.depth.min(1)).map(|_| step()).collect()
            }
        }
    }
}

/// Steps as a key. Those on the way to a chain begin its key.
fn path(steps: &[Step]) -> String {
    steps.iter().map(|(name, _)| format!("{name}/")).collect()
}

fn level(node: &str) -> usize {
    node.matches('/').count()
}

/// The nodes on the way to one, the root first.
fn ancestors(node: &str) -> Vec<String> {
    let mut ways = vec![String::new()];
    let ends = node.match_indices('/').map(|(at, _)| at + 1).filter(|end| *end < node.len());
    ways.extend(ends.filter_map(|end| node.get(..end)).map(str::to_owned));
    ways
}

fn depth(frontends: usize) -> usize {
    let mut depth = 0;
    let mut room = WIDE;
    while frontends > room && depth < DEEPEST {
        depth += 1;
        room *= WIDE;
    }
    depth
}

/// Four of an address' last bits: which they are, and a match of them.
fn nibble(ip: IpAddr, level: usize) -> Step {
    let shift = level * 4;
    match ip {
        IpAddr::V4(ip) => {
            let digit = (ip.to_bits() >> shift) & 15;
            let (of, mask) = (std::net::Ipv4Addr::from_bits(digit << shift), std::net::Ipv4Addr::from_bits(15 << shift));
            (format!("{digit:x}"), format!("-d {of}/{mask}"))
        }
        IpAddr::V6(ip) => {
            let digit = (ip.to_bits() >> shift) & 15;
            let (of, mask) = (std::net::Ipv6Addr::from_bits(digit << shift), std::net::Ipv6Addr::from_bits(15 << shift));
            (format!("{digit:x}"), format!("-d {of}/{mask}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Protocol;
    use crate::nft::Family;

    fn address(n: u32) -> Frontend {
        let ip = std::net::Ipv4Addr::from_bits(0x0a60_0000 + n).into();
        Frontend::Address { ip, protocol: Protocol::Tcp, port: 80 }
    }

    fn tree(numbers: impl IntoIterator<Item = u32>, room: usize) -> Tree {
        let mut tree = Tree { depth: depth(room), ..Tree::new(Table::Nat, "ROOT", "STEM-") };
        numbers.into_iter().for_each(|n| tree.set(address(n), true));
        tree
    }

    fn written(tree: &mut Tree, anew: bool) -> String {
        let mut restore = Restore::default();
        let rule = |frontend: &Frontend| vec![format!("-m comment --comment \"{frontend}\" -j RETURN")];
        tree.write(&mut restore, anew, rule, &["-j TAIL".to_owned()]);
        restore.text()
    }

    #[test]
    fn few_stand_in_one_list() {
        let text = written(&mut tree([1, 2], 2), true);
        assert_eq!(
            text,
            "*nat\n:ROOT - [0:0]\n\
             -A ROOT -m comment --comment \"Tcp port 80 of 10.96.0.1\" -j RETURN\n\
             -A ROOT -m comment --comment \"Tcp port 80 of 10.96.0.2\" -j RETURN\n-A ROOT -j TAIL\nCOMMIT\n"
        );
    }

    #[test]
    fn many_stand_in_short_lists() {
        let mut tree = tree([0x1234, 0x5234, 0x1134, 0x0005], 257);
        let text = written(&mut tree, true);
        for line in
            ["-A ROOT -d 0.0.0.4/0.0.0.15 -j STEM-4", "-A ROOT -d 0.0.0.5/0.0.0.15 -j STEM-5", "-A STEM-4 -d 0.0.0.48/0.0.0.240 -j STEM-43"]
        {
            assert_eq!(text.lines().filter(|got| *got == line).count(), 1, "{line}\n{text}");
        }
        assert_eq!(tree.chains().into_iter().collect::<Vec<_>>(), ["ROOT", "STEM-4", "STEM-43", "STEM-5", "STEM-50"]);
        assert_eq!(written(&mut tree, false), "", "nothing was touched");
        tree.set(address(0x5234), true);
        let text = written(&mut tree, false);
        assert!(
            text.contains(":STEM-43 - [0:0]") && text.contains("-A STEM-43 -m comment --comment \"Tcp port 80 of 10.96.18.52\""),
            "{text}"
        );
        tree.set(address(0x0005), false);
        let text = written(&mut tree, false);
        assert!(text.contains("-X STEM-50\n") && text.contains("-X STEM-5\n") && text.contains("-A ROOT -j TAIL"), "{text}");
        assert!(!text.contains("STEM-43"), "others stay as they are: {text}");
    }

    #[test]
    fn it_knows_when_it_misfits() {
        assert_eq!([0, 16, 17, 256, 257, 4096, 4097, 1 << 20].map(depth), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert!(!tree(0..16, 16).misfits() && tree(0..17, 16).misfits());
        assert!(!tree(0..5, 17).misfits() && tree(0..4, 17).misfits(), "not at each step to and fro");
        let mut tree = tree(0..300, 0);
        tree.fit();
        assert!(tree.depth == 2 && !tree.misfits());
        assert_eq!(tree.leaves.values().map(BTreeSet::len).sum::<usize>(), 300);
    }

    #[test]
    fn node_ports_go_by_blocks() {
        let mut tree = tree([], 300);
        for (protocol, port) in [(Protocol::Tcp, 30_001), (Protocol::Udp, 30_001), (Protocol::Tcp, 65_535)] {
            tree.set(Frontend::NodePort { family: Family::Ip, protocol, port }, true);
        }
        let text = written(&mut tree, true);
        for line in [
            "-A ROOT -p tcp -m tcp --dport 29984:30015 -j STEM-tcp-29984",
            "-A ROOT -p tcp -m tcp --dport 65504:65535 -j STEM-tcp-65504",
            "-A ROOT -p udp -m udp --dport 29984:30015 -j STEM-udp-29984",
        ] {
            assert!(text.lines().any(|got| got == line), "{line}\n{text}");
        }
    }
}
