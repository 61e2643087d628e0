//! Keeps the terms up to date with the node and the cluster.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use tokio::sync::watch;
use tracing::{info, warn};

use super::conntrack::local_addresses;
use super::frontend::family_of;
use super::terms::{LocalTraffic, Terms};
use crate::api::{ErrorKind, WatchEvent};
use crate::config::ProxyConfiguration;
use crate::config::proxy::{DetectLocal, NodePorts};
use crate::model::prefix::Prefix;
use crate::nft::Family;

/// The label with the node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What the terms follow from.
pub struct Surroundings {
    configuration: ProxyConfiguration,
    /// The node's addresses as the agent found them: until the Node object tells its own.
    ips: Vec<IpAddr>,
    ranges: HashMap<String, Vec<Prefix>>,
}

impl Surroundings {
    /// With nothing known but the configuration and the node's own addresses.
    pub fn new(configuration: ProxyConfiguration, ips: Vec<IpAddr>) -> Self {
        Self { configuration, ips, ranges: HashMap::new() }
    }

    /// The terms. `host` are all addresses of this host.
    pub fn terms(&self, node: Option<&Node>, host: &[IpAddr]) -> Terms {
        let configuration = &self.configuration;
        let spec = node.and_then(|node| node.spec.as_ref());
        let node_ips = node.map(internal_ips).filter(|ips| !ips.is_empty()).unwrap_or_else(|| self.ips.clone());
        let local = match &configuration.detect_local {
            DetectLocal::Interface(name) => LocalTraffic::Interface(name.as_str().into()),
            DetectLocal::Ranges(ranges) => LocalTraffic::Ranges(ranges.clone()),
            DetectLocal::NodeCidr => {
                let ranges = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
                LocalTraffic::Ranges(ranges.filter_map(|range| range.parse().ok()).collect())
            }
        };
        let mut service_ranges: Vec<_> = self.ranges.values().flatten().copied().collect();
        service_ranges.sort_unstable();
        service_ranges.dedup();
        Terms {
            masquerade_all: configuration.masquerade_all,
            mark: 1 << configuration.masquerade_bit,
            local,
            node_port_ips: node_port_ips(&configuration.node_ports, &node_ips, host),
            zone: node.and_then(|node| node.metadata.labels.as_ref()?.get(ZONE)).map(|zone| zone.as_str().into()),
            node_ips,
            service_ranges,
        }
    }

    fn apply(&mut self, event: WatchEvent<ServiceCIDR>) {
        let read = |range: &ServiceCIDR| -> Vec<Prefix> {
            // One that is going away still has its addresses in use.
            let ranges = range.spec.as_ref().and_then(|spec| spec.cidrs.as_ref()).into_iter().flatten();
            ranges.filter_map(|text| text.parse().map_err(|error| warn!("a ServiceCIDR holds {error}")).ok()).collect()
        };
        let name = |range: &ServiceCIDR| range.metadata.name.clone().unwrap_or_default();
        match event {
            WatchEvent::Snapshot(all) => self.ranges = all.iter().map(|range| (name(range), read(range))).collect(),
            WatchEvent::Applied(range) => drop(self.ranges.insert(name(&range), read(&range))),
            WatchEvent::Deleted(range) => drop(self.ranges.remove(&name(&range))),
            WatchEvent::Failing(error) if matches!(error.kind, ErrorKind::NotFound(_)) => {} // API servers before 1.33
            WatchEvent::Failing(error) => info!("{error}; cluster IPs that no Service has are left to the network"),
        }
    }

    /// Follows what changes, for as long as somebody listens. Addresses of the host are looked at whenever the Node object changes.
    pub async fn follow(
        mut self,
        mut node: watch::Receiver<Option<Arc<Node>>>,
        mut ranges: BoxStream<'static, WatchEvent<ServiceCIDR>>,
        terms: watch::Sender<Terms>,
    ) {
        loop {
            tokio::select! {
                changed = node.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(event) = ranges.next() => self.apply(event),
                () = terms.closed() => return,
            }
            let now = self.terms(node.borrow_and_update().as_deref(), &addresses());
            terms.send_if_modified(|terms| {
                let changed = *terms != now;
                *terms = now;
                changed
            });
        }
    }
}

/// All addresses of this host; none if the kernel doesn't tell.
pub fn addresses() -> Vec<IpAddr> {
    match local_addresses() {
        Ok(all) => all.collect(),
        Err(error) => {
            warn!("can't read the host's addresses: {error}");
            Vec::new()
        }
    }
}

