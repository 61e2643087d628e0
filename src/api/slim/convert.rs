//! Wire messages to slim types: keeps what is healthy, says what is not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Decoded, wire};
use crate::model::prefix::Prefix;
use crate::model::service::{Endpoint, EndpointPort, EndpointSlice, Hints, Protocol, Service, ServiceName, ServicePort, Traffic};

/// Services with this label belong to another proxy (KEP-2447).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// A slice of a thousand bad endpoints is one mistake, not a thousand lines.
const MAX_PROBLEMS: usize = 5;

/// Collects problems of one object: `Service default/web: …`.
struct Problems {
    object: String,
    lines: Vec<String>,
    more: usize,
}

impl Problems {
    fn of(kind: &str, id: &ServiceName) -> Self {
        Self { object: format!("{kind} {id}"), lines: Vec::new(), more: 0 }
    }

    fn add(&mut self, what: impl FnOnce() -> String) {
        if self.lines.len() < MAX_PROBLEMS {
            self.lines.push(format!("{}: {}", self.object, what()));
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("{}: {} more problems of this kind", self.object, self.more));
        }
        self.lines
    }
}

/// Converts a Service. ExternalName and headless Services have no cluster IPs.
pub fn service(wire: wire::Service) -> Decoded<Service> {
    let (id, resource_version, labels) = identity(wire.metadata.unwrap_or_default());
    let mut problems = Problems::of("Service", &id);
    let mut spec = wire.spec.unwrap_or_default();
    let traffic = traffic(&mut spec, wire.status.unwrap_or_default(), &mut problems);

    let ips = if spec.cluster_ips.is_empty() { vec![spec.cluster_ip] } else { spec.cluster_ips };
    let mut cluster_ips = Vec::with_capacity(ips.len());
    if spec.r#type != "ExternalName" {
        for text in ips.iter().filter(|ip| !ip.is_empty() && *ip != "None") {
            match text.parse::<IpAddr>() {
                Ok(ip) => cluster_ips.push(ip),
                Err(_) => problems.add(|| format!("cluster IP {text:?} is no IP address")),
            }
        }
    }
    cluster_ips.shrink_to_fit();

    let mut ports = Vec::with_capacity(spec.ports.len());
    for port in spec.ports {
        let Some(number) = port_number(port.port) else {
            problems.add(|| format!("port {:?} has number {}, which must be 1 to 65535", port.name, port.port));
            continue;
        };
        let Some(protocol) = protocol(&port.protocol) else {
            problems.add(|| format!("port {:?} has unknown protocol {:?}", port.name, port.protocol));
            continue;
        };
        let node_port = u16::try_from(port.node_port).unwrap_or_else(|_| {
            problems.add(|| format!("port {:?} has node port {}, which must be 0 to 65535", port.name, port.node_port));
            0
        });
        ports.push(ServicePort { name: text(port.name), protocol, port: number, node_port });
    }
    ports.shrink_to_fit();
    Decoded {
        object: Service { id, ours: !labels.contains_key(PROXY_NAME_LABEL), cluster_ips, ports, traffic },
        resource_version,
        problems: problems.finish(),
    }
}

/// How long a client stays with its endpoint when a Service doesn't say (API default).
const AFFINITY_SECONDS: i32 = 10_800;

/// What only some Services ask for; `None` if this one asks for nothing of it.
fn traffic(spec: &mut wire::ServiceSpec, status: wire::ServiceStatus, problems: &mut Problems) -> Option<Box<Traffic>> {
    let mut addresses = |list: Vec<String>, what: &str| -> Box<[IpAddr]> {
        let read = |text: &String| {
            let ip = text.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
            if ip.is_none() {
                problems.add(|| format!("{what} {text:?} is no IP address"));
            }
            ip
        };
        list.iter().filter_map(read).collect()
    };
    let external_ips = addresses(std::mem::take(&mut spec.external_ips), "external IP");
    // The packets of other load balancers arrive with the node's address, and what has only a name is none of ours.
    let is_vip = |ingress: &wire::LoadBalancerIngress| !ingress.ip.is_empty() && ingress.ip_mode.as_deref().is_none_or(|m| m == "VIP");
    let ingress = status.load_balancer.unwrap_or_default().ingress.into_iter().filter(is_vip).map(|ingress| ingress.ip).collect();
    let load_balancer_ips = addresses(ingress, "load balancer IP");
    let source_ranges = std::mem::take(&mut spec.load_balancer_source_ranges).into_iter().filter_map(|text| {
        // The API server lets blanks around them pass.
        let prefix = text.trim().parse::<Prefix>();
        prefix.map_err(|error| problems.add(|| format!("source range: {error}"))).ok()
    });
    let source_ranges = source_ranges.collect();
    let affinity = (spec.session_affinity == "ClientIP").then(|| {
        let client_ip = spec.session_affinity_config.take().unwrap_or_default().client_ip.unwrap_or_default();
        u32::try_from(client_ip.timeout_seconds.unwrap_or(AFFINITY_SECONDS)).unwrap_or(0).max(1)
    });
    // The policy of a Service that is not reachable from outside is none (`pkg/api/v1/service/util.go`).
    let reachable = matches!(spec.r#type.as_str(), "LoadBalancer" | "NodePort") || !external_ips.is_empty();
    let external_local = spec.external_traffic_policy == "Local" && reachable;
    let health_check_port = match spec.r#type == "LoadBalancer" && external_local {
        true => u16::try_from(spec.health_check_node_port).unwrap_or_else(|_| {
            problems.add(|| format!("health check node port {} must be 0 to 65535", spec.health_check_node_port));
            0
        }),
        false => 0,
    };
    let internal_local = spec.internal_traffic_policy == "Local";
    let traffic = Traffic { affinity, internal_local, external_local, external_ips, load_balancer_ips, source_ranges, health_check_port };
    (traffic != Traffic::default()).then(|| Box::new(traffic))
}

