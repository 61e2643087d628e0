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

use crate::model::service::{Protocol, Service, ServiceName, ServicePort};
use crate::nft::{Family, Transaction};

use super::conntrack::UdpFlows;
use super::counts::Counts;
use super::endpoints::{Selected, assign, select};
use super::frontend::{Backend, Frontend};
use super::piece::{Balancer, Piece};
use super::ruleset;
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
    pub balancers: Vec<(Family, Balancer)>,
    /// Chains to remove: no element leads to them since [`LINGER`].
    pub idle: Vec<Balancer>,
    /// Frontends whose UDP flows may have to be looked at when the plan is carried out.
    pub flows: Vec<UdpFlows>,
}

impl Plan {
    /// The plan as a transaction on the family's table.
    pub fn transaction(&self, family: Family) -> Transaction {
        let mut tx = Transaction::new(ruleset::table(family));
        self.balancers.iter().filter(|(f, _)| *f == family).for_each(|(_, b)| ruleset::add_balancer(&mut tx, *b));
        ruleset::add_pieces(&mut tx, &self.deletes, &self.adds);
        ruleset::remove_balancers(&mut tx, &self.idle);
        tx
    }
}

/// Which endpoints stood at which places before the agent started: read back from the kernel.
pub type Standing = HashMap<Frontend, Vec<Backend>>;

/// What is programmed in one family.
#[derive(Debug)]
pub struct Programmed {
    family: Family,
    frontends: HashMap<Frontend, Entry>,
    /// Services that want a frontend which another one has.
    rivals: HashMap<Frontend, Vec<ServiceName>>,
    cluster_ips: Counts<IpAddr>,
    hairpins: Counts<(IpAddr, Protocol, u16)>,
    /// How many frontends lead to each chain.
    balancers: HashMap<Balancer, u32>,
    /// Chains to which none leads any more, and since when.
    idle: BTreeMap<Balancer, Instant>,
    leftovers: HashMap<(Frontend, u32), Leftover>,
    /// Which leftovers to look at next. One that is needed again, or is one a second time, stays here until its turn comes.
    turns: VecDeque<(Instant, (Frontend, u32))>,
    /// When the last plan was made.
    now: Instant,
}

/// The element of a place to which no verdict leads.
#[derive(Debug)]
struct Leftover {
    address: (IpAddr, u16),
    since: Instant,
}

#[derive(Debug)]
struct Entry {
    owner: Arc<Service>,
    /// By place. Empty: connections are refused.
    backends: Box<[Backend]>,
    /// Of UDP: who gets no new flows, but goes on with those it has.
    draining: Box<[Backend]>,
}

impl Programmed {
    /// Nothing.
    pub fn new(family: Family, now: Instant) -> Self {
        Self {
            family,
            frontends: HashMap::new(),
            rivals: HashMap::new(),
            cluster_ips: Counts::default(),
            hairpins: Counts::default(),
            balancers: HashMap::new(),
            idle: BTreeMap::new(),
            leftovers: HashMap::new(),
            turns: VecDeque::new(),
            now,
        }
    }

    /// Everything anew: what must be programmed for all Services. Endpoints keep the places where they stand.
    /// The plan's additions are all elements there must be.
    pub fn build(tracker: &Tracker, standing: &Standing, family: Family, now: Instant) -> (Self, Plan) {
        let mut programmed = Self::new(family, now);
        let all = tracker.catalog().names().into_iter().map(|id| (id, None)).collect();
        let plan = programmed.change(&all, tracker, standing, now);
        (programmed, plan)
    }

    /// The step that brings the changed Services up to date.
    pub fn update(&mut self, changes: &Changes, tracker: &Tracker, now: Instant) -> Plan {
        self.change(changes, tracker, &Standing::new(), now)
    }

    /// When a plan without changes may remove something: see [`Self::add_leftover`] and [`Self::add_idle`].
    pub fn next_removal(&self) -> Option<Instant> {
        let leftover = self.turns.front().map(|(since, _)| *since);
        leftover.into_iter().chain(self.idle.values().copied()).min().map(|since| since + LINGER)
    }

