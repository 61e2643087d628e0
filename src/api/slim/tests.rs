use super::*;
use crate::model::service::{Protocol, Traffic};

fn meta(name: &str, label: Option<&str>) -> Option<wire::ObjectMeta> {
    Some(wire::ObjectMeta {
        name: name.into(),
        namespace: "default".into(),
        resource_version: "42".into(),
        labels: label.map(|l| ("kubernetes.io/service-name".to_string(), l.to_string())).into_iter().collect(),
    })
}

fn slice_meta(label: Option<&str>) -> Option<wire::SliceMeta> {
    let wire::ObjectMeta { name, namespace, resource_version, labels } = meta("web-1", label)?;
    Some(wire::SliceMeta { name, namespace, resource_version, labels, annotations: Default::default() })
}

fn port(name: &str, protocol: &str, port: i32, node_port: i32) -> wire::ServicePort {
    wire::ServicePort { name: name.into(), protocol: protocol.into(), port, node_port }
}

fn web() -> wire::Service {
    wire::Service {
        metadata: meta("web", None),
        spec: Some(wire::ServiceSpec {
            ports: vec![port("http", "TCP", 80, 30080), port("dns", "UDP", 53, 0)],
            cluster_ip: "10.96.0.10".into(),
            r#type: "NodePort".into(),
            cluster_ips: vec!["10.96.0.10".into(), "fd00::10".into()],
            ..wire::ServiceSpec::default()
        }),
        status: None,
    }
}

/// An answer to a list, in one piece.
fn list<T: Slim>(body: &[u8], node: &str) -> Result<Objects<T>, DecodeError> {
    let mut reader = ListReader::new(node);
    reader.push(body)?;
    reader.finish()
}

/// One object in its envelope.
fn object<T: Slim>(body: &[u8], node: &str) -> Result<Decoded<T>, DecodeError> {
    T::read(wire::unwrap(body)?, node)
}

/// A length-delimited field.
fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut out).unwrap();
    out.extend_from_slice(bytes);
    out
}

fn envelope(raw: &[u8]) -> Vec<u8> {
    let mut out = b"k8s\0".to_vec();
    out.extend(part(1, b"type meta that nobody reads"));
    out.extend(part(2, raw));
    out
}

fn frame(kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut payload = part(1, kind.as_bytes());
    payload.extend(part(2, &part(1, &envelope(raw))));
    let mut out = (payload.len() as u32).to_be_bytes().to_vec();
    out.extend(payload);
    out
}

#[test]
fn a_service_keeps_its_fields_and_skips_the_unknown() {
    let mut raw = web().encode_to_vec();
    raw.extend(part(3, b"\x0a\x00")); // status
    raw.extend([0x98, 0x06, 0x01]); // an unknown varint field 99
    let got = object::<Service>(&envelope(&raw), "n").unwrap();
    assert_eq!(got.resource_version, "42");
    assert_eq!(got.object.id.to_string(), "default/web");
    assert_eq!(got.object.cluster_ips, ["10.96.0.10".parse::<std::net::IpAddr>().unwrap(), "fd00::10".parse().unwrap()]);
    let ports: Vec<_> = got.object.ports.iter().map(|p| (p.name.as_ref(), p.protocol, p.port, p.node_port)).collect();
    assert_eq!(ports, [("http", Protocol::Tcp, 80, 30080), ("dns", Protocol::Udp, 53, 0)]);
    assert!(got.problems.is_empty());
}

#[test]
fn what_only_some_services_ask_for() {
    let mut wire = web();
    let plain = convert::service(wire.clone());
    assert_eq!(plain.object.traffic, None);
    let spec = wire.spec.as_mut().unwrap();
    spec.r#type = "LoadBalancer".into();
    spec.external_ips = vec!["192.0.2.1".into(), "0.0.0.0".into(), "x".into()];
    spec.session_affinity = "ClientIP".into();
    spec.load_balancer_source_ranges = vec![" 10.0.0.0/8 ".into(), "fd00::/8".into(), "10.0.0.1".into()];
    (spec.external_traffic_policy, spec.internal_traffic_policy) = ("Local".into(), "Local".into());
    spec.health_check_node_port = 31_000;
    let ingress = |ip: &str, mode: Option<&str>| wire::LoadBalancerIngress { ip: ip.into(), ip_mode: mode.map(Into::into) };
    let ingress =
        vec![ingress("192.0.2.7", None), ingress("192.0.2.8", Some("Proxy")), ingress("192.0.2.9", Some("VIP")), ingress("", None)];
    wire.status = Some(wire::ServiceStatus { load_balancer: Some(wire::LoadBalancerStatus { ingress }) });
    let got = convert::service(wire::Service::decode(&*wire.encode_to_vec()).unwrap());
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let want = Traffic {
        affinity: Some(10_800),
        internal_local: true,
        external_local: true,
        external_ips: [ip("192.0.2.1")].into(),
        load_balancer_ips: [ip("192.0.2.7"), ip("192.0.2.9")].into(),
        source_ranges: ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()].into(),
        health_check_port: 31_000,
    };
    assert_eq!(got.object.traffic(), &want);
    assert_eq!(
        got.problems,
        [
            "Service default/web: external IP \"0.0.0.0\" is no IP address",
            "Service default/web: external IP \"x\" is no IP address",
            "Service default/web: source range: \"10.0.0.1\" is no range of addresses such as 10.0.0.0/8 or fd00::/64",
        ]
    );
    // Nobody outside reaches a Service of this type: its policy says nothing.
    let spec = wire.spec.as_mut().unwrap();
    (spec.r#type, spec.external_ips) = ("ClusterIP".into(), vec![]);
    let got = convert::service(wire).object;
    assert!(!got.traffic().external_local && got.traffic().health_check_port == 0);
}

