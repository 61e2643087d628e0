//! Which endpoints take the connections of a Service port. Pure.

use crate::model::service::{Endpoint, ServicePort};
use crate::nft::Family;

use super::frontend::{Backend, family_of};
use super::tracker::Slice;

/// The endpoints of a Service port in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Who takes new connections.
    pub backends: Vec<Backend>,
    /// Who serves, but takes no new ones: upstream leaves UDP flows to all who serve alone (`pkg/proxy/conntrack/cleanup.go`), as TCP
    /// connections are.
    pub draining: Vec<Backend>,
}

/// The endpoints of a Service port in one family, sorted by address and port, each once.
///
/// Endpoints are matched by the slice port's name and protocol. Ready ones serve; if there is none, those that still serve while they
/// terminate (KEP-1669), so that the last pod of a rolling update finishes its work. An endpoint in two slices counts as the last one
/// that isn't terminating (`pkg/proxy/endpointslicecache.go`): it may have moved, or its address may have been given to a new pod.
pub fn select(slices: &[Slice], port: &ServicePort, family: Family) -> Selected {
    let mut candidates: Vec<(Backend, &Endpoint)> = slices
        .iter()
        .flat_map(|slice| slice.ports.iter().map(move |p| (slice, p)))
        .filter(|(_, p)| p.name == port.name && p.protocol == port.protocol)
        .flat_map(|(slice, p)| slice.endpoints.iter().map(move |e| (Backend { ip: e.ip, port: p.port, local: e.local }, e)))
        .filter(|(backend, _)| family_of(backend.ip) == family)
        .collect();
    candidates.sort_by_key(|(backend, _)| backend.address()); // stable: duplicates stay in the order of their slices
    candidates.dedup_by(|next, kept| {
        let same = next.0.address() == kept.0.address();
        if same && !next.1.terminating {
            *kept = *next;
        }
        same
    });
    let any_ready = candidates.iter().any(|(_, e)| e.ready);
    let serves = |e: &Endpoint| if any_ready { e.ready } else { e.serving && e.terminating };
    let of = |belongs: &dyn Fn(&Endpoint) -> bool| candidates.iter().filter(|(_, e)| belongs(e)).map(|(backend, _)| *backend).collect();
    Selected { backends: of(&serves), draining: of(&|e| e.serving && !serves(e)) }
}