    /// Leaves a chain that stands, unless it is needed, to a later plan.
    pub fn add_idle(&mut self, balancer: Balancer) {
        if !self.balancers.contains_key(&balancer) {
            self.idle.insert(balancer, self.now);
        }
    }

    /// Leaves the element of a place, which no verdict leads to any more, to a later plan. A packet that is on its way through the
    /// chains meanwhile may have drawn that place: with the element gone it would find no endpoint and be refused.
    pub fn add_leftover(&mut self, frontend: Frontend, place: u32, address: (IpAddr, u16)) {
        self.leftovers.insert((frontend, place), Leftover { address, since: self.now });
        self.turns.push_back((self.now, (frontend, place)));
    }

    /// The elements of leftovers whose time is over.
    fn clear_leftovers(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(&(since, place)) = self.turns.front()
            && since + LINGER <= self.now
        {
            self.turns.pop_front();
            // Of one that was needed in between, only the last turn counts.
            if self.leftovers.get(&place).is_some_and(|leftover| leftover.since == since)
                && let Some(Leftover { address: (ip, port), .. }) = self.leftovers.remove(&place)
            {
                pieces.push(Piece::Place(place.0, place.1, ip, port));
            }
        }
        pieces.sort_unstable();
        pieces
    }

    fn change(&mut self, changes: &Changes, tracker: &Tracker, standing: &Standing, now: Instant) -> Plan {
        self.now = now;
        let mut plan = Plan { deletes: self.clear_leftovers(), ..Plan::default() };

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
        self.idle.retain(|balancer, since| {
            let over = *since + LINGER <= now;
            plan.idle.extend(over.then_some(*balancer));
            !over
        });
        plan
    }

