//! What stands in a family, and the text that brings it from one state to the next. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use crate::iptables::{Restore, Saved, Table};
use crate::model::prefix::Prefix;
use crate::nft::Family;
use crate::proxy::chain::Ranges;
use crate::proxy::frontend::{Frontend, Role};
use crate::proxy::piece::{Piece, Refusal};
use crate::proxy::plan::{Entry, Plan, Programmed};

use super::frontend;
use super::skeleton::{
    self, FIREWALL, HAIRPIN, MARK_MASQUERADE, NODE_PORTS, Options, REFUSED_INSIDE, REFUSED_NODE_PORTS, REFUSED_OUTSIDE, SERVICES, fixed,
};
use super::tree::Tree;
use super::words::{comment, destination, node_addresses};

/// How many of this node's endpoints have an address: each may reach itself.
#[derive(Clone, Debug, Default)]
pub struct Hairpins(BTreeMap<IpAddr, usize>);

impl Hairpins {
    /// Follows a plan. True if anything changed.
    pub fn count(&mut self, plan: &Plan) -> bool {
        let before: Vec<_> = self.0.keys().copied().collect();
        for piece in &plan.adds {
            if let Piece::Hairpin(ip, ..) = piece {
                *self.0.entry(*ip).or_default() += 1;
            }
        }
        for piece in &plan.deletes {
            if let Piece::Hairpin(ip, ..) = piece
                && let Some(count) = self.0.get_mut(ip)
            {
                *count = count.saturating_sub(1);
            }
        }
        self.0.retain(|_, count| *count > 0);
        !self.0.keys().eq(before.iter())
    }
}

/// What stands in a family, as far as a change must know it.
#[derive(Debug)]
pub struct Written {
    family: Family,
    trees: [Tree; 5],
    /// Chains of each frontend.
    chains: HashMap<Frontend, Box<[String]>>,
    hairpins: Hairpins,
    /// Frontends that not everybody may use, and the rules that see to it where no endpoint takes the packets.
    guarded: BTreeMap<Frontend, Vec<String>>,
    /// Ports that load balancers ask.
    holes: Vec<u16>,
}

/// Places of the trees in [`Written`].
const IN_NAT: [usize; 2] = [0, 1];
const IN_FILTER: [usize; 3] = [2, 3, 4];

impl Written {
    fn new(family: Family) -> Self {
        let tree = Tree::new;
        Self {
            family,
            trees: [
                tree(Table::Nat, SERVICES, skeleton::STEM),
                tree(Table::Nat, NODE_PORTS, skeleton::STEM_NODE_PORTS),
                tree(Table::Filter, REFUSED_INSIDE, skeleton::STEM_INSIDE),
                tree(Table::Filter, REFUSED_OUTSIDE, skeleton::STEM_OUTSIDE),
                tree(Table::Filter, REFUSED_NODE_PORTS, skeleton::STEM_REFUSED_NODE_PORTS),
            ],
            chains: HashMap::new(),
            hairpins: Hairpins::default(),
            guarded: BTreeMap::new(),
            holes: Vec::new(),
        }
    }

    /// Everything, whatever stands: what else is found in `saved` and was made by a proxy goes.
    pub fn everything(
        restore: &mut Restore,
        saved: &Saved,
        hairpins: Hairpins,
        programmed: &Programmed,
        options: Options,
        holes: &[u16],
    ) -> Self {
        let mut all = Self::new(programmed.family());
        (all.hairpins, all.holes) = (hairpins, holes.to_vec());
        let mut frontends: Vec<_> = programmed.frontends().copied().collect();
        frontends.sort_unstable();
        frontends.iter().for_each(|frontend| all.frontend(restore, frontend, programmed));
        all.trees.iter_mut().for_each(Tree::fit);
        all.write_trees(restore, true, programmed, options);
        all.write_rest(restore);
        let of_trees = |places: &[usize]| -> BTreeSet<String> {
            places.iter().filter_map(|at| all.trees.get(*at)).flat_map(|tree| tree.chains()).collect()
        };
        let mut nat = of_trees(&IN_NAT);
        nat.extend(all.chains.values().flatten().cloned().chain([HAIRPIN.to_owned()]));
        let filter = of_trees(&IN_FILTER);
        for (table, wanted, is_ours) in
            [(Table::Nat, nat, skeleton::is_of_a_service as fn(&str) -> bool), (Table::Filter, filter, skeleton::is_of_a_tree)]
        {
            let standing = saved.chains.get(&table).into_iter().flatten();
            standing.filter(|chain| is_ours(chain) && !wanted.contains(*chain)).for_each(|chain| restore.remove(table, chain));
        }
        all
    }

    /// What a plan changes.
    pub fn change(&mut self, restore: &mut Restore, plan: &Plan, programmed: &Programmed, options: Options, holes: &[u16]) {
        // Places that are left over have no rules of their own: they went with the change that freed them.
        let gone = plan.deletes.iter().filter(|piece| !matches!(piece, Piece::Place(..)));
        let touched: BTreeSet<Frontend> = plan.adds.iter().chain(gone).filter_map(Piece::frontend).collect();
        let guarded = self.guarded.clone();
        touched.iter().for_each(|frontend| self.frontend(restore, frontend, programmed));
        self.write_trees(restore, false, programmed, options);
        let hairpins = self.hairpins.count(plan);
        if hairpins || self.holes != holes || self.guarded != guarded {
            self.holes = holes.to_vec();
            self.write_rest(restore);
        }
    }

