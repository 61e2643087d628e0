//! Which endpoints take the connections of a Service port. Pure.

use crate::model::service::{Endpoint, ServicePort};
use crate::nft::Family;

use super::frontend::{Backend, family_of};
use super::tracker::Slice;

/// The endpoints of a Service port in one family. Lists are sorted by address and port, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Who takes new connections under the Cluster policy.
    pub cluster: Vec<Backend>,
    /// Who takes new connections under the Local policy: endpoints of this node.
    pub local: Vec<Backend>,
    /// Whether anybody takes connections, wherever it is.
    pub any: bool,
    /// Who serves, new connections or old ones: upstream leaves UDP flows to all who serve alone (`pkg/proxy/conntrack/cleanup.go`), as
    /// TCP connections are.
    pub serving: Vec<Backend>,
}

/// The endpoints of a Service port in one family, on a node of this zone.
///
/// Endpoints are matched by the slice port's name and protocol. Ready ones serve; if there is none, those that still serve while they
/// terminate (KEP-1669), so that the last pod of a rolling update finishes its work: judged for the whole cluster and for this node alone.
/// An endpoint in two slices counts as the last one that isn't terminating (`pkg/proxy/endpointslicecache.go`): it may have moved, or its
/// address may have been given to a new pod.
pub fn select(slices: &[Slice], port: &ServicePort, family: Family, zone: Option<&str>) -> Selected {
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
    let of = |belongs: &dyn Fn(&Endpoint) -> bool| -> Vec<Backend> {
        candidates.iter().filter(|(_, e)| belongs(e)).map(|(backend, _)| *backend).collect()
    };
    let ready = || candidates.iter().map(|(_, e)| *e).filter(|e| e.ready);
    let leaves = |e: &Endpoint| !e.ready && e.serving && e.terminating;
    let near = Nearness::of(ready, zone);
    let cluster = of(&|e| e.ready && near.holds(e, zone));
    let cluster = if cluster.is_empty() { of(&leaves) } else { cluster };
    let local = of(&|e| e.ready && e.local);
    let local = if local.is_empty() { of(&|e| leaves(e) && e.local) } else { local };
    Selected { any: !cluster.is_empty(), cluster, local, serving: of(&|e| e.serving) }
}

/// Which of the hints of a port's endpoints count on this node (`pkg/proxy/topology.go`, topologyModeFromHints).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nearness {
    /// Endpoints are used wherever they are.
    None,
    /// Those meant for this zone.
    Zone,
    /// Those meant for this node.
    Node,
}

impl Nearness {
    /// Hints of a kind count only if each ready endpoint has one, and one at least is meant for this place: half a set of hints would
    /// send everybody to few endpoints.
    fn of<'a, I: Iterator<Item = &'a Endpoint>>(ready: impl Fn() -> I, zone: Option<&str>) -> Self {
        let counts = |kind: Self| ready().any(|e| kind.holds(e, zone)) && ready().all(|e| kind.is_hinted(e));
        [Self::Node, Self::Zone].into_iter().find(|kind| counts(*kind)).unwrap_or(Self::None)
    }

    fn is_hinted(self, endpoint: &Endpoint) -> bool {
        endpoint.hints.as_ref().is_some_and(|hints| match self {
            Self::None => true,
            Self::Zone => !hints.zones.is_empty(),
            Self::Node => hints.here.is_some(),
        })
    }

    /// Whether an endpoint is near enough.
    fn holds(self, endpoint: &Endpoint, zone: Option<&str>) -> bool {
        let hints = endpoint.hints.as_deref();
        match self {
            Self::None => true,
            Self::Zone => zone.is_some_and(|zone| hints.is_some_and(|hints| hints.zones.iter().any(|of| **of == *zone))),
            Self::Node => hints.is_some_and(|hints| hints.here == Some(true)),
        }
    }
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
    use crate::model::service::{EndpointPort, Hints, Protocol};

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

