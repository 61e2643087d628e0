//! `KubeProxyConfiguration`: what Services are programmed by.
//!
//! Accepted with all of upstream's fields. Those that say how often kube-proxy works (`syncPeriod`, `qps`, …) have no effect: changes go
//! out when they come.

pub mod alone;
mod schema;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::gates;
use super::view::View;
use crate::model::prefix::Prefix;

pub(super) use schema::PROXY;

/// What Services are programmed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The kernel's nftables. Also if nothing is said: upstream takes iptables then, which does the same slower.
    Nftables,
    /// Rules of the host's iptables.
    Iptables {
        /// Node ports answer on 127.0.0.1 as well.
        localhost_node_ports: bool,
    },
}

/// The settings of the Service proxy, complete and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfiguration {
    /// What Services are programmed in.
    pub mode: Mode,
    /// Where `/healthz` and `/livez` are served.
    pub healthz: SocketAddr,
    /// Where `/metrics` and what is for operators are served.
    pub metrics: SocketAddr,
    /// A port that is in use ends the agent; otherwise it is tried again.
    pub hard_fail: bool,
    /// Endpoints see the node's address in place of the client's, always.
    pub masquerade_all: bool,
    /// The bit of packets that must leave with the node's own address: 0 to 31.
    pub masquerade_bit: u8,
    /// How packets of this node's pods are told from others.
    pub detect_local: DetectLocal,
    /// Where node ports answer.
    pub node_ports: NodePorts,
    /// Settings of the kernel's connection tracking.
    pub conntrack: Conntrack,
    /// The effective document as JSON text.
    effective: Box<str>,
}

/// How packets of this node's pods are told from others.
#[derive(Debug, Clone, PartialEq)]
pub enum DetectLocal {
    /// They come from these ranges, one of each family at most; none: they aren't told apart.
    Ranges(Vec<Prefix>),
    /// They come from the node's own `podCIDRs`.
    NodeCidr,
    /// They come in through this interface; a `*` at the end matches any rest.
    Interface(String),
}

/// Where node ports answer.
#[derive(Debug, Clone, PartialEq)]
pub enum NodePorts {
    /// On the addresses in these ranges; on all addresses of a family without ranges.
    In(Vec<Prefix>),
    /// On the addresses that the Node object names.
    Primary,
}

/// Settings of the kernel's connection tracking; `None` leaves one as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Conntrack {
    /// Most connections: so many for each CPU.
    pub max_per_core: u32,
    /// Most connections: at least so many.
    pub min: u32,
    /// How long a quiet TCP connection is kept.
    pub tcp_established: Duration,
    /// How long a half-closed one is kept.
    pub tcp_close_wait: Duration,
    /// Let packets outside of the window pass.
    pub tcp_be_liberal: bool,
    /// How long a UDP flow without an answer is kept.
    pub udp: Duration,
    /// How long a UDP flow with answers is kept.
    pub udp_stream: Duration,
}

impl ProxyConfiguration {
    /// The body of `/configz`.
    pub fn configz(&self) -> Value {
        json!({"kubeproxy.config.k8s.io": serde_json::from_str::<Value>(&self.effective).unwrap_or_default()})
    }
}

impl Default for ProxyConfiguration {
    fn default() -> Self {
        let mut problems = Vec::new();
        complete(Map::new(), &mut problems)
    }
}

const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

