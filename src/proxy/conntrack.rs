//! UDP flows that conntrack keeps sending to an endpoint that is gone.
//!
//! TCP ends a connection by itself when the peer is gone; a UDP client that keeps its socket open (DNS, QUIC) would be sent to the dead
//! endpoint for as long as it goes on talking. So when a frontend loses an endpoint, or gets its first one, the flows to it that reach
//! none of its endpoints are deleted, and nothing else is: an agent's restart breaks no flow.

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
    /// Where they may end.
    pub backends: Box<[Backend]>,
}

impl UdpFlows {
    /// What must be looked at after a frontend's endpoints changed, if anything.
    pub fn to_check(frontend: Frontend, old: &[Backend], new: &[Backend]) -> Option<Self> {
        if frontend.protocol() != Protocol::Udp {
            return None;
        }
        let remaining: HashSet<_> = new.iter().map(Backend::address).collect();
        let lost = old.iter().any(|b| !remaining.contains(&b.address()));
        let first = old.is_empty() && !new.is_empty();
        (lost || first).then(|| Self { frontend, backends: new.into() })
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

    /// Whether a flow goes to a frontend, and ends at none of its endpoints.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let (ip, port) = flow.destination;
        let protocol = Protocol::Udp;
        let cluster_ip = self.frontends.get(&Frontend::ClusterIp { ip, protocol, port });
        let node_port = || {
            let backends = self.frontends.get(&Frontend::NodePort { family: family_of(ip), protocol, port })?;
            self.local.contains(&ip).then_some(backends)
        };
        cluster_ip.or_else(node_port).is_some_and(|backends| !backends.contains(&flow.answers))
    }
}

/// Deletes stale flows.
pub trait Conntrack: Send + 'static {
    /// Deletes the stale flows of these frontends; returns how many there were. The error says what to do.
    fn delete_stale(&mut self, flows: Vec<UdpFlows>) -> impl Future<Output = Result<usize, String>> + Send;
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
            (vec![a], vec![], true),
        ] {
            assert_eq!(UdpFlows::to_check(udp, &old, &new).is_some(), want, "{old:?} → {new:?}");
            assert_eq!(UdpFlows::to_check(tcp, &old, &new), None);
        }
    }

    #[test]
    fn a_flow_is_stale_if_a_stranger_answers() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let cluster = Frontend::ClusterIp { ip: ip(1), protocol: Protocol::Udp, port: 53 };
        let node = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Udp, port: 30053 };
        let flows = [cluster, node].map(|frontend| UdpFlows { frontend, backends: Box::new([backend(1)]) });
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
            assert_eq!(judge.is_stale(&Flow { destination, answers }), want, "{destination:?} {answers:?}");
        }
    }
}