/// The node's addresses inside the cluster, the primary one of each family first.
fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    addresses.filter(|address| address.type_ == "InternalIP").filter_map(|address| address.address.parse().ok()).collect()
}

/// Where node ports answer, in families where that is not everywhere (`pkg/proxy/util/nodeport_addresses.go`).
fn node_port_ips(setting: &NodePorts, node: &[IpAddr], host: &[IpAddr]) -> HashMap<Family, Vec<IpAddr>> {
    let primary: Vec<_>;
    let ranges = match setting {
        NodePorts::In(ranges) => ranges,
        NodePorts::Primary => {
            primary = node.iter().map(|ip| Prefix::host(*ip)).collect();
            &primary
        }
    };
    let of = |family| {
        let ours: Vec<_> = ranges.iter().filter(|range| family_of(range.addr()) == family).collect();
        let everywhere = ours.is_empty() || ours.iter().any(|range| range.bits() == 0);
        // Localhost can't be masqueraded.
        let inside = |ip: &&IpAddr| !ip.is_loopback() && ours.iter().any(|range| range.contains(**ip));
        let mut ips: Vec<_> = host.iter().filter(inside).copied().collect();
        ips.sort_unstable();
        ips.dedup();
        (!everywhere).then_some((family, ips))
    };
    [Family::Ip, Family::Ip6].into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
    }

    fn with(change: impl FnOnce(&mut ProxyConfiguration)) -> ProxyConfiguration {
        let mut configuration = ProxyConfiguration::default();
        change(&mut configuration);
        configuration
    }

    fn terms(configuration: ProxyConfiguration, node: Option<&Node>) -> Terms {
        let host = ips("127.0.0.1 192.0.2.1 192.0.2.9 10.0.0.1 ::1 fd00::1");
        Surroundings::new(configuration, ips("192.0.2.1 fd00::1")).terms(node, &host)
    }

    #[test]
    fn node_ports_answer_where_they_are_told_to() {
        let of = |setting: NodePorts| {
            let terms = terms(with(|all| all.node_ports = setting), None);
            [Family::Ip, Family::Ip6].map(|family| terms.node_port_ips.get(&family).cloned())
        };
        let within = |texts: &str| NodePorts::In(texts.split_whitespace().map(|text| text.parse().unwrap()).collect());
        assert_eq!(of(within("")), [None, None]);
        assert_eq!(of(within("192.0.2.0/24")), [Some(ips("192.0.2.1 192.0.2.9")), None], "the other family has no range");
        assert_eq!(of(within("192.0.2.0/24 0.0.0.0/0 fd01::/16")), [None, Some(vec![])]);
        assert_eq!(of(within("127.0.0.0/8")), [Some(vec![]), None]);
        assert_eq!(of(NodePorts::Primary), [Some(ips("192.0.2.1")), Some(ips("fd00::1"))]);
    }

    #[test]
    fn the_node_object_tells_its_zone_its_ranges_and_its_addresses() {
        let configuration = with(|all| {
            (all.detect_local, all.node_ports, all.masquerade_bit) = (DetectLocal::NodeCidr, NodePorts::Primary, 3);
        });
        let node = node(json!({
            "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "a"}},
            "spec": {"podCIDRs": ["10.244.1.0/24", "x"]},
            "status": {"addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}]},
        }));
        let terms = terms(configuration, Some(&node));
        assert_eq!(terms.local, LocalTraffic::Ranges(vec!["10.244.1.0/24".parse().unwrap()]));
        assert_eq!((terms.zone.as_deref(), terms.mark), (Some("a"), 8));
        assert_eq!(terms.node_port_ips, HashMap::from([(Family::Ip, ips("10.0.0.1"))]), "it names no address of the other family");
    }

    #[test]
    fn ranges_come_and_go() {
        let range = |name: &str, cidrs: &[&str]| -> ServiceCIDR {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}})).unwrap()
        };
        let mut all = Surroundings::new(ProxyConfiguration::default(), vec![]);
        let told = |all: &Surroundings| all.terms(None, &[]).service_ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        all.apply(WatchEvent::Snapshot(vec![range("kubernetes", &["10.96.0.0/12", "fd00::/108"])]));
        assert_eq!(told(&all), "10.96.0.0/12 fd00::/108");
        all.apply(WatchEvent::Applied(range("more", &["10.0.0.0/16", "x"])));
        assert_eq!(told(&all), "10.0.0.0/16 10.96.0.0/12 fd00::/108");
        all.apply(WatchEvent::Deleted(range("kubernetes", &[])));
        assert_eq!(told(&all), "10.0.0.0/16");
    }
}
