use super::*;
use crate::model::service::Traffic;
use crate::proxy::terms::LocalTraffic;

/// The IPv4 table with three Services, as `nft list table ip kubelet-rs` shows it. The IPv6 table differs in types and in the address of
/// localhost only.
const WANT: &str = include_str!("table.nft");

/// `web` has two endpoints, `none` has none, and `lb` asks for all that a Service can ask for.
#[tokio::test(start_paused = true)]
async fn the_whole_table_reads_like_this() {
    let fake = Fake::new();
    let terms = Terms {
        local: LocalTraffic::Ranges(vec!["10.0.0.0/24".parse().unwrap()]),
        node_ips: vec![[192, 0, 2, 1].into()],
        service_ranges: vec!["10.96.0.0/12".parse().unwrap()],
        ..Terms::default()
    };
    let running = Running::start_on(&fake, terms);
    let traffic = Traffic {
        affinity: Some(10_800),
        external_local: true,
        external_ips: [[198, 51, 100, 1].into()].into(),
        load_balancer_ips: [[198, 51, 100, 2].into()].into(),
        source_ranges: ["192.0.2.0/24".parse().unwrap()].into(),
        ..Traffic::default()
    };
    let lb = Service { traffic: Some(Box::new(traffic)), ..service("lb", "10.96.0.3", "TCP 443") };
    running.service(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80 30080"), service("none", "10.96.0.2", "UDP 53"), lb]));
    running.slice(WatchEvent::Snapshot(vec![
        endpoint_slice("web", "10.0.0.1 10.0.0.2l", "TCP 8080"),
        endpoint_slice("lb", "10.0.0.3 10.0.0.4l", "TCP 8443"),
    ]));
    Running::settle().await;
    let dump = fake.dump();
    let ip = dump.split("table ip6").next().unwrap_or_default();
    assert_eq!(ip, WANT, "{ip}");
}
