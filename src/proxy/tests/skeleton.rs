use super::*;

/// The IPv4 table with one Service of two endpoints and one of none, as `nft list table ip kubelet-rs` shows it. The IPv6 table differs
/// in types and in the address of localhost only.
const WANT: &str = include_str!("table.nft");

#[tokio::test(start_paused = true)]
async fn the_whole_table_reads_like_this() {
    let fake = Fake::new();
    let running = web(&fake).await;
    running.service(WatchEvent::Applied(service("none", "10.96.0.2", "UDP 53")));
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.1 10.0.0.2l", "TCP 8080")));
    Running::settle().await;
    let dump = fake.dump();
    let ip = dump.split("table ip6").next().unwrap_or_default();
    assert_eq!(ip, WANT, "{ip}");
}
