//! What is programmed, and what a change of Services makes of it. Pure.
//!
//! [`Programmed`] is compact: of each frontend its endpoints in the order of their places, and nothing that follows from that. A plan is
//! proportional to the change: an endpoint that takes another's place is one element less and one more in a data map. Verdict maps,
//! whose changes make the kernel check the whole table, are touched only when the *number* of endpoints changes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::model::prefix::Prefix;
use crate::model::service::{Protocol, Service, ServiceName, ServicePort};
use crate::nft::{Family, Transaction};

use super::affinity::Stays;
use super::chain::{ChainId, Ranges};
use super::conntrack::UdpFlows;
use super::counts::Counts;
use super::endpoints::{Selected, select};
use super::frontend::{Backend, Claim, Frontend, Role};
use super::piece::{Piece, Refusal, Slot};
use super::route::{self, Route};
use super::ruleset;
use super::terms::Terms;
use super::tracker::{Changes, Tracker};

/// How long what nothing leads to any more stays. A packet's way through the chains takes microseconds, but the thread or the virtual
/// CPU that walks it may lose its turn in the middle, and transactions don't wait for it.
pub const LINGER: Duration = Duration::from_secs(1);

/// One step from what is programmed to what is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Elements to remove.
    pub deletes: Vec<Piece>,
    /// Elements to add, after the removals.
    pub adds: Vec<Piece>,
    /// Chains that elements to add lead to and that don't exist yet.
    pub chains: Vec<NewChain>,
    /// Chains to remove: no element leads to them since [`LINGER`].
    pub idle: Vec<ChainId>,
    /// Frontends whose UDP flows may have to be looked at when the plan is carried out.
    pub flows: Vec<UdpFlows>,
    /// Frontends whose clients may stay with an endpoint that is gone, when the plan is carried out.
    pub stays: Vec<Stays>,
}

/// A shared chain to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChain {
    /// In this family.
    pub family: Family,
    /// Which one.
    pub id: ChainId,
    /// Of [`ChainId::Ranges`]: the ranges.
    pub ranges: Box<[Prefix]>,
}

impl Plan {
    /// The plan as a transaction on the family's table.
    pub fn transaction(&self, family: Family, terms: &Terms) -> Transaction {
        let mut tx = Transaction::new(ruleset::table(family));
        self.chains.iter().filter(|new| new.family == family).for_each(|new| ruleset::add_chain(&mut tx, new, terms));
        ruleset::add_pieces(&mut tx, &self.deletes, &self.adds);
        ruleset::remove_chains(&mut tx, &self.idle);
        tx
    }
}

/// Which endpoints stood at which places before the agent started: read back from the kernel; those for clients outside second.
pub type Standing = HashMap<Frontend, [Vec<Backend>; 2]>;

/// What is programmed in one family.
#[derive(Debug)]
pub struct Programmed {
    family: Family,
    terms: Arc<Terms>,
    frontends: HashMap<Frontend, Entry>,
    /// Services that want a frontend which another one has.
    rivals: HashMap<Frontend, Vec<ServiceName>>,
    cluster_ips: Counts<IpAddr>,
    hairpins: Counts<(IpAddr, Protocol, u16)>,
    /// How many elements lead to each shared chain.
    chains: HashMap<ChainId, u32>,
    /// Chains to which none leads any more, and since when.
    idle: BTreeMap<ChainId, Instant>,
    leftovers: HashMap<Slot, Leftover>,
    /// Which leftovers to look at next. One that is needed again, or is one a second time, stays here until its turn comes.
    turns: VecDeque<(Instant, Slot)>,
    /// Frontends with affinity that lost endpoints, and when: a connection that was on its way may have been remembered since.
    strays: VecDeque<(Instant, Frontend)>,
    /// Service ports whose clients inside, and whose clients outside, are dropped; with how many frontends.
    without_local: [HashMap<(ServiceName, Arc<str>), u32>; 2],
    /// When the last plan was made.
    now: Instant,
}

/// The element of a place to which no verdict leads.
#[derive(Debug)]
struct Leftover {
    address: (IpAddr, u16),
    since: Instant,
}

/// A frontend as it is served.
#[derive(Debug)]
pub struct Entry {
    /// The Service that it belongs to.
    pub owner: Arc<Service>,
    /// For whom it is.
    pub role: Role,
    /// What it leads to.
    pub route: Route,
}

