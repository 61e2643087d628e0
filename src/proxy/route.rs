//! What a frontend leads to. Pure.
//!
//! | policy | from inside | from outside |
//! |---|---|---|
//! | cluster IP | the endpoints | the endpoints |
//! | cluster IP, `internalTrafficPolicy: Local` | those of this node | those of this node |
//! | external address or node port | the endpoints, with the node's address | the same |
//! | the same, `externalTrafficPolicy: Local` | the endpoints | those of this node, who see the client's address |
//!
//! Inside are this node's pods, where they can be told from others, and the node itself. Nobody anywhere: refused. Nobody on this node,
//! where only those count: dropped, because a load balancer will try another node.

use std::net::IpAddr;

use crate::model::service::{Protocol, Traffic};

use super::endpoints::{Selected, assign};
use super::frontend::{Backend, Frontend, Role};
use super::piece::{Balancer, Piece, Policy, Refusal};

/// What a frontend leads to.
#[derive(Debug, Default)]
pub struct Route {
    /// The chain that takes its packets.
    pub verdict: Option<Balancer>,
    /// What becomes of packets that no endpoint takes.
    pub refusal: Option<Refusal>,
    /// The endpoints that `verdict` chooses from, by place; under `externalTrafficPolicy: Local` those for clients inside.
    pub main: Box<[Backend]>,
    /// What few frontends have.
    rare: Option<Box<Rare>>,
}

/// What few frontends have.
#[derive(Debug, Default)]
struct Rare {
    inside: Option<Balancer>,
    local: Box<[Backend]>,
    ranges: Option<u64>,
    draining: Box<[Backend]>,
}

/// The endpoints of a frontend as they stand, by place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing<'a> {
    /// See [`Route::main`].
    pub main: &'a [Backend],
    /// See [`Route::local`].
    pub local: &'a [Backend],
}

impl Route {
    /// Decides. `ranges` names the chain that keeps clients away from a load balancer's address. Endpoints keep the places where they stand.
    pub fn decide(
        frontend: Frontend,
        role: Role,
        traffic: &Traffic,
        selected: &Selected,
        ranges: Option<u64>,
        standing: Standing<'_>,
    ) -> Self {
        let sticky = traffic.affinity;
        let balancer = |policy, backends: &[Backend]| Balancer {
            node_port: frontend.is_node_port(),
            policy,
            count: u32::try_from(backends.len()).unwrap_or(u32::MAX),
            sticky,
        };
        let split = role != Role::Internal && traffic.external_local;
        let wanted = if role == Role::Internal && traffic.internal_local { &selected.local } else { &selected.cluster };
        let refusal = match (selected.any, split) {
            (false, _) => Some(Refusal::Reject),
            (true, true) => selected.local.is_empty().then_some(Refusal::Drop),
            (true, false) => wanted.is_empty().then_some(Refusal::Drop),
        };
        let local: &[Backend] = if split && selected.any { &selected.local } else { &[] };
        let lists = [wanted.as_slice(), local];
        let chosen = |backend: &&Backend| lists.iter().any(|list| list.binary_search_by_key(&backend.address(), Backend::address).is_ok());
        let draining: Box<[Backend]> = match frontend.protocol() {
            Protocol::Udp => selected.serving.iter().filter(|backend| !chosen(backend)).copied().collect(),
            _ => Box::default(),
        };
        let (verdict, inside) = match (refusal, split, role) {
            (Some(Refusal::Reject), ..) => (None, None),
            (_, true, _) => (Some(balancer(Policy::Local, local)), Some(balancer(Policy::Direct, wanted))),
            (Some(_), ..) => (None, None),
            (None, _, Role::Internal) => (Some(balancer(Policy::Direct, wanted)), None),
            (None, ..) => (Some(balancer(Policy::Masquerade, wanted)), None),
        };
        let rare = Rare { inside, local: assign(standing.local, local), ranges, draining };
        let is_rare = rare.inside.is_some() || rare.ranges.is_some() || !rare.draining.is_empty();
        Self { verdict, refusal, main: assign(standing.main, wanted), rare: is_rare.then(|| Box::new(rare)) }
    }

    /// The chain for clients inside, where they are treated differently.
    pub fn inside(&self) -> Option<Balancer> {
        self.rare.as_ref().and_then(|rare| rare.inside)
    }

