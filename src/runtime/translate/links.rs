//! Variables that tell a container where Services are ("service links").
//!
//! The names are those that Docker's container links had; programs in the field and every in-cluster client read them.

use std::collections::BTreeMap;

use crate::model::service::{Protocol, Service, ServiceMap, ServiceName};

/// The Service whose variables every container gets: in-cluster clients find the API server by them.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// Variables of the API server's Service, and with `links` (spec.enableServiceLinks) of all Services in the namespace.
pub fn service_links(services: &ServiceMap, namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let api_server = ServiceName { namespace: API_SERVER.0.into(), name: API_SERVER.1.into() };
    if let Some(service) = services.get(&api_server) {
        add(&mut out, service);
    }
    if links {
        let first = ServiceName { namespace: namespace.into(), name: "".into() };
        let own = services.range(first..).take_while(|(id, _)| &*id.namespace == namespace);
        own.for_each(|(_, service)| add(&mut out, service));
    }
    out
}

fn add(out: &mut BTreeMap<String, String>, service: &Service) {
    // Headless Services have neither an address nor variables.
    let (Some(ip), Some(first)) = (service.cluster_ips.first(), service.ports.first()) else { return };
    let prefix = variable(&service.id.name);
    let host_port = |port: u16| std::net::SocketAddr::new(*ip, port);
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_string());
    out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    out.insert(format!("{prefix}_PORT"), format!("{}://{}", lower(first.protocol), host_port(first.port)));
    for port in &service.ports {
        if !port.name.is_empty() {
            out.insert(format!("{prefix}_SERVICE_PORT_{}", variable(&port.name)), port.port.to_string());
        }
        let protocol = lower(port.protocol);
        let name = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        out.insert(format!("{name}_PROTO"), protocol.into());
        out.insert(format!("{name}_PORT"), port.port.to_string());
        out.insert(format!("{name}_ADDR"), ip.to_string());
        out.insert(name, format!("{protocol}://{}", host_port(port.port)));
    }
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn lower(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::translate::tests::service;

    fn services() -> ServiceMap {
        let all = [
            service("default", "kubernetes", "10.96.0.1", &[("https", Protocol::Tcp, 443)]),
            service("default", "other", "10.96.0.2", &[("", Protocol::Tcp, 1)]),
            service("shop", "my-db", "fd00::9", &[("sql", Protocol::Tcp, 5432), ("dns-u", Protocol::Udp, 53)]),
            service("shop-2", "x", "10.96.0.3", &[("", Protocol::Tcp, 1)]),
        ];
        all.into_iter().map(|s| (s.id.clone(), s.into())).collect()
    }

    fn show(vars: BTreeMap<String, String>) -> String {
        vars.into_iter().map(|(k, v)| format!("{k}={v}\n")).collect()
    }

    const API: &str = "KUBERNETES_PORT=tcp://10.96.0.1:443\n\
                       KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443\n\
                       KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1\n\
                       KUBERNETES_PORT_443_TCP_PORT=443\n\
                       KUBERNETES_PORT_443_TCP_PROTO=tcp\n\
                       KUBERNETES_SERVICE_HOST=10.96.0.1\n\
                       KUBERNETES_SERVICE_PORT=443\n\
                       KUBERNETES_SERVICE_PORT_HTTPS=443\n";

    #[test]
    fn the_api_server_is_always_there() {
        assert_eq!(show(service_links(&services(), "shop", false)), API);
        assert_eq!(show(service_links(&ServiceMap::new(), "shop", true)), "");
    }

    #[test]
    fn services_of_the_namespace_and_no_others() {
        let own = "MY_DB_PORT=tcp://[fd00::9]:5432\n\
                   MY_DB_PORT_53_UDP=udp://[fd00::9]:53\n\
                   MY_DB_PORT_53_UDP_ADDR=fd00::9\n\
                   MY_DB_PORT_53_UDP_PORT=53\n\
                   MY_DB_PORT_53_UDP_PROTO=udp\n\
                   MY_DB_PORT_5432_TCP=tcp://[fd00::9]:5432\n\
                   MY_DB_PORT_5432_TCP_ADDR=fd00::9\n\
                   MY_DB_PORT_5432_TCP_PORT=5432\n\
                   MY_DB_PORT_5432_TCP_PROTO=tcp\n\
                   MY_DB_SERVICE_HOST=fd00::9\n\
                   MY_DB_SERVICE_PORT=5432\n\
                   MY_DB_SERVICE_PORT_DNS_U=53\n\
                   MY_DB_SERVICE_PORT_SQL=5432\n";
        assert_eq!(show(service_links(&services(), "shop", true)), format!("{API}{own}"));
    }
}