impl Entry {
    /// The port of the Service that a frontend of it belongs to.
    pub fn port(&self, frontend: Frontend) -> Option<&ServicePort> {
        let is_it = |port: &&ServicePort| match frontend {
            Frontend::Address { port: number, protocol, .. } => port.port == number && port.protocol == protocol,
            Frontend::NodePort { port: number, protocol, .. } => port.node_port == number && port.protocol == protocol,
        };
        self.owner.ports.iter().find(is_it)
    }
}

impl Programmed {
    /// Nothing.
    pub fn new(family: Family, terms: Arc<Terms>, now: Instant) -> Self {
        Self {
            family,
            terms,
            frontends: HashMap::new(),
            rivals: HashMap::new(),
            cluster_ips: Counts::default(),
            hairpins: Counts::default(),
            chains: HashMap::new(),
            idle: BTreeMap::new(),
            leftovers: HashMap::new(),
            turns: VecDeque::new(),
            strays: VecDeque::new(),
            without_local: Default::default(),
            now,
        }
    }

    /// Everything anew: what must be programmed for all Services. Endpoints keep the places where they stand.
    /// The plan's additions are all elements there must be.
    pub fn build(tracker: &Tracker, standing: &Standing, family: Family, terms: Arc<Terms>, now: Instant) -> (Self, Plan) {
        let mut programmed = Self::new(family, terms, now);
        let all = tracker.catalog().names().into_iter().map(|id| (id, None)).collect();
        let mut plan = programmed.change(&all, tracker, standing, now);
        let node_port_ips = programmed.terms.node_port_ips.get(&family).into_iter().flatten();
        plan.adds.extend(node_port_ips.map(|ip| Piece::NodePortIp(*ip)));
        (programmed, plan)
    }