    /// Whether lists have become so long or so short that everything should be written anew.
    pub fn misfits(&self) -> bool {
        self.trees.iter().any(Tree::misfits)
    }

    /// What a new beginning needs.
    pub fn into_hairpins(self) -> Hairpins {
        self.hairpins
    }

    /// The chains of a frontend, and where it is found.
    fn frontend(&mut self, restore: &mut Restore, frontend: &Frontend, programmed: &Programmed) {
        let entry = programmed.entry(frontend);
        let terms = programmed.terms();
        let chains = match entry {
            Some(entry) if frontend::needs_chains(entry) => frontend::chains(frontend, entry, terms),
            _ => vec![],
        };
        for (name, rules) in &chains {
            fixed(restore, Table::Nat, name, rules);
        }
        let names: Box<[String]> = chains.into_iter().map(|(name, _)| name).collect();
        let stays: HashSet<&String> = names.iter().collect();
        let before = self.chains.get(frontend).into_iter().flatten();
        before.filter(|name| !stays.contains(name)).for_each(|name| restore.remove(Table::Nat, name));
        let served = entry.is_some_and(|entry| entry.route.verdict.is_some());
        let refused = entry.is_some_and(|entry| entry.route.refusal.is_some());
        let inside = entry.is_some_and(|entry| entry.role == Role::Internal);
        let node_port = frontend.is_node_port();
        let places = [served && !node_port, served && node_port, refused && inside, refused && !inside && !node_port, refused && node_port];
        self.trees.iter_mut().zip(places).for_each(|(tree, stands)| tree.set(*frontend, stands));
        match entry.and_then(|entry| frontend::ranges(entry, programmed.terms(), self.family)) {
            Some(ranges) => drop(self.guarded.insert(*frontend, guard(frontend, &ranges))),
            None => drop(self.guarded.remove(frontend)),
        }
        match names.is_empty() {
            false => drop(self.chains.insert(*frontend, names)),
            true => drop(self.chains.remove(frontend)),
        }
    }

    fn write_trees(&mut self, restore: &mut Restore, anew: bool, programmed: &Programmed, options: Options) {
        let to_node = |chain: &str| -> Vec<String> {
            let matches = node_addresses(programmed.terms(), self.family, options.localhost_node_ports);
            matches.iter().map(|matches| format!("{matches} -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -j {chain}")).collect()
        };
        // A chain must be there before anything leads to it: those of node ports come with the first text.
        let tails = [to_node(NODE_PORTS), vec![], vec![], to_node(REFUSED_NODE_PORTS), vec![]];
        let chains = &self.chains;
        // One rule of each frontend says whose it is.
        let serve = |frontend: &Frontend| {
            let Some(entry) = programmed.entry(frontend) else { return vec![] };
            let about = about(frontend, entry);
            if let Some(chain) = chains.get(frontend).and_then(|names| names.first()) {
                return vec![format!("{} {about} -j {chain}", destination(frontend))];
            }
            let mut rules = frontend::rules(frontend, entry, programmed.terms());
            if let Some(last) = rules.last_mut() {
                *last = format!("{about} {last}");
            }
            rules
        };
        let refuse = |frontend: &Frontend| {
            let Some(entry) = programmed.entry(frontend) else { return vec![] };
            let verdict = if entry.route.refusal == Some(Refusal::Drop) { "DROP" } else { "REJECT" };
            vec![format!("{} {} -j {verdict}", destination(frontend), about(frontend, entry))]
        };
        for (n, (tree, tail)) in self.trees.iter_mut().zip(&tails).enumerate() {
            if IN_NAT.contains(&n) {
                tree.write(restore, anew, serve, tail);
            } else {
                tree.write(restore, anew, refuse, tail);
            }
        }
    }

    /// Short chains that are written as a whole.
    fn write_rest(&self, restore: &mut Restore) {
        let host = |ip: &IpAddr| Prefix::host(*ip);
        let hairpins: Vec<_> = self.hairpins.0.keys().map(|ip| format!("-s {0} -d {0} -j {MARK_MASQUERADE}", host(ip))).collect();
        fixed(restore, Table::Nat, HAIRPIN, &hairpins);
        let guarded: Vec<_> = self.guarded.values().flatten().cloned().collect();
        fixed(restore, Table::Filter, FIREWALL, &guarded);
        let holes: Vec<_> = self.holes.iter().map(|port| format!("-p tcp -m tcp --dport {port} -j ACCEPT")).collect();
        fixed(restore, Table::Filter, NODE_PORTS, &holes);
    }
}

/// Drops packets for a frontend of those who may not use it. Others have left for an endpoint before, if there is one; if there is none,
/// they are to be refused.
fn guard(frontend: &Frontend, ranges: &Ranges) -> Vec<String> {
    let to = destination(frontend);
    let may = ranges.prefixes.iter().map(|range| format!("-s {range} {to} -j RETURN"));
    may.chain([format!("{to} -j DROP")]).collect()
}

/// A comment with the name of the Service port that a frontend belongs to.
fn about(frontend: &Frontend, entry: &Entry) -> String {
    comment(&entry.owner.id, entry.port(*frontend).map_or("", |port| &port.name))
}
