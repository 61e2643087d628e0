use std::collections::HashMap;

use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;
use crate::api::events::EventRates;
use crate::api::fake::FakeApi;
use crate::proxy::checks::{Check, Checks};
use crate::proxy::health::Health;
use crate::proxy::metrics::Metrics;
use crate::proxy::terms::Terms;

struct Proxy {
    health: watch::Sender<Health>,
    checks: watch::Sender<Checks>,
    terms: watch::Sender<Terms>,
    metrics: watch::Sender<Metrics>,
}

impl Proxy {
    fn new() -> (Self, Status) {
        let proxy = Self {
            health: watch::Sender::new(Health::new([Family::Ip])),
            checks: watch::Sender::default(),
            terms: watch::Sender::default(),
            metrics: watch::Sender::default(),
        };
        let status = Status {
            health: proxy.health.subscribe(),
            checks: proxy.checks.subscribe(),
            terms: proxy.terms.subscribe(),
            metrics: proxy.metrics.subscribe(),
        };
        (proxy, status)
    }
}

fn lb() -> ServiceName {
    ServiceName { namespace: "shop".into(), name: "lb".into() }
}

async fn text(response: http::Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

fn node(value: Value) -> Node {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_node_that_goes_is_not_eligible_but_alive() {
    let (proxy, status) = Proxy::new();
    let asked = answers::Asked::default();
    proxy.health.send_modify(|health| health.updated(Family::Ip, Instant::now()));
    let fine = node(json!({"metadata": {"name": "n"}}));
    let leaving = node(json!({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}}));
    let deleted = node(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    for (path, node, want) in [
        ("/healthz", Some(&fine), 200),
        ("/healthz", Some(&leaving), 503),
        ("/healthz", Some(&deleted), 503),
        ("/healthz", None, 503),
        ("/livez", Some(&leaving), 200),
        ("/livez", None, 200),
        ("/other", None, 404),
    ] {
        let (code, text) = text(answers::health(path, &status, node, &asked)).await;
        assert_eq!(code, want, "{path}: {text}");
    }
    let (_, body) = text(answers::health("/healthz", &status, Some(&fine), &asked)).await;
    let report: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&report["nodeEligible"], &report["status"]["IPv4"]["healthy"]), (&json!(true), &json!(true)));
    let year = report["lastUpdated"].as_str().unwrap().get(..2).unwrap().to_owned();
    assert_eq!(year, "20", "{body}");
    let (_, counts) = text(answers::operators("/metrics", Mode::Nftables, &status, &json!({}), &asked)).await;
    for line in ["kubeproxy_proxy_healthz_total{code=\"503\"} 3", "kubeproxy_proxy_livez_total{code=\"200\"} 2"] {
        assert!(counts.lines().any(|got| got == line), "{line}\n{counts}");
    }
}

#[tokio::test]
async fn a_health_check_says_how_many_endpoints_there_are() {
    let (proxy, status) = Proxy::new();
    for (endpoints, want) in [(2, 200), (0, 503)] {
        proxy.checks.send_replace(Checks::from([(lb(), Check { port: 1, endpoints })]));
        let response = answers::check(&lb(), &status);
        assert_eq!(response.headers()["x-load-balancing-endpoint-weight"], endpoints.to_string());
        let (code, body) = text(response).await;
        let wanted = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"lb\"\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": true\n}}"
        );
        assert_eq!((code, body), (want, wanted));
    }
}

#[tokio::test]
async fn listeners_come_and_go_with_their_services() {
    let (proxy, status) = Proxy::new();
    proxy
        .terms
        .send_modify(|terms| terms.node_port_ips = HashMap::from([(Family::Ip, vec![[127, 0, 0, 1].into()]), (Family::Ip6, vec![])]));
    let api = FakeApi::new("node");
    let running = tokio::spawn(checks(status, Recorder::start(Arc::new(api.clone()), "node", EventRates::default())));
    // A port that is free now.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let ask = || async {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        tcp.write_all(b"GET /any HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.ok()?;
        text.lines().next().map(str::to_owned)
    };
    let eventually = async |want: Option<&str>| {
        for _ in 0..200 {
            if ask().await.as_deref() == want {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("never {want:?}");
    };
    proxy.checks.send_replace(Checks::from([(lb(), Check { port, endpoints: 1 })]));
    eventually(Some("HTTP/1.1 200 OK")).await;
    proxy.checks.send_replace(Checks::from([(lb(), Check { port, endpoints: 0 })]));
    eventually(Some("HTTP/1.1 503 Service Unavailable")).await;
    proxy.checks.send_replace(Checks::new());
    eventually(None).await;
    assert_eq!(api.events().len(), 0);

    // Another one, which somebody else has.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    proxy.checks.send_replace(Checks::from([(lb(), Check { port, endpoints: 1 })]));
    for _ in 0..200 {
        if !api.events().is_empty() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let event = api.events().pop().expect("an event");
    assert_eq!((event.reason.as_deref(), event.type_.as_deref()), (Some("FailedToStartServiceHealthcheck"), Some("Warning")));
    let message = event.message.unwrap();
    assert!(message.starts_with("failed to serve the health check of Service shop/lb on 127.0.0.1:"), "{message}");
    running.abort();
}
