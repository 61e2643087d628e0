//! A host with a proxy, two pods, and a client outside.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use kubelet_rs::api::WatchEvent;
use kubelet_rs::iptables::Programs;
use kubelet_rs::model::service::{Endpoint, EndpointPort, EndpointSlice, Protocol, Service, ServiceName, ServicePort};
use kubelet_rs::nft::{self, Family};
use kubelet_rs::proxy::iptables::{Options, Rules};
use kubelet_rs::proxy::metrics::Metrics;
use kubelet_rs::proxy::{Proxy, conntrack, terms::Terms};
use kubelet_rs::sys::netns;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::host::run;
use crate::place::{Place, eventually};

pub const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// What Services are programmed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nftables,
    Iptables,
}

/// Both modes, both families.
pub const KINDS: [(Mode, Family); 4] =
    [(Mode::Nftables, Family::Ip), (Mode::Nftables, Family::Ip6), (Mode::Iptables, Family::Ip), (Mode::Iptables, Family::Ip6)];

/// Address `host` of link `link`: the host has 254 on each, who is at the other end has 1. Links 1 and 2 are pods, 3 is outside.
pub fn address(family: Family, link: u8, host: u8) -> IpAddr {
    match family {
        Family::Ip => [10, 0, link, host].into(),
        Family::Ip6 => [0xfd01, 0, 0, link.into(), 0, 0, 0, host.into()].into(),
    }
}

/// An address outside of every link, which leads to the host.
pub fn external(family: Family, n: u8) -> IpAddr {
    match family {
        Family::Ip => [198, 51, 100, n].into(),
        Family::Ip6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()].into(),
    }
}

/// Cluster IP number `n`.
pub fn cluster_ip(family: Family, n: u16) -> IpAddr {
    match family {
        Family::Ip => [10, 96, n.to_be_bytes()[0], n.to_be_bytes()[1]].into(),
        Family::Ip6 => [0xfd00, 0x96, 0, 0, 0, 0, 0, n].into(),
    }
}

pub struct World {
    pub mode: Mode,
    pub family: Family,
    /// Pods 1 and 2 and the client outside, at the ends of links 1 to 3.
    pub ends: [Place; 3],
    runtime: Runtime,
    proxy: Option<Watches>,
}

struct Watches {
    terms: watch::Sender<Terms>,
    services: UnboundedSender<WatchEvent<Service>>,
    slices: UnboundedSender<WatchEvent<EndpointSlice>>,
    metrics: watch::Receiver<Metrics>,
    task: JoinHandle<()>,
}

impl World {
    /// Runs a test on the host, with nftables.
    pub fn test(family: Family, test: impl FnOnce(Self) + Send + 'static) {
        Self::test_in(Mode::Nftables, family, test);
    }

    /// Runs a test on the host.
    pub fn test_in(mode: Mode, family: Family, test: impl FnOnce(Self) + Send + 'static) {
        netns::in_new_namespace(move || {
            run("ip", &["link", "set", "lo", "up"]);
            // An address of the namespace's own: these files belong to the reader's namespace.
            for (file, value) in [
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                // The default route leads back to who asks from outside. The kernel would tell it so first, and then say nothing more for a
                // while: no refusal either.
                ("ipv4/conf/all/send_redirects", "0"),
                ("ipv4/conf/default/send_redirects", "0"),
            ] {
                std::fs::write(format!("/proc/sys/net/{file}"), value).unwrap();
            }
            let ends = [1, 2, 3].map(|link| end(family, link));
            // As on a node: cluster IPs are somewhere behind the default route.
            let outside = address(family, 3, 1).to_string();
            run("ip", &[flag(family), "route", "add", "default", "via", &outside]);
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            test(Self { mode, family, ends, runtime, proxy: None });
        })
        .expect("a network namespace of one's own: these tests need root");
    }

    /// Starts the agent, in place of the one that runs, which gets no chance to tidy up.
    pub fn start(&mut self, services: Vec<Service>, slices: Vec<EndpointSlice>) {
        self.start_under(Terms::default(), services, slices);
    }

    /// The same, under these terms.
    pub fn start_under(&mut self, terms: Terms, services: Vec<Service>, slices: Vec<EndpointSlice>) {
        if let Some(old) = self.proxy.take() {
            old.task.abort();
            let _ = self.runtime.block_on(old.task);
        }
        let (terms, terms_out) = watch::channel(terms);
        let ((services_in, services_out), (slices_in, slices_out)) = (unbounded(), unbounded());
        let (metrics, task) = match self.mode {
            Mode::Nftables => {
                let proxy = Proxy::new(nft::Kernel::open, conntrack::Kernel, FAMILIES.to_vec(), terms_out);
                (proxy.status().metrics, self.runtime.spawn(proxy.run(services_out.boxed(), slices_out.boxed())))
            }
            Mode::Iptables => {
                let options = Options { localhost_node_ports: true, drop_invalid: true };
                let open = move || async move { Ok(Rules::new(Programs::open().await?, options)) };
                let proxy = Proxy::new(open, conntrack::Kernel, FAMILIES.to_vec(), terms_out);
                (proxy.status().metrics, self.runtime.spawn(proxy.run(services_out.boxed(), slices_out.boxed())))
            }
        };
        self.proxy = Some(Watches { terms, services: services_in, slices: slices_in, metrics, task });
        self.service(WatchEvent::Snapshot(services));
        self.slice(WatchEvent::Snapshot(slices));
    }

