//! UDP flows that conntrack keeps sending to an endpoint that is gone.
//!
//! TCP ends a connection by itself when the peer is gone; a UDP client that keeps its socket open (DNS, QUIC) would be sent to the dead
//! endpoint for as long as it goes on talking. So when a frontend loses an endpoint, or gets its first one, the flows to it that reach
//! none of its endpoints are deleted, and nothing else is: an agent's restart breaks no flow. Endpoints that serve while they terminate
//! keep their flows, and where no endpoint is left, nothing is deleted (upstream's `pkg/proxy/conntrack/cleanup.go`).

mod kernel;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;

use crate::model::service::Protocol;

use super::frontend::{Backend, Frontend, family_of};
use super::route::Route;

pub use kernel::{Kernel, local_addresses};

/// A UDP frontend, and the endpoints whose flows are fine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFlows {
    /// Where clients send.
    pub frontend: Frontend,
    /// Where they may end. Empty: nobody is better than who is gone, so all are left alone.
    pub backends: Box<[Backend]>,
    /// Whether some may end elsewhere; otherwise this is news only for who is about to judge them.
    pub look: bool,
}

impl UdpFlows {
    /// What a change of what a frontend leads to means for its flows; `None`: nothing.
    pub fn after(frontend: Frontend, old: &Route, new: &Route) -> Option<Self> {
        if frontend.protocol() != Protocol::Udp {
            return None;
        }
        let serving = |route: &Route| -> BTreeMap<_, _> {
            route.chosen().chain(route.draining()).map(|backend| (backend.address(), *backend)).collect()
        };
        let (before, after) = (serving(old), serving(new));
        let lost = before.keys().any(|address| !after.contains_key(address));
        let look = !after.is_empty() && (before.is_empty() || lost);
        let changed = lost || before.len() != after.len();
        changed.then(|| Self { frontend, backends: after.into_values().collect(), look })
    }

    /// Whether a flow may end there.
    pub fn allows(&self, answers: (IpAddr, u16)) -> bool {
        self.backends.is_empty() || self.backends.iter().any(|backend| backend.address() == answers)
    }
}

/// One UDP flow as conntrack has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the client sends.
    pub destination: (IpAddr, u16),
    /// Who answers.
    pub answers: (IpAddr, u16),
}

/// Decides which flows are stale.
#[derive(Debug)]
pub struct Judge {
    frontends: HashMap<Frontend, HashSet<(IpAddr, u16)>>,
    local: HashSet<IpAddr>,
}

impl Judge {
    /// `local` are the addresses of this host: a node port counts on these only.
    pub fn new(flows: &[UdpFlows], local: impl IntoIterator<Item = IpAddr>) -> Self {
        let frontends = flows.iter().map(|f| (f.frontend, f.backends.iter().map(Backend::address).collect())).collect();
        Self { frontends, local: local.into_iter().collect() }
    }

    /// The frontend to which a flow goes without ending at one of its endpoints.
    pub fn misses(&self, flow: &Flow) -> Option<Frontend> {
        let (ip, port) = flow.destination;
        let protocol = Protocol::Udp;
        let known = |frontend| self.frontends.get_key_value(&frontend);
        let address = known(Frontend::Address { ip, protocol, port });
        let node_port = || known(Frontend::NodePort { family: family_of(ip), protocol, port }).filter(|_| self.local.contains(&ip));
        address.or_else(node_port).filter(|(_, backends)| !backends.contains(&flow.answers)).map(|(frontend, _)| *frontend)
    }
}

/// A flow that was found to be stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Where its client sends.
    pub frontend: Frontend,
    /// Who answers.
    pub answers: (IpAddr, u16),
    /// How the kernel names it: another flow of the same addresses has another name.
    pub name: Vec<u8>,
}

/// Finds and deletes flows. Errors say what to do.
pub trait Conntrack: Send + 'static {
    /// The stale flows of these frontends.
    fn find(&mut self, flows: Vec<UdpFlows>) -> impl Future<Output = Result<Vec<Stale>, String>> + Send;

    /// Deletes flows, as far as it can; those that have ended meanwhile are no error.
    fn delete(&mut self, stale: Vec<Stale>) -> impl Future<Output = Result<(), String>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Traffic;
    use crate::nft::Family;
    use crate::proxy::endpoints::Selected;
    use crate::proxy::frontend::Role;
    use crate::proxy::route::Standing;

    fn backend(last: u8) -> Backend {
        Backend { ip: [10, 0, 0, last].into(), port: 53, local: false }
    }

    #[test]
    fn only_losses_and_first_endpoints_of_udp_are_looked_at() {
        let udp = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Udp, port: 30053 };
        let tcp = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Tcp, port: 30053 };
        let route = |chosen: &[u8], serving: &[u8]| {
            let list = |of: &[u8]| of.iter().map(|last| backend(*last)).collect::<Vec<_>>();
            let selected = Selected { cluster: list(chosen), any: !chosen.is_empty(), serving: list(serving), ..Selected::default() };
            Route::decide(udp, Role::External, &Traffic::default(), &selected, None, Standing::default())
        };
        for (old, new, want) in [
            (&[][..], &[][..], false),
            (&[], &[1], true),
            (&[1], &[1, 2], false),
            (&[1, 2], &[2], true),
            (&[1, 2], &[1, 2], false),
            (&[1], &[2], true),
            (&[1], &[], false),
        ] {
            let after = |frontend| UdpFlows::after(frontend, &route(old, &[]), &route(new, &[]));
            assert_eq!(after(udp).is_some_and(|flows| flows.look), want, "{old:?} → {new:?}");
            assert_eq!(after(tcp), None);
        }
        assert_eq!(UdpFlows::after(udp, &route(&[1, 2], &[]), &route(&[2], &[1, 2])), None, "it goes on while it terminates");
        assert!(UdpFlows::after(udp, &route(&[2], &[1]), &route(&[2], &[])).unwrap().look, "it is gone");
        let grown = UdpFlows::after(udp, &route(&[1], &[]), &route(&[1, 2], &[])).unwrap();
        assert!(!grown.look && grown.allows(backend(2).address()));
    }

    #[test]
    fn a_flow_is_stale_if_a_stranger_answers() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let cluster = Frontend::Address { ip: ip(1), protocol: Protocol::Udp, port: 53 };
        let node = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Udp, port: 30053 };
        let flows = [cluster, node].map(|frontend| UdpFlows { frontend, backends: Box::new([backend(1)]), look: true });
        let judge = Judge::new(&flows, [ip(9)]);
        let (fine, gone) = (backend(1).address(), backend(2).address());
        for (destination, answers, want) in [
            ((ip(1), 53), fine, false),
            ((ip(1), 53), gone, true),
            ((ip(1), 53), (ip(1), 53), true), // from before the Service had endpoints
            ((ip(1), 54), gone, false),
            ((ip(2), 53), gone, false),
            ((ip(9), 30053), gone, true),
            ((ip(9), 30053), fine, false),
            ((ip(8), 30053), (ip(8), 30053), false), // somebody else's port of that number
        ] {
            assert_eq!(judge.misses(&Flow { destination, answers }).is_some(), want, "{destination:?} {answers:?}");
        }
    }
}
