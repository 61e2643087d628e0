//! The proxy from watch events to tables, with nftables in memory and paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::conntrack::UdpFlows;
use super::testing::{endpoint_slice, service};
use super::*;
use crate::nft::{Error, Fake, Netfilter, Op, TableId, Transaction};

mod disturbed;
mod faults;
mod flaky;
mod restart;
mod skeleton;

/// Remembers what it was asked to look at.
#[derive(Clone, Default)]
pub struct FakeConntrack(Arc<Mutex<Vec<UdpFlows>>>);

impl Conntrack for FakeConntrack {
    async fn find(&mut self, flows: Vec<UdpFlows>) -> Result<Vec<conntrack::Stale>, String> {
        self.0.lock().unwrap().extend(flows);
        Ok(vec![])
    }

    async fn delete(&mut self, _: Vec<conntrack::Stale>) -> Result<(), String> {
        Ok(())
    }
}

/// A proxy that runs, and the ends of its watches.
struct Running {
    services: UnboundedSender<WatchEvent<Service>>,
    slices: UnboundedSender<WatchEvent<EndpointSlice>>,
    catalog: Catalog,
    conntrack: FakeConntrack,
    task: JoinHandle<()>,
}

impl Running {
    fn start(fake: &Fake) -> Self {
        Self::start_on(fake, Terms::default())
    }

    fn start_on(fake: &Fake, terms: Terms) -> Self {
        let fake = fake.clone();
        Self::start_under(move || std::future::ready(Ok(fake.clone())), terms)
    }

    fn start_with<O>(open: O) -> Self
    where
        O: FnMut() -> std::future::Ready<Result<Fake, Error>> + Send + 'static,
    {
        Self::start_under(open, Terms::default())
    }

    fn start_under<O>(open: O, terms: Terms) -> Self
    where
        O: FnMut() -> std::future::Ready<Result<Fake, Error>> + Send + 'static,
    {
        let conntrack = FakeConntrack::default();
        let proxy = Proxy::new(open, conntrack.clone(), vec![Family::Ip, Family::Ip6], watch::channel(terms).1);
        let catalog = proxy.catalog();
        let ((services, from_services), (slices, from_slices)) = (unbounded(), unbounded());
        let task = tokio::spawn(proxy.run(from_services.boxed(), from_slices.boxed()));
        Self { services, slices, catalog, conntrack, task }
    }

    fn service(&self, event: WatchEvent<Service>) {
        self.services.unbounded_send(event).unwrap();
    }

    fn slice(&self, event: WatchEvent<EndpointSlice>) {
        self.slices.unbounded_send(event).unwrap();
    }