/// Gives each endpoint a place so that as few places as possible change: who has one below the new number of places keeps it, the
/// others take those that became free. `wanted` is sorted by address and port, each once.
pub fn assign(standing: &[Backend], wanted: &[Backend]) -> Box<[Backend]> {
    let mut placed: Vec<Option<Backend>> = vec![None; wanted.len()];
    let mut has_place = vec![false; wanted.len()];
    for (place, old) in placed.iter_mut().zip(standing) {
        if let Ok(i) = wanted.binary_search_by_key(&old.address(), Backend::address)
            && let (Some(new), Some(taken)) = (wanted.get(i), has_place.get_mut(i))
            && !std::mem::replace(taken, true)
        {
            *place = Some(*new);
        }
    }
    let mut others = wanted.iter().zip(has_place).filter(|(_, has)| !has).map(|(new, _)| *new);
    placed.into_iter().filter_map(|place| place.or_else(|| others.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::{EndpointPort, Protocol};

    fn port(name: &str, protocol: Protocol) -> ServicePort {
        ServicePort { name: name.into(), protocol, port: 80, node_port: 0 }
    }

    /// An endpoint as text: address, then `r`eady, `s`erving, `t`erminating, `l`ocal.
    fn endpoint(text: &str) -> Endpoint {
        let (ip, flags) = text.split_once(' ').unwrap();
        let has = |flag| flags.contains(flag);
        Endpoint { ip: ip.parse().unwrap(), ready: has('r'), serving: has('s'), terminating: has('t'), local: has('l'), hints: None }
    }

    fn slice(endpoints: &[&str], ports: &[(&str, Protocol, u16)]) -> Slice {
        Slice {
            name: "s".into(),
            endpoints: endpoints.iter().map(|e| endpoint(e)).collect(),
            ports: ports
                .iter()
                .map(|(name, protocol, port)| EndpointPort { name: (*name).into(), protocol: *protocol, port: *port })
                .collect(),
        }
    }

    fn texts(backends: &[Backend]) -> Vec<String> {
        backends.iter().map(|b| format!("{}:{}{}", b.ip, b.port, if b.local { " local" } else { "" })).collect()
    }

    #[test]
    fn conditions_decide() {
        type Case = (&'static str, &'static [&'static [&'static str]], &'static [&'static str]);
        let cases: [Case; 8] = [
            ("sorted", &[&["10.0.0.2 rs", "10.0.0.1 rs"]], &["10.0.0.1:80", "10.0.0.2:80"]),
            ("not ready", &[&["10.0.0.1 rs", "10.0.0.2 "]], &["10.0.0.1:80"]),
            ("ready beats terminating", &[&["10.0.0.1 rs", "10.0.0.2 st"]], &["10.0.0.1:80"]),
            ("last resort", &[&["10.0.0.1 st", "10.0.0.2 t", "10.0.0.3 s"]], &["10.0.0.1:80"]),
            ("none", &[&["10.0.0.1 t", "10.0.0.2 s"]], &[]),
            ("moved: last wins", &[&["10.0.0.1 rs"], &["10.0.0.1 rsl"]], &["10.0.0.1:80 local"]),
            ("address used again", &[&["10.0.0.1 rsl"], &["10.0.0.1 st"]], &["10.0.0.1:80 local"]),
            ("other family", &[&["fd00::1 rs", "10.0.0.1 rs"]], &["10.0.0.1:80"]),
        ];
        for (what, slices, want) in cases {
            let slices: Vec<_> = slices.iter().map(|e| slice(e, &[("", Protocol::Tcp, 80)])).collect();
            assert_eq!(texts(&select(&slices, &port("", Protocol::Tcp), Family::Ip).backends), want, "{what}");
        }
    }

    #[test]
    fn who_serves_without_being_chosen_keeps_its_flows() {
        for (endpoints, want) in [
            (&["10.0.0.1 rs", "10.0.0.2 st", "10.0.0.3 t", "10.0.0.4 "][..], &["10.0.0.2:80"][..]),
            (&["10.0.0.1 st", "10.0.0.2 s"], &["10.0.0.2:80"]),
            (&["10.0.0.1 t"], &[]),
        ] {
            let slices = [slice(endpoints, &[("", Protocol::Udp, 80)])];
            assert_eq!(texts(&select(&slices, &port("", Protocol::Udp), Family::Ip).draining), want, "{endpoints:?}");
        }
    }

    #[test]
    fn ports_match_by_name_and_protocol() {
        let slices = [
            slice(&["10.0.0.1 rs"], &[("dns", Protocol::Udp, 53), ("dns", Protocol::Tcp, 54), ("web", Protocol::Tcp, 80)]),
            slice(&["10.0.0.2 rs"], &[("web", Protocol::Tcp, 8080)]),
            slice(&["fd00::1 rs"], &[("web", Protocol::Tcp, 80)]),
        ];
        let got = |name, protocol, family| texts(&select(&slices, &port(name, protocol), family).backends);
        assert_eq!(got("dns", Protocol::Udp, Family::Ip), ["10.0.0.1:53"]);
        assert_eq!(got("dns", Protocol::Tcp, Family::Ip), ["10.0.0.1:54"]);
        assert_eq!(got("web", Protocol::Tcp, Family::Ip), ["10.0.0.1:80", "10.0.0.2:8080"]);
        assert_eq!(got("web", Protocol::Tcp, Family::Ip6), ["fd00::1:80"]);
        assert!(got("other", Protocol::Tcp, Family::Ip).is_empty());
    }

    #[test]
    fn places_change_as_little_as_possible() {
        let backends =
            |text: &str| -> Vec<Backend> { text.bytes().map(|b| Backend { ip: [10, 0, 0, b].into(), port: 80, local: false }).collect() };
        for (standing, wanted, want) in [
            ("", "abc", "abc"),
            ("abc", "abc", "abc"),
            ("abc", "bcd", "dbc"), // a swap: one place
            ("abc", "bc", "cb"),   // the first leaves: the last takes its place
            ("abc", "ab", "ab"),
            ("abc", "abcd", "abcd"),
            ("cb", "abc", "cba"),
            ("abc", "", ""),
            ("aab", "ab", "ab"), // a broken table read back: each gets one place
        ] {
            assert_eq!(*assign(&backends(standing), &backends(wanted)), *backends(want), "{standing} → {wanted}");
        }
    }
}