    /// Waits until all that was told is programmed.
    pub fn settle(&self) {
        // Without what clients taught the kernel: that has times which run.
        let rules = || (crate::model::comparable(&self.rules()), self.proxy.as_ref().unwrap().metrics.borrow().pending);
        let mut before = rules();
        eventually(
            "everything is programmed",
            || {
                std::thread::park_timeout(Duration::from_millis(60));
                let now = rules();
                (std::mem::replace(&mut before, now.clone()) == now, now.1)
            },
            |(quiet, pending)| *quiet && *pending == 0,
        );
    }

    /// What stands.
    pub fn rules(&self) -> String {
        match self.mode {
            Mode::Nftables => crate::host::list(),
            Mode::Iptables => {
                let all = run("iptables-save", &[]) + &run("ip6tables-save", &[]);
                // Comments have the time.
                all.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
            }
        }
    }

    pub fn set_terms(&self, terms: Terms) {
        self.proxy.as_ref().unwrap().terms.send(terms).unwrap();
    }

    pub fn service(&self, event: WatchEvent<Service>) {
        self.proxy.as_ref().unwrap().services.unbounded_send(event).unwrap();
    }

    pub fn slice(&self, event: WatchEvent<EndpointSlice>) {
        self.proxy.as_ref().unwrap().slices.unbounded_send(event).unwrap();
    }

    /// A Service with cluster IP number `n`, named `s<n>`: TCP and UDP port 80, and that node port if it isn't 0.
    pub fn make_service(&self, n: u16, node_port: u16) -> Service {
        let port = |name: &str, protocol| ServicePort { name: name.into(), protocol, port: 80, node_port };
        Service {
            id: id(&format!("s{n}")),
            ours: true,
            cluster_ips: vec![cluster_ip(self.family, n)],
            ports: vec![port("tcp", Protocol::Tcp), port("udp", Protocol::Udp)],
            traffic: None,
        }
    }

    /// The slice of Service `s<n>`, with these pods on port 8080.
    pub fn make_slice(&self, n: u16, pods: &[u8]) -> EndpointSlice {
        let endpoint = |pod: &u8| Endpoint {
            ip: address(self.family, *pod, 1),
            ready: true,
            serving: true,
            terminating: false,
            local: true,
            hints: None,
        };
        let port = |name: &str, protocol| EndpointPort { name: name.into(), protocol, port: 8080 };
        EndpointSlice {
            id: id(&format!("s{n}-x")),
            service: format!("s{n}").into(),
            endpoints: pods.iter().map(endpoint).collect(),
            ports: vec![port("tcp", Protocol::Tcp), port("udp", Protocol::Udp)],
            triggered: None,
        }
    }

    /// The terms of the agent that runs.
    pub fn terms(&self) -> Terms {
        self.proxy.as_ref().unwrap().terms.borrow().clone()
    }

    /// The rules that a fresh start on an empty host would make, as text.
    pub fn fresh(&self, services: Vec<Service>, slices: Vec<EndpointSlice>) -> String {
        self.fresh_under(Terms::default(), services, slices)
    }

    /// The same, under these terms.
    pub fn fresh_under(&self, terms: Terms, services: Vec<Service>, slices: Vec<EndpointSlice>) -> String {
        let (fake, families) = (nft::Fake::new(), FAMILIES.to_vec());
        let proxy = Proxy::new(|| std::future::ready(Ok(fake.clone())), conntrack::Kernel, families, watch::channel(terms).1);
        let watch = |event| futures::stream::iter([event]).chain(futures::stream::pending()).boxed();
        let slices = futures::stream::iter([WatchEvent::Snapshot(slices)]).chain(futures::stream::pending()).boxed();
        // Time that passes only while nothing is left to do: the proxy has come to rest then, on the slowest machine too.
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let run = proxy.run(watch(WatchEvent::Snapshot(services)), slices);
            let _ = tokio::time::timeout(Duration::from_millis(300), run).await;
        });
        fake.dump()
    }

    pub fn vip(&self, n: u16) -> SocketAddr {
        (cluster_ip(self.family, n), 80).into()
    }
}

fn id(name: &str) -> ServiceName {
    ServiceName { namespace: "default".into(), name: name.into() }
}

fn flag(family: Family) -> &'static str {
    match family {
        Family::Ip => "-4",
        Family::Ip6 => "-6",
    }
}

/// Makes a link and what is at its other end. Pods serve on port 8080 as `pod1` and `pod2`.
fn end(family: Family, link: u8) -> Place {
    let place = Place::new();
    let (device, thread) = (format!("link{link}"), place.thread.to_string());
    run("ip", &["link", "add", &device, "type", "veth", "peer", "name", "eth0", "netns", &thread]);
    up(family, &device, address(family, link, 254));
    place.run(move || {
        run("ip", &["link", "set", "lo", "up"]);
        up(family, "eth0", address(family, link, 1));
        run("ip", &[flag(family), "route", "add", "default", "via", &address(family, link, 254).to_string()]);
    });
    if link < 3 {
        place.serve(address(family, link, 1), 8080, &format!("pod{link}"));
    }
    place
}

fn up(family: Family, device: &str, ip: IpAddr) {
    let (ip, nodad) = match family {
        Family::Ip => (format!("{ip}/24"), None),
        Family::Ip6 => (format!("{ip}/64"), Some("nodad")),
    };
    run("ip", &["link", "set", device, "up"]);
    let add: Vec<&str> = ["addr", "add", &ip, "dev", device].into_iter().chain(nodad).collect();
    run("ip", &add);
}