    /// How many Service ports leave clients inside, and clients outside, without an endpoint, because only those of this node count.
    pub fn without_local(&self) -> (usize, usize) {
        (self.without_local[0].len(), self.without_local[1].len())
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// All frontends, in no order.
    pub fn frontends(&self) -> impl Iterator<Item = &Frontend> {
        self.frontends.keys()
    }

    /// A frontend.
    pub fn entry(&self, frontend: &Frontend) -> Option<&Entry> {
        self.frontends.get(frontend)
    }

    /// The terms under which it is programmed.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The step that brings the changed Services up to date.
    pub fn update(&mut self, changes: &Changes, tracker: &Tracker, now: Instant) -> Plan {
        self.change(changes, tracker, &Standing::new(), now)
    }

    /// When a plan without changes may do something: see [`Self::add_leftover`] and [`Self::add_idle`].
    pub fn next_removal(&self) -> Option<Instant> {
        let times = [self.turns.front().map(|(since, _)| *since), self.strays.front().map(|(since, _)| *since)];
        times.into_iter().flatten().chain(self.idle.values().copied()).min().map(|since| since + LINGER)
    }

    /// Leaves a chain that stands, unless it is needed, to a later plan.
    pub fn add_idle(&mut self, chain: ChainId) {
        if !self.chains.contains_key(&chain) {
            self.idle.insert(chain, self.now);
        }
    }

    /// Leaves the element of a place, which no verdict leads to any more, to a later plan. A packet that is on its way through the
    /// chains meanwhile may have drawn that place: with the element gone it would find no endpoint and be refused.
    pub fn add_leftover(&mut self, slot: Slot, address: (IpAddr, u16)) {
        self.leftovers.insert(slot, Leftover { address, since: self.now });
        self.turns.push_back((self.now, slot));
    }

    /// The elements of leftovers whose time is over.
    fn clear_leftovers(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(&(since, slot)) = self.turns.front()
            && since + LINGER <= self.now
        {
            self.turns.pop_front();
            // Of one that was needed in between, only the last turn counts.
            if self.leftovers.get(&slot).is_some_and(|leftover| leftover.since == since)
                && let Some(Leftover { address: (ip, port), .. }) = self.leftovers.remove(&slot)
            {
                pieces.push(Piece::Place(slot, ip, port));
            }
        }
        pieces.sort_unstable();
        pieces
    }

    /// A second look, now that no connection can be on its way to an endpoint that is gone.
    fn look_for_strays(&mut self) -> Vec<Stays> {
        let mut stays = Vec::new();
        while let Some(&(since, frontend)) = self.strays.front()
            && since + LINGER <= self.now
        {
            self.strays.pop_front();
            stays.extend(self.frontends.get(&frontend).and_then(|entry| Stays::of(frontend, &entry.route)));
        }
        stays
    }

    fn change(&mut self, changes: &Changes, tracker: &Tracker, standing: &Standing, now: Instant) -> Plan {
        self.now = now;
        let mut plan = Plan { deletes: self.clear_leftovers(), stays: self.look_for_strays(), ..Plan::default() };

        // First what goes, then what comes: a frontend may pass from one Service to another.
        let mut work = BTreeMap::new();
        for (id, before) in changes {
            let now = tracker.catalog().get(id);
            if let Some(before) = before {
                for freed in self.withdraw(before, now.as_deref(), &mut plan) {
                    work.extend(tracker.catalog().get(&freed).map(|rival| (freed, rival)));
                }
            }
            work.extend(now.map(|now| (id.clone(), now)));
        }
        for service in work.values() {
            self.claim(service, tracker, standing, &mut plan);
        }
        self.cluster_ips.settle(&mut plan, Piece::ClusterIp);
        self.hairpins.settle(&mut plan, |(ip, protocol, port)| Piece::Hairpin(ip, protocol, port));
        // What this very plan needs again is idle no more.
        self.idle.retain(|chain, since| {
            let over = *since + LINGER <= now;
            plan.idle.extend(over.then_some(*chain));
            !over
        });
        plan
    }

    /// Takes away the frontends that a Service had and has no more. Returns the Services that waited for one of them.
    fn withdraw(&mut self, before: &Service, now: Option<&Service>, plan: &mut Plan) -> Vec<ServiceName> {
        let kept: HashSet<_> = now.iter().flat_map(|s| Claim::of(s, self.family)).map(|claim| claim.frontend).collect();
        let mut freed = Vec::new();
        for Claim { frontend, .. } in Claim::of(before, self.family) {
            if kept.contains(&frontend) {
                continue;
            }
            if self.frontends.get(&frontend).is_some_and(|entry| entry.owner.id == before.id) {
                self.set(frontend, None, &[], plan);
                freed.extend(self.rivals.remove(&frontend).unwrap_or_default());
            } else if let Some(rivals) = self.rivals.get_mut(&frontend) {
                rivals.retain(|id| *id != before.id);
                if rivals.is_empty() {
                    self.rivals.remove(&frontend);
                }
            }
        }
        freed
    }

    fn claim(&mut self, service: &Arc<Service>, tracker: &Tracker, standing: &Standing, plan: &mut Plan) {
        let slices = tracker.slices_of(&service.id);
        let traffic = service.traffic();
        let ranges = Ranges::of(&traffic.source_ranges, &traffic.load_balancer_ips, &self.terms.node_ips, self.family);
        // The frontends of one port share their endpoints.
        let mut known: Vec<(&ServicePort, Selected)> = Vec::new();
        for Claim { frontend, role, port } in Claim::of(service, self.family) {
            match self.frontends.get(&frontend) {
                Some(entry) if entry.owner.id != service.id => {
                    let rivals = self.rivals.entry(frontend).or_default();
                    if !rivals.contains(&service.id) {
                        warn!("Service {}: {frontend} belongs to Service {} already; not served", service.id, entry.owner.id);
                        rivals.push(service.id.clone());
                    }
                    continue;
                }
                _ => {}
            }
            let at = known.iter().position(|(of, _)| std::ptr::eq(*of, port)).unwrap_or_else(|| {
                known.push((port, select(slices, port, self.family, self.terms.zone.as_deref())));
                known.len() - 1
            });
            let Some((_, selected)) = known.get(at) else { continue };
            let stands = match (self.frontends.get(&frontend), standing.get(&frontend)) {
                (Some(entry), _) => entry.route.standing(),
                (None, Some([main, local])) => route::Standing { main, local },
                (None, None) => route::Standing::default(),
            };
            let ranges = ranges.as_ref().filter(|_| role == Role::LoadBalancer);
            let route = Route::decide(frontend, role, traffic, selected, ranges.map(|ranges| ranges.name), stands);
            let prefixes = ranges.map_or(&[][..], |ranges| &ranges.prefixes);
            self.set(frontend, Some(Entry { owner: service.clone(), role, route }), prefixes, plan);
        }
    }

    /// Puts a frontend's new entry in place, or takes the frontend away. `ranges` are those of the chain that keeps clients away.
    fn set(&mut self, frontend: Frontend, entry: Option<Entry>, ranges: &[Prefix], plan: &mut Plan) {
        let before = self.frontends.remove(&frontend);
        let (old, new) = (before.as_ref().map(|entry| &entry.route), entry.as_ref().map(|entry| &entry.route));
        let nowhere = Route::default();
        let (from, to) = (old.unwrap_or(&nowhere), new.unwrap_or(&nowhere));

        let pieces = |route: &Route| route.pieces(frontend).flatten();
        for piece in pieces(to).filter(|piece| !pieces(from).any(|standing| standing == *piece)) {
            plan.adds.push(piece);
            if let Some(id) = piece.chain().filter(|id| self.acquire(*id)) {
                let ranges = if matches!(id, ChainId::Ranges(_)) { ranges.into() } else { Box::default() };
                plan.chains.push(NewChain { family: self.family, id, ranges });
            }
        }
        for piece in pieces(from).filter(|piece| !pieces(to).any(|wanted| wanted == *piece)) {
            plan.deletes.push(piece);
            piece.chain().into_iter().for_each(|id| self.release(id));
        }
        self.set_places(frontend, false, &from.main, &to.main, plan);
        self.set_places(frontend, true, from.local(), to.local(), plan);

        let shared = [(&before, -1), (&entry, 1)];
        for (entry, by) in shared.iter().filter_map(|(entry, by)| entry.as_ref().map(|entry| (entry, *by))) {
            if entry.route.refusal == Some(Refusal::Drop)
                && let Some(port) = entry.port(frontend)
                && let [inside, outside] = &mut self.without_local
            {
                let side = if entry.role == Role::Internal { inside } else { outside };
                let key = (entry.owner.id.clone(), port.name.clone());
                let count = side.entry(key.clone()).or_default();
                *count = if by > 0 { *count + 1 } else { count.saturating_sub(1) };
                if *count == 0 {
                    side.remove(&key);
                }
            }
            if let (Role::Internal, Frontend::Address { ip, .. }) = (entry.role, frontend) {
                self.cluster_ips.count(ip, by);
            }
            for backend in entry.route.chosen().filter(|b| b.local) {
                self.hairpins.count((backend.ip, frontend.protocol(), backend.port), by);
            }
        }
        plan.flows.extend(UdpFlows::after(frontend, from, to));
        if let Some(stays) = Stays::after(frontend, from, to) {
            plan.stays.push(stays);
            self.strays.push_back((self.now, frontend));
        }
        if let Some(entry) = entry {
            self.frontends.insert(frontend, entry);
        }
    }

    /// Brings the endpoints of a frontend from what stands to what must be.
    fn set_places(&mut self, frontend: Frontend, local: bool, old: &[Backend], new: &[Backend], plan: &mut Plan) {
        // Numbers beyond u32 don't fit into memory.
        for (place, i) in (0..u32::MAX).zip(0..old.len().max(new.len())) {
            let slot = Slot { frontend, local, place };
            match (old.get(i).map(Backend::address), new.get(i).map(Backend::address)) {
                (Some(old), Some(new)) if old == new => {}
                (old, Some((ip, port))) => {
                    // A place may be a leftover, of this very step when a frontend passes from one Service to another.
                    let standing = old.or_else(|| self.leftovers.remove(&slot).map(|leftover| leftover.address));
                    if standing != Some((ip, port)) {
                        plan.deletes.extend(standing.map(|(ip, port)| Piece::Place(slot, ip, port)));
                        plan.adds.push(Piece::Place(slot, ip, port));
                    }
                }
                (Some(address), None) => self.add_leftover(slot, address),
                (None, None) => {}
            }
        }
    }

    /// An element leads to this chain from now on. True if it must be made.
    fn acquire(&mut self, chain: ChainId) -> bool {
        let count = self.chains.entry(chain).or_default();
        *count += 1;
        *count == 1 && self.idle.remove(&chain).is_none()
    }

    /// An element doesn't lead to this chain any more.
    fn release(&mut self, chain: ChainId) {
        if let Some(count) = self.chains.get_mut(&chain) {
            *count -= 1;
            if *count == 0 {
                self.chains.remove(&chain);
                self.idle.insert(chain, self.now);
            }
        }
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