    /// Lets the proxy run until it waits for something new, and leftovers are gone.
    async fn settle() {
        sleep(Duration::from_secs(2)).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn web(fake: &Fake) -> Running {
    let running = Running::start(fake);
    running.service(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80 30080")]));
    running.slice(WatchEvent::Snapshot(vec![endpoint_slice("web", "10.0.0.1 10.0.0.2", "TCP 8080")]));
    Running::settle().await;
    running
}

/// Numbers of removed and added elements.
fn elements(transactions: &[Transaction]) -> (usize, usize) {
    let ops = transactions.iter().flat_map(|t| &t.ops);
    ops.fold((0, 0), |(deletes, adds), op| match op {
        Op::DeleteElements { elements, .. } => (deletes + elements.len(), adds),
        Op::AddElements { elements, .. } => (deletes, adds + elements.len()),
        _ => (deletes, adds),
    })
}

/// The lines of a dump's elements, without blanks.
fn element_lines(dump: &str, word: &str) -> Vec<String> {
    dump.lines().filter(|l| l.contains(word)).map(|l| l.trim().to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_programmed_before_both_watches_have_spoken() {
    let fake = Fake::new();
    let running = Running::start(&fake);
    running.service(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80")]));
    Running::settle().await;
    assert_eq!(fake.dump(), "");
    assert!(running.catalog.synced());
    running.slice(WatchEvent::Snapshot(vec![]));
    Running::settle().await;
    assert!(fake.dump().contains("10.96.0.1 . tcp . 80"), "{}", fake.dump());
}

#[tokio::test(start_paused = true)]
async fn the_first_change_goes_out_at_once_and_the_next_ones_together() {
    let fake = Fake::new();
    let running = web(&fake).await;
    fake.take_applied();
    let start = Instant::now();
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.1 10.0.0.3", "TCP 8080")));
    tokio::task::yield_now().await;
    let first = fake.take_applied();
    assert_eq!((start.elapsed(), first.len(), elements(&first)), (Duration::ZERO, 1, (2, 2)), "cluster IP and node port");
    for last in 4..9 {
        running.slice(WatchEvent::Applied(endpoint_slice("web", &format!("10.0.0.1 10.0.0.{last}"), "TCP 8080")));
        tokio::task::yield_now().await;
    }
    assert!(fake.take_applied().is_empty(), "the window is open");
    sleep(Duration::from_millis(5)).await;
    let next = fake.take_applied();
    assert_eq!((next.len(), elements(&next)), (1, (2, 2)), "only the last of five counts");
}

#[tokio::test(start_paused = true)]
async fn leftovers_go_by_themselves_and_then_nothing_happens() {
    let fake = Fake::new();
    let running = web(&fake).await;
    fake.take_applied();
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.1", "TCP 8080")));
    sleep(Duration::from_millis(900)).await;
    // Another change doesn't hasten it.
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.9", "TCP 8080")));
    sleep(Duration::from_millis(50)).await;
    assert_eq!(element_lines(&fake.dump(), "0x00000001").len(), 2, "{}", fake.dump());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(element_lines(&fake.dump(), "0x00000001").len(), 0);
    fake.take_applied();
    assert!(!fake.dump().contains("chain ip-2"), "{}", fake.dump());
    sleep(Duration::from_secs(3500)).await;
    assert!(fake.take_applied().is_empty());
    sleep(Duration::from_secs(200)).await;
    assert_eq!(elements(&fake.take_applied()), (0, 0), "once an hour everything is compared");
}

#[tokio::test(start_paused = true)]
async fn stale_udp_flows_are_named_with_who_remains() {
    let fake = Fake::new();
    let running = Running::start(&fake);
    running.service(WatchEvent::Snapshot(vec![service("dns", "10.96.0.10", "UDP 53, TCP 53")]));
    running.slice(WatchEvent::Snapshot(vec![endpoint_slice("dns", "10.0.0.1 10.0.0.2", "UDP 53, TCP 53")]));
    Running::settle().await;
    running.conntrack.0.lock().unwrap().clear();
    running.slice(WatchEvent::Applied(endpoint_slice("dns", "10.0.0.2", "UDP 53, TCP 53")));
    Running::settle().await;
    let asked = running.conntrack.0.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].backends.iter().map(|b| b.ip.to_string()).collect::<Vec<_>>(), ["10.0.0.2"]);
}

#[tokio::test(start_paused = true)]
async fn without_families_services_are_only_known() {
    let fake = Fake::new();
    let opened = fake.clone();
    let terms = watch::channel(Terms::default()).1;
    let proxy = Proxy::new(move || std::future::ready(Ok(opened.clone())), FakeConntrack::default(), vec![], terms);
    let (catalog, (services, from_services)) = (proxy.catalog(), unbounded());
    let _task = tokio::spawn(proxy.run(from_services.boxed(), futures::stream::pending().boxed()));
    services.unbounded_send(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80")])).unwrap();
    Running::settle().await;
    assert!(catalog.synced() && catalog.names().len() == 1);
    assert_eq!(fake.dump(), "");
}

#[tokio::test(start_paused = true)]
async fn other_terms_are_programmed_at_once_and_nothing_else_is() {
    let fake = Fake::new();
    let opened = fake.clone();
    let (change, terms) = watch::channel(Terms::default());
    let proxy = Proxy::new(move || std::future::ready(Ok(opened.clone())), FakeConntrack::default(), vec![Family::Ip, Family::Ip6], terms);
    let ((services, from_services), (slices, from_slices)) = (unbounded(), unbounded());
    let _task = tokio::spawn(proxy.run(from_services.boxed(), from_slices.boxed()));
    services.unbounded_send(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80 30080")])).unwrap();
    slices.unbounded_send(WatchEvent::Snapshot(vec![endpoint_slice("web", "10.0.0.1 10.0.0.2", "TCP 8080")])).unwrap();
    Running::settle().await;
    fake.take_applied();
    let ips = std::collections::HashMap::from([(Family::Ip, vec![[192, 0, 2, 1].into()])]);
    change.send(Terms { node_port_ips: ips, ..Terms::default() }).unwrap();
    sleep(Duration::from_millis(50)).await;
    let applied = fake.take_applied();
    assert_eq!((applied.len(), elements(&applied)), (2, (0, 1)), "one a family; one address where node ports answer");
    assert!(fake.dump().contains("ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports"), "{}", fake.dump());
    change.send(Terms::default()).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(elements(&fake.take_applied()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_programmed_is_counted() {
    let fake = Fake::new();
    let open = {
        let fake = fake.clone();
        move || std::future::ready(Ok::<_, Error>(fake.clone()))
    };
    let proxy = Proxy::new(open, FakeConntrack::default(), vec![Family::Ip], watch::channel(Terms::default()).1);
    let metrics = proxy.status().metrics;
    let ((services, from_services), (slices, from_slices)) = (unbounded(), unbounded());
    let task = tokio::spawn(proxy.run(from_services.boxed(), from_slices.boxed()));
    let local = crate::model::service::Traffic { internal_local: true, ..Default::default() };
    let local = Service { traffic: Some(Box::new(local)), ..service("near", "10.96.0.2", "TCP 80") };
    services.unbounded_send(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80"), local])).unwrap();
    slices.unbounded_send(WatchEvent::Snapshot(vec![endpoint_slice("near", "10.0.0.9", "TCP 80")])).unwrap();
    Running::settle().await;
    let now = Duration::from_nanos(crate::model::clock::Clock::System.now().try_into().unwrap());
    let change = |endpoint: &str, triggered| {
        let slice = EndpointSlice { triggered: Some(triggered), ..endpoint_slice("web", endpoint, "TCP 8080") };
        slices.unbounded_send(WatchEvent::Applied(slice)).unwrap();
    };
    change("10.0.0.1", now + Duration::from_secs(1));
    Running::settle().await;
    change("10.0.0.2", Duration::from_secs(1)); // long before the start: somebody else was waited for
    change("fd00::1", now);
    Running::settle().await;
    let text = metrics.borrow().text(false);
    for line in [
        "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"} 1",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"external\"} 0",
    ] {
        assert!(text.lines().any(|got| got == line), "{line}\n{text}");
    }
    slices.unbounded_send(WatchEvent::Applied(endpoint_slice("near", "10.0.0.9l", "TCP 80"))).unwrap();
    Running::settle().await;
    let text = metrics.borrow().text(false);
    assert!(text.contains("no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"} 0"), "{text}");
    task.abort();
}