    /// Takes away the frontends that a Service had and has no more. Returns the Services that waited for one of them.
    fn withdraw(&mut self, before: &Service, now: Option<&Service>, plan: &mut Plan) -> Vec<ServiceName> {
        let kept: HashSet<_> = now.iter().flat_map(|s| Frontend::of(s)).map(|(frontend, _)| frontend).collect();
        let mut freed = Vec::new();
        for (frontend, _) in self.frontends_of(before) {
            if kept.contains(&frontend) {
                continue;
            }
            if self.frontends.get(&frontend).is_some_and(|entry| entry.owner.id == before.id) {
                self.set(frontend, None, plan);
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

    fn frontends_of<'a>(&self, service: &'a Service) -> impl Iterator<Item = (Frontend, &'a ServicePort)> + use<'a> {
        let family = self.family;
        Frontend::of(service).into_iter().filter(move |(frontend, _)| frontend.family() == family)
    }

    fn claim(&mut self, service: &Arc<Service>, tracker: &Tracker, standing: &Standing, plan: &mut Plan) {
        let slices = tracker.slices_of(&service.id);
        // Cluster IP and node port of one port share their endpoints.
        let mut known: Vec<(&ServicePort, Selected)> = Vec::new();
        for (frontend, port) in self.frontends_of(service) {
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
            let same = |(p, _): &&(&ServicePort, Selected)| std::ptr::eq(*p, port);
            if known.iter().find(same).is_none() {
                known.push((port, select(slices, port, self.family)));
            }
            let (wanted, draining) =
                known.iter().find(same).map_or((&[][..], &[][..]), |(_, found)| (found.backends.as_slice(), found.draining.as_slice()));
            let places = match (self.frontends.get(&frontend), standing.get(&frontend)) {
                (Some(entry), _) => assign(&entry.backends, wanted),
                (None, Some(backends)) => assign(backends, wanted),
                (None, None) => wanted.into(),
            };
            let draining = if frontend.protocol() == Protocol::Udp { draining.into() } else { Box::default() };
            self.set(frontend, Some(Entry { owner: service.clone(), backends: places, draining }), plan);
        }
    }

    /// Puts a frontend's new entry in place, or takes the frontend away.
    fn set(&mut self, frontend: Frontend, entry: Option<Entry>, plan: &mut Plan) {
        let after: Option<Box<[Backend]>> = entry.as_ref().map(|e| e.backends.clone());
        let still: Box<[Backend]> = entry.as_ref().map(|e| e.draining.clone()).unwrap_or_default();
        let before = match entry {
            Some(entry) => self.frontends.insert(frontend, entry),
            None => self.frontends.remove(&frontend),
        };
        let (before, was) = before.map_or((None, Box::default()), |entry| (Some(entry.backends), entry.draining));
        let (old, new) = (before.as_deref().unwrap_or_default(), after.as_deref().unwrap_or_default());

        // Numbers beyond u32 don't fit into memory.
        let (old_count, new_count) = (u32::try_from(old.len()).unwrap_or(u32::MAX), u32::try_from(new.len()).unwrap_or(u32::MAX));
        let balancer = |count| Balancer { node_port: matches!(frontend, Frontend::NodePort { .. }), count };
        if before.is_none() || after.is_none() || old_count != new_count {
            match (&before, old_count) {
                (None, _) => {}
                (Some(_), 0) => plan.deletes.push(Piece::NoEndpoints(frontend)),
                (Some(_), count) => {
                    plan.deletes.push(Piece::Balance(frontend, count));
                    self.release(balancer(count));
                }
            }
            match (&after, new_count) {
                (None, _) => {}
                (Some(_), 0) => plan.adds.push(Piece::NoEndpoints(frontend)),
                (Some(_), count) => {
                    if self.acquire(balancer(count)) {
                        plan.balancers.push((self.family, balancer(count)));
                    }
                    plan.adds.push(Piece::Balance(frontend, count));
                }
            }
        }
        for (place, i) in (0..old_count.max(new_count)).zip(0..) {
            match (old.get(i).map(Backend::address), new.get(i).map(Backend::address)) {
                (Some(old), Some(new)) if old == new => {}
                (old, Some((ip, port))) => {
                    // A place may be a leftover of this very step, when a frontend passes from one Service to another.
                    let standing = old.or_else(|| self.leftovers.remove(&(frontend, place)).map(|leftover| leftover.address));
                    if standing != Some((ip, port)) {
                        plan.deletes.extend(standing.map(|(ip, port)| Piece::Place(frontend, place, ip, port)));
                        plan.adds.push(Piece::Place(frontend, place, ip, port));
                    }
                }
                (Some(address), None) => self.add_leftover(frontend, place, address),
                (None, None) => {}
            }
        }
        self.count_shared(frontend, before.as_deref(), after.as_deref());
        plan.flows.extend(UdpFlows::after(frontend, [old, &was], [new, &still]));
    }

    /// A frontend leads to this chain from now on. True if it must be made.
    fn acquire(&mut self, balancer: Balancer) -> bool {
        *self.balancers.entry(balancer).or_default() += 1;
        self.balancers.get(&balancer) == Some(&1) && self.idle.remove(&balancer).is_none()
    }

    /// A frontend doesn't lead to this chain any more.
    fn release(&mut self, balancer: Balancer) {
        if let Some(count) = self.balancers.get_mut(&balancer) {
            *count -= 1;
            if *count == 0 {
                self.balancers.remove(&balancer);
                self.idle.insert(balancer, self.now);
            }
        }
    }

    /// Counts what several frontends may need: an element for it exists while the count isn't 0.
    fn count_shared(&mut self, frontend: Frontend, before: Option<&[Backend]>, after: Option<&[Backend]>) {
        for (backends, by) in [(before, -1), (after, 1)] {
            let Some(backends) = backends else { continue };
            if let Frontend::ClusterIp { ip, .. } = frontend {
                self.cluster_ips.count(ip, by);
            }
            for backend in backends.iter().filter(|b| b.local) {
                self.hairpins.count((backend.ip, frontend.protocol(), backend.port), by);
            }
        }
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