/// Whose clients an endpoint is meant for.
fn hints(hints: Option<wire::EndpointHints>, node: &str) -> Option<Box<Hints>> {
    let hints = hints.filter(|hints| !hints.for_zones.is_empty() || !hints.for_nodes.is_empty())?;
    let here = (!hints.for_nodes.is_empty()).then(|| hints.for_nodes.iter().any(|of| of.name == node));
    Some(Box::new(Hints { zones: hints.for_zones.into_iter().map(|of| text(of.name)).collect(), here }))
}

/// Of an EndpointSlice: when the pod or Service changed that made it change.
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Converts an EndpointSlice. A slice whose label names no Service belongs to none: its `service` is empty.
pub fn slice(wire: wire::EndpointSlice, node: &str) -> Decoded<EndpointSlice> {
    let wire::SliceMeta { name, namespace, resource_version, labels, annotations } = wire.metadata.unwrap_or_default();
    let triggered = annotations.get(TRIGGER_ANNOTATION).and_then(|time| since_epoch(time));
    let (id, resource_version, mut labels) = identity(wire::ObjectMeta { name, namespace, resource_version, labels });
    let mut problems = Problems::of("EndpointSlice", &id);
    let service = text(labels.remove(SERVICE_NAME_LABEL).unwrap_or_default());
    if service.is_empty() {
        problems.add(|| format!("it has no label {SERVICE_NAME_LABEL}, so it belongs to no Service"));
    }
    let ipv6 = match wire.address_type.as_str() {
        "IPv4" => Some(false),
        "IPv6" => Some(true),
        "FQDN" => None, // not for proxies (KEP-752)
        other => {
            problems.add(|| format!("unknown address type {other:?}"));
            None
        }
    };
    let mut endpoints = Vec::with_capacity(if ipv6.is_some() { wire.endpoints.len() } else { 0 });
    for endpoint in wire.endpoints {
        let Some(ipv6) = ipv6 else { break };
        // Further addresses of one endpoint are the same pod again; upstream's proxy uses the first one only.
        let Some(address) = endpoint.addresses.first() else {
            problems.add(|| "an endpoint has no address".to_string());
            continue;
        };
        match address.parse::<IpAddr>() {
            Ok(ip) if ip.is_ipv6() == ipv6 && !ip.is_unspecified() => {
                let conditions = endpoint.conditions.unwrap_or_default();
                endpoints.push(Endpoint {
                    ip,
                    ready: conditions.ready.unwrap_or(true),
                    serving: conditions.serving.unwrap_or(true),
                    terminating: conditions.terminating.unwrap_or(false),
                    local: !node.is_empty() && endpoint.node_name.as_deref() == Some(node),
                    hints: hints(endpoint.hints, node),
                });
            }
            Ok(_) => problems.add(|| format!("endpoint address {address:?} is not of address type {}", wire.address_type)),
            Err(_) => problems.add(|| format!("endpoint address {address:?} is no IP address")),
        }
    }
    endpoints.shrink_to_fit();

    let mut ports = Vec::with_capacity(wire.ports.len());
    for port in wire.ports {
        // No number means "all ports", which a proxy can't serve; upstream ignores such entries too.
        let (Some(name), Some(number)) = (port.name, port.port) else { continue };
        let Some(number) = port_number(number) else {
            problems.add(|| format!("port {name:?} has number {number}, which must be 1 to 65535"));
            continue;
        };
        let given = port.protocol.unwrap_or_default();
        let Some(protocol) = protocol(&given) else {
            problems.add(|| format!("port {name:?} has unknown protocol {given:?}"));
            continue;
        };
        ports.push(EndpointPort { name: text(name), protocol, port: number });
    }
    ports.shrink_to_fit();
    Decoded { object: EndpointSlice { id, service, endpoints, ports, triggered }, resource_version, problems: problems.finish() }
}

/// A time as the API writes it, since the epoch. It only feeds a metric: one that can't be read is none.
fn since_epoch(time: &str) -> Option<Duration> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Duration::try_from(time.as_duration()).ok()
}

type Labels = std::collections::HashMap<String, String>;

fn identity(meta: wire::ObjectMeta) -> (ServiceName, String, Labels) {
    (ServiceName { namespace: text(meta.namespace), name: text(meta.name) }, meta.resource_version, meta.labels)
}

/// Empty texts share one allocation: most ports have no name.
fn text(s: String) -> Arc<str> {
    if s.is_empty() { Arc::default() } else { s.into() }
}

fn port_number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|p| *p != 0)
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "" | "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}
