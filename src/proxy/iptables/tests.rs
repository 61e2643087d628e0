//! From watch events to rules, with iptables in memory and paused time.

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::api::WatchEvent;
use crate::iptables::Fake;
use crate::model::service::{EndpointSlice, Service, Traffic};
use crate::proxy::Proxy;
use crate::proxy::terms::LocalTraffic;
use crate::proxy::testing::{endpoint_slice, service};
use crate::proxy::tests::FakeConntrack;

const OPTIONS: Options = Options { localhost_node_ports: true, drop_invalid: true };

struct Running {
    services: UnboundedSender<WatchEvent<Service>>,
    slices: UnboundedSender<WatchEvent<EndpointSlice>>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn terms() -> Terms {
    let local = LocalTraffic::Ranges(vec!["10.0.0.0/16".parse().unwrap()]);
    Terms { local, node_ips: vec![[192, 0, 2, 1].into()], ..Terms::default() }
}

async fn start(fake: &Fake, services: Vec<Service>, slices: Vec<EndpointSlice>) -> Running {
    let open = {
        let fake = fake.clone();
        move || std::future::ready(Ok(Rules::new(fake.clone(), OPTIONS)))
    };
    let proxy = Proxy::new(open, FakeConntrack::default(), vec![Family::Ip, Family::Ip6], watch::channel(terms()).1);
    let ((to_services, from_services), (to_slices, from_slices)) = (unbounded(), unbounded());
    let task = tokio::spawn(proxy.run(from_services.boxed(), from_slices.boxed()));
    to_services.unbounded_send(WatchEvent::Snapshot(services)).unwrap();
    to_slices.unbounded_send(WatchEvent::Snapshot(slices)).unwrap();
    sleep(Duration::from_millis(100)).await;
    Running { services: to_services, slices: to_slices, task }
}

/// The rules of a chain.
fn chain(dump: &str, table: &str, name: &str) -> Vec<String> {
    let text = dump.split_once(&format!("*{table}\n")).unwrap().1.split_once("COMMIT").unwrap().0;
    let prefix = format!("-A {name} ");
    text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// Where the rule with this text in it leads.
fn leads(rules: &[String], what: &str) -> String {
    let rule = rules.iter().find(|rule| rule.contains(what)).unwrap_or_else(|| panic!("{what}: {rules:#?}"));
    crate::iptables::target(rule).unwrap().to_owned()
}

fn with(service: Service, traffic: Traffic) -> Service {
    Service { traffic: Some(Box::new(traffic)), ..service }
}

#[tokio::test(start_paused = true)]
async fn a_service_as_rules() {
    let fake = Fake::default();
    let _running =
        start(&fake, vec![service("web", "10.96.0.1", "TCP 80 30080")], vec![endpoint_slice("web", "10.0.0.1l 10.0.0.2", "TCP 80")]).await;
    let dump = fake.dump(Family::Ip);
    let services = chain(&dump, "nat", "KUBE-SERVICES");
    assert_eq!(
        services[..3],
        [
            "-d 10.96.0.1/32 -p tcp -m tcp --dport 80 ! -s 10.0.0.0/16 -j KUBE-MARK-MASQ",
            "-d 10.96.0.1/32 -p tcp -m tcp --dport 80 -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.0.0.1:80",
            "-m comment --comment \"d/web\" -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:80",
        ]
    );
    assert!(services.last().unwrap().starts_with("-m addrtype --dst-type LOCAL"), "node ports come last: {services:?}");
    assert_eq!(chain(&dump, "nat", "KUBE-NODEPORTS")[0], "-p tcp -m tcp --dport 30080 -j KUBE-MARK-MASQ");
    assert_eq!(chain(&dump, "nat", "KUBE-SVC-HAIRPIN"), ["-s 10.0.0.1/32 -d 10.0.0.1/32 -j KUBE-MARK-MASQ"]);
    assert!(chain(&dump, "nat", "PREROUTING")[0].ends_with("-j KUBE-SERVICES"));
    assert!(!fake.dump(Family::Ip6).contains("10.96.0.1") && fake.dump(Family::Ip6).contains(":KUBE-SERVICES"));
}

#[tokio::test(start_paused = true)]
async fn a_change_writes_what_changed() {
    let fake = Fake::default();
    let services: Vec<_> = (1..=40).map(|n| service(&format!("s{n}"), &format!("10.96.0.{n}"), "TCP 80")).collect();
    let slices = (1..=40).map(|n| endpoint_slice(&format!("s{n}"), "10.0.1.1 10.0.1.2", "TCP 80")).collect();
    let running = start(&fake, services, slices).await;
    fake.take_texts();
    running.slices.unbounded_send(WatchEvent::Applied(endpoint_slice("s7", "10.0.1.1 10.0.1.3", "TCP 80"))).unwrap();
    sleep(Duration::from_secs(5)).await;
    let texts = fake.take_texts();
    assert_eq!(texts.len(), 1, "{texts:#?}");
    assert!(texts[0].contains("-d 10.96.0.7/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.1.3:80"), "{}", texts[0]);
    assert_eq!(texts[0].matches(":KUBE-").count(), 1, "the list that it is found in: {}", texts[0]);
}

#[tokio::test(start_paused = true)]
async fn edits_lead_where_a_fresh_start_leads() {
    let fake = Fake::default();
    let running = start(&fake, vec![], vec![]).await;
    let lb = |ranges: &[&str]| Traffic {
        external_local: true,
        load_balancer_ips: ["198.51.100.1".parse().unwrap()].into(),
        source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        health_check_port: 31_000,
        affinity: Some(60),
        ..Traffic::default()
    };
    let apply = |service: Service| running.services.unbounded_send(WatchEvent::Applied(service)).unwrap();
    let slice = |slice: EndpointSlice| running.slices.unbounded_send(WatchEvent::Applied(slice)).unwrap();
    for n in 1..=60 {
        apply(service(&format!("s{n}"), &format!("10.96.1.{n}"), &format!("TCP 80 {}", 30_000 + n)));
        slice(endpoint_slice(&format!("s{n}"), if n % 20 == 0 { "" } else { "10.0.2.1 10.0.2.2l" }, "TCP 80"));
        sleep(Duration::from_millis(20)).await;
    }
    apply(with(service("lb", "10.96.0.9", "TCP 80 32000"), lb(&["192.0.2.0/24"])));
    slice(endpoint_slice("lb", "10.0.0.1l 10.0.0.2 10.0.0.3l", "TCP 80"));
    sleep(Duration::from_millis(20)).await;
    apply(with(service("lb", "10.96.0.9", "TCP 80 32000"), lb(&[])));
    slice(endpoint_slice("lb", "10.0.0.2", "TCP 80"));
    sleep(Duration::from_millis(20)).await;
    apply(with(service("lb", "10.96.0.9", "TCP 80 32000"), lb(&["203.0.113.0/24", "192.0.2.0/24"])));
    slice(endpoint_slice("lb", "10.0.0.2 10.0.0.4l", "TCP 80"));
    for n in 21..=60 {
        running.services.unbounded_send(WatchEvent::Deleted(service(&format!("s{n}"), &format!("10.96.1.{n}"), "TCP 80"))).unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_secs(5)).await;
    let sorted = |family| {
        let dump = fake.dump(family);
        // Who has which place depends on who was there before.
        let mut lines: Vec<_> =
            dump.lines().filter(|line| !line.contains("statistic") && !line.contains("DNAT --to")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let dump = fake.dump(Family::Ip);
    assert_eq!(
        chain(&dump, "filter", "KUBE-PROXY-FIREWALL"),
        [
            // The node may, and so may who comes with the address that the load balancer and the node may share.
            "-s 192.0.2.0/24 -d 198.51.100.1/32 -p tcp -m tcp --dport 80 -j RETURN",
            "-s 198.51.100.1/32 -d 198.51.100.1/32 -p tcp -m tcp --dport 80 -j RETURN",
            "-s 203.0.113.0/24 -d 198.51.100.1/32 -p tcp -m tcp --dport 80 -j RETURN",
            "-d 198.51.100.1/32 -p tcp -m tcp --dport 80 -j DROP",
        ]
    );
    assert_eq!(chain(&dump, "filter", "KUBE-NODEPORTS"), ["-p tcp -m tcp --dport 31000 -j ACCEPT"]);
    let before = [Family::Ip, Family::Ip6].map(sorted);
    drop(running);
    let services = (1..=20).map(|n| service(&format!("s{n}"), &format!("10.96.1.{n}"), &format!("TCP 80 {}", 30_000 + n)));
    let services = services.chain([with(service("lb", "10.96.0.9", "TCP 80 32000"), lb(&["203.0.113.0/24", "192.0.2.0/24"]))]).collect();
    let slices = (1..=20).map(|n| endpoint_slice(&format!("s{n}"), if n % 20 == 0 { "" } else { "10.0.2.1 10.0.2.2l" }, "TCP 80"));
    let slices = slices.chain([endpoint_slice("lb", "10.0.0.2 10.0.0.4l", "TCP 80")]).collect();
    let _running = start(&fake, services, slices).await;
    assert_eq!([Family::Ip, Family::Ip6].map(sorted), before);
}

#[tokio::test(start_paused = true)]
async fn what_others_remove_comes_back() {
    let fake = Fake::default();
    let _running = start(&fake, vec![service("web", "10.96.0.1", "TCP 80")], vec![endpoint_slice("web", "10.0.0.1", "TCP 80")]).await;
    let want = fake.dump(Family::Ip);
    fake.flush();
    sleep(LOOK + Duration::from_secs(1)).await;
    assert_eq!(fake.dump(Family::Ip), want);
    fake.take_texts();
    sleep(LOOK * 5).await;
    assert_eq!(fake.take_texts().len(), 0, "nothing is written while it stands");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_fails_is_made_up_for() {
    let fake = Fake::default();
    let running = start(&fake, vec![service("web", "10.96.0.1", "TCP 80")], vec![endpoint_slice("web", "10.0.0.1", "TCP 80")]).await;
    fake.break_with(Some("line 7 failed"));
    running.slices.unbounded_send(WatchEvent::Applied(endpoint_slice("web", "10.0.0.2", "TCP 80"))).unwrap();
    sleep(Duration::from_secs(2)).await;
    assert!(fake.dump(Family::Ip).contains("10.0.0.1:80"));
    fake.break_with(None);
    sleep(Duration::from_secs(10)).await;
    let dump = fake.dump(Family::Ip);
    assert!(dump.contains("10.0.0.2:80") && !dump.contains("10.0.0.1:80"), "{dump}");
}

#[tokio::test(start_paused = true)]
async fn many_endpoints_are_spread_in_groups() {
    let fake = Fake::default();
    let all: Vec<_> = (0..200).map(|n| format!("10.0.{}.{}", 1 + n / 100, 1 + n % 100)).collect();
    let _running = start(&fake, vec![service("web", "10.96.0.1", "TCP 80")], vec![endpoint_slice("web", &all.join(" "), "TCP 80")]).await;
    let dump = fake.dump(Family::Ip);
    let svc = leads(&chain(&dump, "nat", "KUBE-SERVICES"), "-d 10.96.0.1/32");
    let groups = chain(&dump, "nat", &svc);
    assert!(groups.len() < 20, "{groups:#?}");
    // The chance of each endpoint, from the chances of the rules that lead to it.
    let mut chances = HashMap::new();
    let spread = |rules: &[String]| -> Vec<(f64, String)> {
        let mut left = 1.0;
        let of = |rule: &String| {
            let chance = rule.split_once("--probability ").map_or(1.0, |(_, rest)| rest.split(' ').next().unwrap().parse::<f64>().unwrap());
            let taken = left * chance;
            left -= taken;
            (taken, rule.clone())
        };
        rules.iter().filter(|rule| !rule.contains("MARK")).map(of).collect()
    };
    for (chance, rule) in spread(&groups) {
        for (within, rule) in spread(&chain(&dump, "nat", crate::iptables::target(&rule).unwrap())) {
            *chances.entry(rule.split_once("--to-destination ").unwrap().1.to_owned()).or_insert(0.0) += chance * within;
        }
    }
    assert_eq!(chances.len(), 200);
    assert!(chances.values().all(|chance: &f64| (chance - 1.0 / 200.0).abs() < 1e-6), "{chances:?}");
}