    /// The endpoints for clients outside, by place, where they are treated differently.
    pub fn local(&self) -> &[Backend] {
        self.rare.as_ref().map_or(&[], |rare| &rare.local)
    }

    /// The chain that keeps clients away.
    pub fn ranges(&self) -> Option<u64> {
        self.rare.as_ref().and_then(|rare| rare.ranges)
    }

    /// Of UDP: who gets no new flows, but goes on with those it has.
    pub fn draining(&self) -> &[Backend] {
        self.rare.as_ref().map_or(&[], |rare| &rare.draining)
    }

    /// The elements that it takes, besides those of the endpoints.
    pub fn pieces(&self, frontend: Frontend) -> impl Iterator<Item = Option<Piece>> + use<> {
        [
            self.verdict.map(|balancer| Piece::Balance(frontend, balancer)),
            self.inside().map(|balancer| Piece::Inside(frontend, balancer)),
            self.refusal.map(|refusal| Piece::NoEndpoints(frontend, refusal)),
            self.ranges().map(|ranges| Piece::Firewall(frontend, ranges)),
            self.sticky().map(|seconds| Piece::Sticky(frontend, seconds)),
        ]
        .into_iter()
    }

    /// The endpoints as they stand.
    pub fn standing(&self) -> Standing<'_> {
        Standing { main: &self.main, local: self.local() }
    }

    /// All who get new connections; some twice.
    pub fn chosen(&self) -> impl Iterator<Item = &Backend> {
        self.main.iter().chain(self.local())
    }

    /// For how many seconds clients stay with their endpoints.
    pub fn sticky(&self) -> Option<u32> {
        self.verdict.and_then(|balancer| balancer.sticky)
    }

    /// Whether an endpoint gets new connections.
    pub fn chooses(&self, address: (IpAddr, u16)) -> bool {
        self.chosen().any(|backend| backend.address() == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(last: u8, local: bool) -> Backend {
        Backend { ip: [10, 0, 0, last].into(), port: 80, local }
    }

    /// What becomes of a frontend: the chain, the chain for clients inside, and the refusal.
    fn route(role: Role, traffic: &Traffic, cluster: usize, local: usize, any: bool) -> String {
        let list = |count: usize, local| (0..count).map(|n| backend(n as u8, local)).collect::<Vec<_>>();
        let selected = Selected { cluster: list(cluster, false), local: list(local, true), any, serving: vec![] };
        let frontend = Frontend::Address { ip: [10, 96, 0, 1].into(), protocol: Protocol::Tcp, port: 80 };
        let route = Route::decide(frontend, role, traffic, &selected, None, Standing::default());
        let chain = |balancer: Option<Balancer>| balancer.map_or("-".to_owned(), Balancer::name);
        format!("{} {} {:?}", chain(route.verdict), chain(route.inside()), route.refusal)
    }

    #[test]
    fn policies_decide() {
        let usual = Traffic::default();
        let internal = Traffic { internal_local: true, ..Traffic::default() };
        let external = Traffic { external_local: true, ..Traffic::default() };
        let sticky = Traffic { external_local: true, affinity: Some(60), ..Traffic::default() };
        for (role, traffic, (cluster, local, any), want) in [
            (Role::Internal, &usual, (2, 1, true), "ip-2 - None"),
            (Role::Internal, &usual, (0, 0, false), "- - Some(Reject)"),
            (Role::Internal, &internal, (2, 1, true), "ip-1 - None"),
            (Role::Internal, &internal, (2, 0, true), "- - Some(Drop)"),
            (Role::Internal, &internal, (0, 0, false), "- - Some(Reject)"),
            (Role::Internal, &external, (2, 1, true), "ip-2 - None"),
            (Role::External, &usual, (2, 1, true), "ip-masquerade-2 - None"),
            (Role::External, &internal, (2, 0, true), "ip-masquerade-2 - None"),
            (Role::External, &external, (2, 1, true), "ip-local-1 ip-2 None"),
            (Role::LoadBalancer, &external, (2, 0, true), "ip-local-0 ip-2 Some(Drop)"),
            (Role::External, &external, (0, 0, false), "- - Some(Reject)"),
            (Role::External, &sticky, (3, 2, true), "ip-local-2-sticky-60 ip-3-sticky-60 None"),
        ] {
            assert_eq!(route(role, traffic, cluster, local, any), want, "{role:?} {traffic:?}");
        }
    }
}