    fn of(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
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
            assert_eq!(texts(&select(&slices, &port("", Protocol::Tcp), Family::Ip, None).cluster), want, "{what}");
        }
    }

    #[test]
    fn who_serves_without_being_chosen_keeps_its_flows() {
        for (endpoints, want) in [
            (&["10.0.0.1 rs", "10.0.0.2 st", "10.0.0.3 t", "10.0.0.4 "][..], &["10.0.0.1:80", "10.0.0.2:80"][..]),
            (&["10.0.0.1 st", "10.0.0.2 s"], &["10.0.0.1:80", "10.0.0.2:80"]),
            (&["10.0.0.1 t"], &[]),
        ] {
            let slices = [slice(endpoints, &[("", Protocol::Udp, 80)])];
            assert_eq!(texts(&select(&slices, &port("", Protocol::Udp), Family::Ip, None).serving), want, "{endpoints:?}");
        }
    }

    #[test]
    fn each_policy_falls_back_on_its_own() {
        type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str], bool);
        let cases: [Case; 5] = [
            (&["10.0.0.1 rsl", "10.0.0.2 rs"], &["10.0.0.1:80 local", "10.0.0.2:80"], &["10.0.0.1:80 local"], true),
            (&["10.0.0.1 stl", "10.0.0.2 rs"], &["10.0.0.2:80"], &["10.0.0.1:80 local"], true),
            (&["10.0.0.1 stl", "10.0.0.2 st"], &["10.0.0.1:80 local", "10.0.0.2:80"], &["10.0.0.1:80 local"], true),
            (&["10.0.0.1 tl", "10.0.0.2 rs"], &["10.0.0.2:80"], &[], true),
            (&["10.0.0.1 tl", "10.0.0.2 s"], &[], &[], false),
        ];
        for (endpoints, cluster, local, any) in cases {
            let got = select(&[slice(endpoints, &[("", Protocol::Tcp, 80)])], &port("", Protocol::Tcp), Family::Ip, None);
            assert_eq!((texts(&got.cluster), texts(&got.local), got.any), (of(cluster), of(local), any), "{endpoints:?}");
        }
    }

    #[test]
    fn hints_count_only_if_all_have_them_and_one_is_near() {
        // An endpoint as its last number, the zones that it is meant for, and whether it is meant for this node.
        type Hinted = (u8, &'static [&'static str], Option<bool>);
        let cases: [(&[Hinted], Option<&str>, &[u8]); 8] = [
            (&[(1, &["a"], None), (2, &["b"], None)], Some("a"), &[1]),
            (&[(1, &["a"], None), (2, &["a", "b"], None)], Some("b"), &[2]),
            (&[(1, &["a"], None), (2, &[], None)], Some("a"), &[1, 2]),
            (&[(1, &["a"], None), (2, &["b"], None)], Some("c"), &[1, 2]),
            (&[(1, &["a"], None), (2, &["b"], None)], None, &[1, 2]),
            (&[(1, &["a"], Some(false)), (2, &["b"], Some(true))], Some("a"), &[2]),
            (&[(1, &["a"], Some(false)), (2, &["b"], Some(false))], Some("a"), &[1]),
            (&[(1, &["a"], Some(true)), (2, &["b"], None)], Some("b"), &[2]),
        ];
        for (endpoints, zone, want) in cases {
            let mut slice = slice(&[], &[("", Protocol::Tcp, 80)]);
            let hinted = |&(last, zones, here): &Hinted| {
                let hints = Hints { zones: zones.iter().map(|zone| (*zone).into()).collect(), here };
                Endpoint { hints: Some(Box::new(hints)), ..endpoint(&format!("10.0.0.{last} rsl")) }
            };
            slice.endpoints = endpoints.iter().map(hinted).collect();
            let got = select(&[slice], &port("", Protocol::Tcp), Family::Ip, zone);
            let want: Vec<_> = want.iter().map(|last| format!("10.0.0.{last}:80 local")).collect();
            assert_eq!(texts(&got.cluster), want, "{endpoints:?} in {zone:?}");
            assert_eq!(got.local.len(), endpoints.len(), "hints say nothing about the Local policy");
        }
    }

    #[test]
    fn ports_match_by_name_and_protocol() {
        let slices = [
            slice(&["10.0.0.1 rs"], &[("dns", Protocol::Udp, 53), ("dns", Protocol::Tcp, 54), ("web", Protocol::Tcp, 80)]),
            slice(&["10.0.0.2 rs"], &[("web", Protocol::Tcp, 8080)]),
            slice(&["fd00::1 rs"], &[("web", Protocol::Tcp, 80)]),
        ];
        let got = |name, protocol, family| texts(&select(&slices, &port(name, protocol), family, None).cluster);
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
