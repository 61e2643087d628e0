//! Clients that stay with an endpoint that is gone.
//!
//! Rules remember which endpoint a client of a Service with affinity has got (`affinity`), and send it there again. When an endpoint
//! goes, those of its clients are forgotten, so that they get another one. Nobody else is disturbed.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::nft::{Data, Element, Family, Value};

use super::frontend::{Backend, Frontend, protocol_of};
use super::piece::SetId;
use super::route::Route;

/// With whom the clients of a frontend may stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stays {
    /// The frontend.
    pub frontend: Frontend,
    /// Its endpoints, sorted.
    pub backends: Box<[(IpAddr, u16)]>,
}

impl Stays {
    /// With whom they may stay now; `None`: the frontend has no affinity.
    pub fn of(frontend: Frontend, route: &Route) -> Option<Self> {
        route.sticky()?;
        let mut backends: Vec<_> = route.chosen().map(Backend::address).collect();
        backends.sort_unstable();
        Some(Self { frontend, backends: backends.into() })
    }

    /// What to look at after a change; `None`: nobody can stay with an endpoint that is gone.
    pub fn after(frontend: Frontend, old: &Route, new: &Route) -> Option<Self> {
        // What was learned when it had affinity before may be old.
        let lost = old.sticky().is_none() || old.chosen().any(|backend| !new.chooses(backend.address()));
        lost.then(|| Self::of(frontend, new)).flatten()
    }
}

/// The elements of clients that stay with none of the endpoints of their frontend.
pub fn strays(learned: Vec<Element>, family: Family, stays: &[Stays]) -> Vec<Element> {
    let stays: HashMap<_, _> = stays.iter().map(|stays| (stays.frontend, &stays.backends)).collect();
    let is_stray = |element: &Element| {
        let Some((address, node_port, target)) = read(element, family) else { return false };
        // A port of an address that no Service has is one of the node.
        let backends = stays.get(&address).or_else(|| stays.get(&node_port));
        backends.is_some_and(|backends| backends.binary_search(&target).is_err())
    };
    learned.into_iter().filter(is_stray).map(|element| Element::key(element.key)).collect()
}

/// Where a client connected, if that was an address or if it was a port of the node; and its endpoint.
fn read(element: &Element, family: Family) -> Option<(Frontend, Frontend, (IpAddr, u16))> {
    let key = element.key.values(&SetId::Affinity.key_types(family))?;
    let [_, Value::Ip(ip), Value::Proto(protocol), Value::Port(port)] = key.as_slice() else { return None };
    let (protocol, port) = (protocol_of(*protocol)?, *port);
    let Data::Value(value) = &element.data else { return None };
    let value = value.values(&[family.addr_type(), crate::nft::DataType::Service])?;
    let [Value::Ip(to), Value::Port(to_port)] = value.as_slice() else { return None };
    Some((Frontend::Address { ip: *ip, protocol, port }, Frontend::NodePort { family, protocol, port }, (*to, *to_port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Protocol;
    use crate::nft::Concat;

    #[test]
    fn only_clients_of_what_is_gone_are_forgotten() {
        let ip = |a: u8, d: u8| IpAddr::from([a, 0, 0, d]);
        let learned = |client: u8, to: IpAddr, port: u16, backend: u8| {
            let key = Concat::of(&[Value::Ip(ip(192, client)), Value::Ip(to), Value::Proto(6), Value::Port(port)]);
            Element::value(key, Concat::of(&[Value::Ip(ip(10, backend)), Value::Port(8080)]))
        };
        let protocol = Protocol::Tcp;
        let backends: Box<[_]> = [(ip(10, 1), 8080)].into();
        let stays = [
            Stays { frontend: Frontend::Address { ip: ip(172, 1), protocol, port: 80 }, backends: backends.clone() },
            Stays { frontend: Frontend::NodePort { family: Family::Ip, protocol, port: 30080 }, backends },
        ];
        let all = vec![
            learned(1, ip(172, 1), 80, 1),
            learned(2, ip(172, 1), 80, 2),
            learned(3, ip(172, 1), 81, 2), // another port, which nobody asks about
            learned(4, ip(1, 1), 30080, 1),
            learned(5, ip(1, 1), 30080, 2),
            Element::key(Concat::of(&[Value::Port(1)])),
        ];
        let gone = strays(all.clone(), Family::Ip, &stays);
        assert_eq!(gone, [Element::key(all[1].key.clone()), Element::key(all[4].key.clone())]);
    }
}