/// Completes a document that was compared with the schema, and checks the rules that look at more than one field. Lines about what is wrong
/// are added to `problems`.
pub(super) fn complete(document: Map<String, Value>, problems: &mut Vec<String>) -> ProxyConfiguration {
    let mut effective = Map::new();
    // Nulls, which kubeadm writes for what it leaves open, are the same as nothing.
    super::document::merge(&mut effective, document);
    super::defaults::fill_with(&mut effective, PROXY);
    let view = View(&effective);
    let mut found = Vec::new();
    gates::check(&view, &mut found);
    let any = view.text("bindAddress").parse().unwrap_or(IpAddr::from([0; 4]));
    let (local, everywhere) = match any {
        IpAddr::V4(_) => (IpAddr::from([127, 0, 0, 1]), IpAddr::from([0; 4])),
        IpAddr::V6(_) => (std::net::Ipv6Addr::LOCALHOST.into(), std::net::Ipv6Addr::UNSPECIFIED.into()),
    };
    let healthz = socket(&view, "healthzBindAddress", (everywhere, HEALTHZ_PORT), &mut found);
    let metrics = socket(&view, "metricsBindAddress", (local, METRICS_PORT), &mut found);
    let mode = view.text("mode");
    if mode == "ipvs" {
        found.push("mode: ipvs is deprecated upstream and not offered here; take nftables, or leave mode out".to_owned());
    }
    let of_mode = if mode == "nftables" { "nftables" } else { "iptables" };
    let bit = view.int(&format!("{of_mode}.masqueradeBit"));
    let configuration = ProxyConfiguration {
        mode: match mode {
            "iptables" => Mode::Iptables { localhost_node_ports: view.is_on("iptables.localhostNodePorts") },
            _ => Mode::Nftables,
        },
        healthz,
        metrics,
        hard_fail: view.is_on("bindAddressHardFail"),
        masquerade_all: view.is_on(&format!("{of_mode}.masqueradeAll")),
        masquerade_bit: u8::try_from(bit).unwrap_or(14),
        detect_local: detect_local(&view, &mut found),
        node_ports: node_ports(&view, &mut found),
        conntrack: Conntrack {
            max_per_core: u32::try_from(view.int("conntrack.maxPerCore")).unwrap_or(0),
            min: u32::try_from(view.int("conntrack.min")).unwrap_or(0),
            tcp_established: view.duration("conntrack.tcpEstablishedTimeout"),
            tcp_close_wait: view.duration("conntrack.tcpCloseWaitTimeout"),
            tcp_be_liberal: view.is_on("conntrack.tcpBeLiberal"),
            udp: view.duration("conntrack.udpTimeout"),
            udp_stream: view.duration("conntrack.udpStreamTimeout"),
        },
        effective: Box::default(),
    };
    problems.extend(found.into_iter().map(|line| format!("KubeProxyConfiguration: {line}")));
    effective.insert("healthzBindAddress".to_owned(), configuration.healthz.to_string().into());
    effective.insert("metricsBindAddress".to_owned(), configuration.metrics.to_string().into());
    effective.insert("kind".to_owned(), "KubeProxyConfiguration".into());
    effective.insert("apiVersion".to_owned(), "kubeproxy.config.k8s.io/v1alpha1".into());
    ProxyConfiguration { effective: Value::Object(effective).to_string().into(), ..configuration }
}

/// `address:port`, or an address alone.
fn socket(view: &View, field: &str, default: (IpAddr, u16), found: &mut Vec<String>) -> SocketAddr {
    let text = view.text(field);
    let read = || {
        let alone = || text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, default.1));
        text.parse::<SocketAddr>().ok().or_else(alone).filter(|socket| socket.port() != 0)
    };
    if text.is_empty() {
        return default.into();
    }
    read().unwrap_or_else(|| {
        found.push(format!("{field}: {text:?} is no address with a port such as 0.0.0.0:{}", default.1));
        default.into()
    })
}

fn prefix(field: &str, text: &str, found: &mut Vec<String>) -> Option<Prefix> {
    text.trim().parse().map_err(|error| found.push(format!("{field}: {error}"))).ok()
}

fn detect_local(view: &View, found: &mut Vec<String>) -> DetectLocal {
    let interface = |field: &str, rest: &str, found: &mut Vec<String>| {
        let name = view.text(field);
        // Linux takes 15 bytes.
        if name.is_empty() || name.len() > 15 {
            found.push(format!("{field}: detectLocalMode needs the name of an interface here, 1 to 15 letters, got {name:?}"));
        }
        DetectLocal::Interface(format!("{name}{rest}"))
    };
    match view.text("detectLocalMode") {
        "NodeCIDR" => DetectLocal::NodeCidr,
        "BridgeInterface" => interface("detectLocal.bridgeInterface", "", found),
        "InterfaceNamePrefix" => interface("detectLocal.interfaceNamePrefix", "*", found),
        _ => {
            let text = view.text("clusterCIDR");
            let ranges: Vec<_> =
                text.split(',').filter(|part| !part.trim().is_empty()).filter_map(|part| prefix("clusterCIDR", part, found)).collect();
            if let [one, other] = ranges.as_slice()
                && one.addr().is_ipv4() == other.addr().is_ipv4()
            {
                found.push(format!("clusterCIDR: {text:?}: two ranges must be one of each family"));
            }
            if ranges.len() > 2 {
                found.push(format!("clusterCIDR: {text:?}: one range, or one of each family"));
            }
            DetectLocal::Ranges(ranges)
        }
    }
}

fn node_ports(view: &View, found: &mut Vec<String>) -> NodePorts {
    let texts = view.texts("nodePortAddresses");
    if texts == ["primary"] || (texts.is_empty() && view.text("mode") == "nftables") {
        return NodePorts::Primary;
    }
    if texts.contains(&"primary") {
        found.push("nodePortAddresses: primary must stand alone".to_owned());
    }
    NodePorts::In(texts.iter().filter(|text| **text != "primary").filter_map(|text| prefix("nodePortAddresses", text, found)).collect())
}