#[test]
fn endpoints_say_whose_clients_they_are_meant_for() {
    let whom = |names: &[&str]| names.iter().map(|name| wire::ForWhom { name: (*name).into() }).collect();
    let hints = |zones: &[&str], nodes: &[&str]| {
        let hints = wire::EndpointHints { for_zones: whom(zones), for_nodes: whom(nodes) };
        let slice = slice(vec![wire::Endpoint { hints: Some(hints), ..endpoint("10.0.0.1", None, [None; 3]) }]);
        convert::slice(slice, "here").object.endpoints[0]
            .hints
            .clone()
            .map(|h| (h.zones.iter().map(ToString::to_string).collect::<Vec<_>>(), h.here))
    };
    assert_eq!(hints(&[], &[]), None);
    assert_eq!(hints(&["a", "b"], &[]), Some((vec!["a".into(), "b".into()], None)));
    assert_eq!(hints(&[], &["there", "here"]), Some((vec![], Some(true))));
    assert_eq!(hints(&[], &["there"]), Some((vec![], Some(false))));
}

#[test]
fn headless_and_external_names_have_no_cluster_ips() {
    for (kind, ip) in [("ClusterIP", "None"), ("ClusterIP", ""), ("ExternalName", "10.0.0.1")] {
        let mut service = web();
        let spec = service.spec.as_mut().unwrap();
        spec.r#type = kind.into();
        spec.cluster_ip = ip.into();
        spec.cluster_ips.clear();
        let got = object::<Service>(&envelope(&service.encode_to_vec()), "n").unwrap();
        assert!(got.object.cluster_ips.is_empty() && got.problems.is_empty(), "{kind} {ip}");
    }
}

#[test]
fn bad_parts_of_a_service_are_named_and_the_rest_lives() {
    let mut service = web();
    let spec = service.spec.as_mut().unwrap();
    spec.cluster_ips = vec!["10.96.0.300".into(), "10.96.0.1".into()];
    spec.ports = vec![port("a", "TCP", 0, 0), port("b", "TCP", 65536, 0), port("c", "ICMP", 1, 0), port("d", "", 80, -1)];
    let got = object::<Service>(&envelope(&service.encode_to_vec()), "n").unwrap();
    assert_eq!(got.object.cluster_ips.len(), 1);
    assert_eq!(got.object.ports.len(), 1);
    assert_eq!(got.object.ports[0].node_port, 0);
    assert_eq!(
        got.problems,
        [
            "Service default/web: cluster IP \"10.96.0.300\" is no IP address",
            "Service default/web: port \"a\" has number 0, which must be 1 to 65535",
            "Service default/web: port \"b\" has number 65536, which must be 1 to 65535",
            "Service default/web: port \"c\" has unknown protocol \"ICMP\"",
            "Service default/web: port \"d\" has node port -1, which must be 0 to 65535",
        ]
    );
}

fn endpoint(address: &str, node: Option<&str>, conditions: [Option<bool>; 3]) -> wire::Endpoint {
    let [ready, serving, terminating] = conditions;
    wire::Endpoint {
        addresses: vec![address.into()],
        conditions: Some(wire::EndpointConditions { ready, serving, terminating }),
        node_name: node.map(Into::into),
        hints: None,
    }
}

fn slice(endpoints: Vec<wire::Endpoint>) -> wire::EndpointSlice {
    wire::EndpointSlice {
        metadata: slice_meta(Some("web")),
        endpoints,
        ports: vec![wire::EndpointPort { name: Some(String::new()), protocol: None, port: Some(8080) }],
        address_type: "IPv4".into(),
    }
}

fn read(slice: &wire::EndpointSlice) -> Decoded<EndpointSlice> {
    object(&envelope(&slice.encode_to_vec()), "node-a").unwrap()
}

#[test]
fn what_a_change_goes_back_to() {
    for (time, want) in
        [("1970-01-01T00:00:10.5Z", Some(std::time::Duration::from_millis(10_500))), ("yesterday", None), ("1969-01-01T00:00:00Z", None)]
    {
        let mut wire = slice(vec![]);
        let annotation = ("endpoints.kubernetes.io/last-change-trigger-time".to_owned(), time.to_owned());
        wire.metadata.as_mut().unwrap().annotations.extend([annotation]);
        assert_eq!(read(&wire).object.triggered, want, "{time}");
    }
}

