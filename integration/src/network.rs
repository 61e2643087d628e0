//! The lab's network: one bridge in the control plane's namespace, one cable to each node, and routes between their pods.
//!
//! Addresses are the same in every lab, because no lab's interface is ever outside its own namespaces.
//!
//! ```text
//!   control plane 172.30.0.1 ── br0 ──┬── node-1 172.30.0.11, pods 10.244.1.0/24
//!                                     └── node-2 172.30.0.12, pods 10.244.2.0/24      (and the same in IPv6)
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Result;
use crate::place::{Place, Scope};

/// Cluster IPs, IPv4 first: that is the family of a Service that asks for none.
pub const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:96::/112";
/// What all pods' addresses are taken from.
pub const POD_CIDRS: &str = "10.244.0.0/16,fd00:244::/32";
/// Where a cluster's DNS would listen; no DNS runs in the lab.
pub const CLUSTER_DNS: &str = "10.96.0.10";
/// The API server's address on the bridge.
pub const API_SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The first cluster IP: Service `default/kubernetes`.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const API_SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 1);

/// The addresses of one node. `index` counts from 1.
#[derive(Clone, Copy, Debug)]
pub struct NodeNet {
    index: u8,
}

impl NodeNet {
    /// The network of the n-th node, n from 1 to 200.
    pub fn new(index: u8) -> Self {
        Self { index }
    }

    /// The node's InternalIP.
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, 0, 10 + self.index)
    }

    /// The node's second InternalIP.
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, u16::from(10 + self.index))
    }

    /// Both, as `--node-ip` takes them.
    pub fn node_ip(self) -> String {
        format!("{},{}", self.v4(), self.v6())
    }

    fn pods(self) -> [(String, IpAddr); 2] {
        [(format!("10.244.{}.0/24", self.index), self.v4().into()), (format!("fd00:244:{}::/64", self.index), self.v6().into())]
    }

    /// The node's CNI configuration: Debian's bridge and loopback plugins, one address of each family for each pod.
    pub fn cni_conflist(self) -> serde_json::Value {
        let [(v4, _), (v6, _)] = self.pods();
        serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "lab",
            "plugins": [{
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": v4 }], [{ "subnet": v6 }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                },
            }, {
                // hostPort.
                "type": "portmap", "capabilities": { "portMappings": true },
            }],
        })
    }
}

/// What each namespace of the lab needs, whatever runs there.
const SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    // Addresses are ours alone: waiting a second for a duplicate would only make the lab slow.
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    // Answers between two pods on one bridge must pass the NAT that the question passed.
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
];

/// Joins the places to one network.
pub fn connect(control_plane: &Place, nodes: &[(&Place, NodeNet)]) -> Result<()> {
    sysctls(control_plane)?;
    for (node, _) in nodes {
        sysctls(node)?;
    }
    let cables: Vec<(NodeNet, i32)> = nodes.iter().map(|(place, net)| (*net, place.first_pid())).collect();
    batch(control_plane, &control_plane_batch(&cables))?;
    for (place, net) in nodes {
        let others: Vec<NodeNet> = cables.iter().map(|(other, _)| *other).filter(|other| other.index != net.index).collect();
        batch(place, &node_batch(*net, &others))?;
    }
    Ok(())
}

fn batch(place: &Place, lines: &str) -> Result<()> {
    place.run(Scope::Network, "ip", &["-batch", "-"], lines).map(drop)
}

fn sysctls(place: &Place) -> Result<()> {
    place.enter(Scope::Network, || {
        for (name, value) in SYSCTLS {
            // A kernel without IPv6 has no such file: what needs it says so by itself. set-up has seen to bridge netfilter, whose files
            // are there once its module is loaded, in this namespace too.
            let _ = std::fs::write(format!("/proc/sys/{name}"), value);
        }
    })
}

fn control_plane_batch(cables: &[(NodeNet, i32)]) -> String {
    let mut lines = format!(
        "link set lo up\nlink add br0 type bridge\naddr add {API_SERVER}/24 dev br0\naddr add {API_SERVER_V6}/64 dev br0 nodad\nlink set br0 up\n"
    );
    for (net, pid) in cables {
        let port = format!("node{}", net.index);
        let _ = writeln!(lines, "link add {port} type veth peer name eth0 netns {pid}\nlink set {port} master br0\nlink set {port} up");
    }
    // The API server reaches pods (webhooks, proxy) and the nodes' Services answer it through its node.
    for (net, _) in cables {
        routes_to_pods(&mut lines, *net, "br0");
    }
    lines
}

fn node_batch(net: NodeNet, others: &[NodeNet]) -> String {
    let (v4, v6) = (net.v4(), net.v6());
    // Without a default route a cluster IP would have no route, and nothing would get as far as its translation.
    let mut lines = format!(
        "link set lo up\naddr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\nlink set eth0 up\nroute add default via {API_SERVER}\nroute add default via {API_SERVER_V6}\n"
    );
    for other in others {
        routes_to_pods(&mut lines, *other, "eth0");
    }
    lines
}

fn routes_to_pods(lines: &mut String, to: NodeNet, device: &str) {
    for (pods, gateway) in to.pods() {
        let _ = writeln!(lines, "route add {pods} via {gateway} dev {device}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_routes_to_the_pods_of_the_others_and_not_to_its_own() {
        let lines = node_batch(NodeNet::new(1), &[NodeNet::new(2)]);
        assert!(lines.contains("route add 10.244.2.0/24 via 172.30.0.12 dev eth0\n"), "{lines}");
        assert!(lines.contains("route add fd00:244:2::/64 via fd00:30::c dev eth0\n"), "{lines}");
        assert!(!lines.contains("10.244.1.0/24"), "{lines}");
    }

    #[test]
    fn the_control_plane_has_a_cable_to_each_node() {
        let lines = control_plane_batch(&[(NodeNet::new(1), 41), (NodeNet::new(2), 42)]);
        assert!(lines.contains("link add node1 type veth peer name eth0 netns 41\nlink set node1 master br0\n"), "{lines}");
        assert!(lines.contains("link add node2 type veth peer name eth0 netns 42\n"), "{lines}");
    }
}
