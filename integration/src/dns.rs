//! The cluster's DNS, as far as upstream's suites ask: addresses of Services by name.
//!
//! In: questions on UDP, through the Service `kube-system/kube-dns`. Out: answers from the API server, asked anew each time. Owns: one
//! socket in the lab's own namespace, and that Service. Survives a run: nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::error::{Doing as _, Error, Result};
use crate::lab::Lab;
use crate::network::{API_SERVER, CLUSTER_DNS};
use crate::place::Scope;

/// Where names of Services end.
const DOMAIN: &str = ".svc.cluster.local";
/// How long an answer may be kept, in seconds: Services come and go in the suites.
const TTL: u32 = 1;
/// A client asks again by itself.
const PATIENCE: Duration = Duration::from_secs(4);

/// Ends with its owner.
pub struct Dns(JoinHandle<()>);

impl Dns {
    /// Serves the lab's pods.
    pub async fn start(lab: &Lab) -> Result<Self> {
        let address = SocketAddr::new(IpAddr::V4(API_SERVER), 53);
        let socket =
            lab.place().enter(Scope::Network, || std::net::UdpSocket::bind(address))?.doing(|| format!("listening on {address}"))?;
        let made = socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket));
        let socket = Arc::new(made.doing(|| "serving DNS")?);
        publish(lab.client()).await?;
        let client = lab.client();
        Ok(Self(tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let question = buffer.get(..length).unwrap_or_default().to_vec();
                let (socket, client) = (Arc::clone(&socket), client.clone());
                tokio::spawn(async move {
                    if let Ok(Some(answer)) = tokio::time::timeout(PATIENCE, answer(&client, &question)).await {
                        let _ = socket.send_to(&answer, from).await;
                    }
                });
            }
        })))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes the Service that pods ask.
async fn publish(client: Client) -> Result<()> {
    let object = |value| serde_json::from_value(value).map_err(|error| Error::Other(format!("the Service of DNS: {error}")));
    let service: Service = object(json!({
        "metadata": {"name": "kube-dns"},
        "spec": {"clusterIP": CLUSTER_DNS, "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]},
    }))?;
    let slice = serde_json::from_value::<EndpointSlice>(json!({
        "metadata": {"name": "kube-dns-lab", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [API_SERVER.to_string()]}],
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}],
    }))
    .map_err(|error| Error::Other(format!("the endpoint of DNS: {error}")))?;
    let doing = || "making the Service of DNS";
    Api::namespaced(client.clone(), "kube-system").create(&PostParams::default(), &service).await.doing(doing)?;
    Api::namespaced(client, "kube-system").create(&PostParams::default(), &slice).await.doing(doing)?;
    Ok(())
}

/// The answer to a question; `None` to what is none.
async fn answer(client: &Client, question: &[u8]) -> Option<Vec<u8>> {
    let asked = Packet::parse(question).ok()?;
    let one = asked.questions.first()?;
    let mut reply = asked.clone().into_reply();
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    let found = match name_of(&one.qname.to_string()) {
        Some((service, namespace)) => lookup(client, &service, &namespace).await,
        None => None,
    };
    let mut owner = one.qname.clone();
    let mut found = found;
    // Clients don't ask for what an alias stands for.
    if let Some(Found::Alias(target)) = &found {
        let alias = Name::new(target).ok()?.into_owned();
        reply.answers.push(ResourceRecord::new(owner, CLASS::IN, TTL, RData::CNAME(CNAME(alias.clone()))));
        found = match name_of(target) {
            Some((service, namespace)) => lookup(client, &service, &namespace).await,
            None => Some(Found::Addresses(vec![])),
        };
        owner = alias;
    }
    match found {
        None | Some(Found::Alias(_)) => *reply.rcode_mut() = RCODE::NameError,
        Some(Found::Addresses(all)) => {
            let wanted = |ip: &&IpAddr| match one.qtype {
                QTYPE::TYPE(TYPE::A) => ip.is_ipv4(),
                QTYPE::TYPE(TYPE::AAAA) => ip.is_ipv6(),
                QTYPE::ANY => true,
                _ => false,
            };
            reply.answers.extend(all.iter().filter(wanted).map(|ip| {
                let data = match ip {
                    IpAddr::V4(ip) => RData::A(A { address: ip.to_bits() }),
                    IpAddr::V6(ip) => RData::AAAA(AAAA { address: ip.to_bits() }),
                };
                ResourceRecord::new(owner.clone(), CLASS::IN, TTL, data)
            }));
        }
    }
    reply.build_bytes_vec().ok()
}

/// Service and namespace of a name.
fn name_of(name: &str) -> Option<(String, String)> {
    let name = name.trim_end_matches('.').to_lowercase();
    let (service, namespace) = name.strip_suffix(DOMAIN)?.split_once('.')?;
    (!namespace.contains('.')).then(|| (service.to_owned(), namespace.to_owned()))
}

enum Found {
    Addresses(Vec<IpAddr>),
    Alias(String),
}

/// What a Service's name stands for; `None` if there is no such Service.
async fn lookup(client: &Client, name: &str, namespace: &str) -> Option<Found> {
    let service: Service = Api::namespaced(client.clone(), namespace).get_opt(name).await.ok()??;
    let spec = service.spec.unwrap_or_default();
    if let Some(target) = spec.external_name.filter(|target| !target.is_empty()) {
        return Some(Found::Alias(target));
    }
    let ips: Vec<IpAddr> = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
    if !ips.is_empty() {
        return Some(Found::Addresses(ips));
    }
    // Headless: its endpoints.
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let endpoints = slices.list(&of).await.ok()?.items.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
    let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false)));
    Some(Found::Addresses(ready.flat_map(|endpoint| endpoint.addresses).filter_map(|ip| ip.parse().ok()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services() {
        let of = |service: &str, namespace: &str| Some((service.to_owned(), namespace.to_owned()));
        assert_eq!(name_of("Web.shop.svc.cluster.local."), of("web", "shop"));
        for name in ["web.svc.cluster.local", "a.web.shop.svc.cluster.local", "example.com", ""] {
            assert_eq!(name_of(name), None, "{name}");
        }
    }
}