#[test]
fn conditions_have_the_defaults_of_the_api() {
    let unset = [None, None, None];
    let table = [
        (unset, None, (true, true, false, false)),
        (unset, Some("node-a"), (true, true, false, true)),
        (unset, Some("node-b"), (true, true, false, false)),
        ([Some(false), None, None], None, (false, true, false, false)),
        ([Some(false), Some(true), Some(true)], None, (false, true, true, false)),
    ];
    for (conditions, node, want) in table {
        let got = read(&slice(vec![endpoint("10.0.0.1", node, conditions)])).object.endpoints[0].clone();
        assert_eq!((got.ready, got.serving, got.terminating, got.local), want, "{conditions:?} {node:?}");
    }
}

#[test]
fn bad_parts_of_a_slice_are_named_and_the_rest_lives() {
    let fine = [None, None, None];
    let mut wire = slice(["10.0.0.1", "10.0.0", "fd00::1", "0.0.0.0", "web.example"].map(|a| endpoint(a, None, fine)).to_vec());
    wire.endpoints.push(wire::Endpoint::default());
    wire.ports.push(wire::EndpointPort { name: Some("all".into()), protocol: None, port: None });
    wire.ports.push(wire::EndpointPort { name: Some("big".into()), protocol: None, port: Some(65536) });
    wire.ports.push(wire::EndpointPort { name: Some("odd".into()), protocol: Some("tcp".into()), port: Some(1) });
    let got = read(&wire);
    assert_eq!((got.object.endpoints.len(), got.object.ports.len()), (1, 1));
    assert_eq!(got.problems.len(), 6, "{:#?}", got.problems);
    assert_eq!(got.problems[0], "EndpointSlice default/web-1: endpoint address \"10.0.0\" is no IP address");
    assert_eq!(got.problems[5], "EndpointSlice default/web-1: 2 more problems of this kind");

    wire.metadata = slice_meta(None);
    assert_eq!(read(&wire).object.service.as_ref(), "");
    wire.address_type = "FQDN".into();
    assert!(read(&wire).object.endpoints.is_empty());
}

#[test]
fn a_list_has_items_and_version() {
    let mut raw = part(1, &wire::ListMeta { resource_version: "7".into() }.encode_to_vec());
    for _ in 0..3 {
        raw.extend(part(2, &web().encode_to_vec()));
    }
    let got = list::<Service>(&envelope(&raw), "n").unwrap();
    assert_eq!((got.items.len(), got.resource_version.as_str()), (3, "7"));
}

#[test]
fn frames_are_split_and_read() {
    let stream = [frame("ADDED", &web().encode_to_vec()), frame("DELETED", &web().encode_to_vec())].concat();
    for cut in 0..stream.len() {
        let _ = split_frame(&stream[..cut]).unwrap(); // never an error, whatever arrived so far
    }
    let (first, used) = split_frame(&stream).unwrap().unwrap();
    assert!(matches!(event::<Service>(first, "n").unwrap(), Event::Applied(d) if d.resource_version == "42"));
    let (second, _) = split_frame(&stream[used..]).unwrap().unwrap();
    assert!(matches!(event::<Service>(second, "n").unwrap(), Event::Deleted(_)));
    assert_eq!(split_frame(&[0xff, 0, 0, 0]), Err(DecodeError::FrameTooLong(0xff00_0000)));
}

#[test]
fn bookmarks_and_errors() {
    let bookmark = wire::Bookmark { metadata: Some(wire::BookmarkMeta { resource_version: "9".into() }) };
    let bytes = frame("BOOKMARK", &bookmark.encode_to_vec());
    let got = event::<Service>(&bytes[4..], "n").unwrap();
    assert_eq!(got, Event::Bookmark { resource_version: "9".into() });

    let status = wire::Status { message: "too old".into(), reason: "Expired".into(), code: 410 };
    let bytes = frame("ERROR", &status.encode_to_vec());
    let got = event::<Service>(&bytes[4..], "n").unwrap();
    assert_eq!(got, Event::Error { code: 410, reason: "Expired".into(), message: "too old".into() });

    assert_eq!(event::<Service>(&frame("RENAMED", b"")[4..], "n"), Err(DecodeError::UnknownEvent("RENAMED".into())));
}

proptest::proptest! {
    #[test]
    fn garbage_is_an_error_and_never_a_panic(bytes: Vec<u8>, cut in 0usize..200) {
        let _ = list::<Service>(&envelope(&bytes), "n");
        let _ = object::<EndpointSlice>(&bytes, "n");
        let _ = event::<EndpointSlice>(&bytes, "n");
        let good = envelope(&web().encode_to_vec());
        let _ = object::<Service>(&good[..cut.min(good.len())], "n");
    }
}

#[test]
fn json_is_told_apart() {
    assert_eq!(list::<Service>(b"{\"kind\":\"Status\"}", "n"), Err(DecodeError::NotProtobuf));
}
