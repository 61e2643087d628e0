use super::*;

#[test]
fn upgrade_requests() {
    for (headers, want) in [
        (vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1")], true),
        (vec![("connection", "keep-alive, upgrade"), ("upgrade", "websocket")], true),
        (vec![("connection", "keep-alive"), ("connection", "UPGRADE"), ("upgrade", "websocket")], true),
        (vec![("connection", "keep-alive"), ("upgrade", "websocket")], false),
        (vec![("connection", "Upgrade")], false),
        (vec![], false),
    ] {
        let map = headers.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect();
        assert_eq!(is_wanted(&map), want, "{headers:?}");
    }
}

#[test]
fn urls() {
    for (url, address) in [
        ("http://127.0.0.1:4000/exec/secret", Some("127.0.0.1:4000")),
        ("http://[::1]:4000/exec/secret", Some("[::1]:4000")),
        ("http://localhost/exec/secret", Some("localhost:80")),
        ("https://127.0.0.1:4000/exec/secret", None),
        ("/exec/secret", None),
        ("127.0.0.1:4000", None),
        ("", None),
        ("http://", None),
    ] {
        assert_eq!(Target::parse(url).ok().map(|t| t.address).as_deref(), address, "{url}");
    }
}

#[test]
fn the_request_is_repeated_without_what_is_not_for_the_runtime() {
    let target = Target::parse("http://127.0.0.1:4000/exec/secret?x=1").unwrap();
    let headers = [
        ("host", "node:10250"),
        ("authorization", "Bearer t"),
        ("content-length", "0"),
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ("x-forwarded-for", "10.0.0.1"),
    ];
    let headers = headers.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect();
    let request = target.request(&Method::POST, &headers, "10.0.0.2".parse().unwrap()).unwrap();
    assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "/exec/secret?x=1"));
    let all = |name: &str| request.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(all("host"), ["127.0.0.1:4000"]);
    assert_eq!(all("authorization"), [""; 0]);
    assert_eq!(all("connection"), ["Upgrade"]);
    assert_eq!(all("upgrade"), ["SPDY/3.1"]);
    assert_eq!(all("x-stream-protocol-version"), ["v4.channel.k8s.io", "v3.channel.k8s.io"]);
    assert_eq!(all("x-forwarded-for"), ["10.0.0.1", "10.0.0.2"]);
}
