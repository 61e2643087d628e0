//! UDP flows that conntrack keeps sending to an endpoint that is gone.
//!
//! TCP ends a connection by itself when the peer is gone; a UDP client that keeps its socket open (DNS, QUIC) would be sent to the dead
//! endpoint for as long as it goes on talking. So when a frontend loses an endpoint, or gets its first one, the flows to it that reach
//! none of its endpoints are deleted, and nothing else is: an agent's restart breaks no flow. Endpoints that serve while they terminate
//! keep their flows, and where no endpoint is left, nothing is deleted (upstream's `pkg/proxy/conntrack/cleanup.go`).

mod kernel;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;

use crate::model::service::Protocol;

use super::frontend::{Backend, Frontend, family_of};

pub use kernel::Kernel;

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
    /// What a change of a frontend's endpoints, chosen and draining ones, means for its flows; `None`: nothing.
    pub fn after(frontend: Frontend, old: [&[Backend]; 2], new: [&[Backend]; 2]) -> Option<Self> {
        if frontend.protocol() != Protocol::Udp {
            return None;
        }
        let addresses = |lists: [&[Backend]; 2]| -> HashSet<_> { lists.iter().copied().flatten().map(Backend::address).collect() };
        let (before, after) = (addresses(old), addresses(new));
        let look = !after.is_empty() && (before.is_empty() || !before.is_subset(&after));
        (before != after).then(|| Self { frontend, backends: new.concat().into(), look })
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
        let cluster_ip = known(Frontend::ClusterIp { ip, protocol, port });
        let node_port = || known(Frontend::NodePort { family: family_of(ip), protocol, port }).filter(|_| self.local.contains(&ip));
        cluster_ip.or_else(node_port).filter(|(_, backends)| !backends.contains(&flow.answers)).map(|(frontend, _)| *frontend)
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
    use crate::nft::Family;

    fn backend(last: u8) -> Backend {
        Backend { ip: [10, 0, 0, last].into(), port: 53, local: false }
    }

    #[test]
    fn only_losses_and_first_endpoints_of_udp_are_looked_at() {
        let udp = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Udp, port: 30053 };
        let tcp = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Tcp, port: 30053 };
        let (a, b) = (backend(1), backend(2));
        for (old, new, want) in [
            (vec![], vec![], false),
            (vec![], vec![a], true),
            (vec![a], vec![a, b], false),
            (vec![a, b], vec![b], true),
            (vec![a, b], vec![b, a], false),
            (vec![a], vec![b], true),
            (vec![a], vec![], false),
        ] {
            let after = |old, new| UdpFlows::after(udp, old, new).is_some_and(|flows| flows.look);
            assert_eq!(after([&old, &[]], [&new, &[]]), want, "{old:?} → {new:?}");
            assert_eq!(UdpFlows::after(tcp, [&old, &[]], [&new, &[]]), None);
        }
        assert_eq!(UdpFlows::after(udp, [&[a, b], &[]], [&[b], &[a]]), None, "it goes on while it terminates");
        assert!(UdpFlows::after(udp, [&[b], &[a]], [&[b], &[]]).unwrap().look, "it is gone");
        let grown = UdpFlows::after(udp, [&[a], &[]], [&[a, b], &[]]).unwrap();
        assert!(!grown.look && grown.allows(b.address()));
    }

    #[test]
    fn a_flow_is_stale_if_a_stranger_answers() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let cluster = Frontend::ClusterIp { ip: ip(1), protocol: Protocol::Udp, port: 53 };
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
