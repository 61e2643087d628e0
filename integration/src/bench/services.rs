//! Thousands of Services with hand-made EndpointSlices, each of whose endpoints answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::SERVICES;
use crate::error::{Doing as _, Error, Result};
use crate::lab::Lab;
use crate::place::Scope;

/// The numbers of Services at which changes are measured.
pub const SIZES: [usize; 2] = [1_000, 10_000];
/// The Services' port.
const PORT: u16 = 80;
/// The endpoints' port.
pub const ENDPOINT_PORT: u16 = 9000;
/// Where the endpoints are: the control plane's namespace answers for all of this network. No node's pods are in it.
const ENDPOINT_NETWORK: &str = "10.244.128.0/17";
/// The first number of an endpoint that replaces another one.
const SPARE: usize = 24_000;
/// Requests at the same time.
const WIDTH: usize = 48;

/// The Services that the API server has now.
pub struct Services {
    slices: Api<EndpointSlice>,
    services: Api<Service>,
    /// Each Service's address and the endpoints that may answer.
    made: Vec<(SocketAddr, Vec<Ipv4Addr>)>,
    changes: usize,
    responder: JoinHandle<()>,
}

impl Drop for Services {
    fn drop(&mut self) {
        self.responder.abort();
    }
}

impl Services {
    /// Starts what answers on all endpoints. There are no Services yet.
    pub fn new(lab: &Lab) -> Result<Self> {
        lab.place().run(Scope::Network, "ip", &["route", "add", "local", ENDPOINT_NETWORK, "dev", "lo"], "")?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ENDPOINT_PORT));
        let listener = lab.place().enter(Scope::Network, || std::net::TcpListener::bind(any))?;
        let listener = listener.and_then(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        });
        let responder = tokio::spawn(respond(listener.doing(|| format!("listening on {any}"))?));
        let client = lab.client();
        Ok(Self {
            slices: Api::namespaced(client.clone(), SERVICES),
            services: Api::namespaced(client, SERVICES),
            made: Vec::new(),
            changes: 0,
            responder,
        })
    }

    /// Makes or removes Services until there are `count`, each with two endpoints.
    pub async fn resize(&mut self, count: usize) -> Result<()> {
        let have = self.made.len();
        if have > count {
            stream::iter(count..have).map(Ok).try_for_each_concurrent(WIDTH, |n| self.remove(n)).await?;
            self.made.truncate(count);
        } else {
            let made: Vec<_> = stream::iter(have..count).map(|n| self.make(n)).buffered(WIDTH).try_collect().await?;
            self.made.extend(made);
        }
        Ok(())
    }

    async fn make(&self, n: usize) -> Result<(SocketAddr, Vec<Ipv4Addr>)> {
        let params = PostParams::default();
        let service = self.services.create(&params, &object(service(n))?).await.doing(|| format!("creating Service {}", name(n)))?;
        let endpoints = vec![endpoint(2 * n), endpoint(2 * n + 1)];
        self.slices.create(&params, &object(slice(n, &endpoints))?).await.doing(|| format!("creating EndpointSlice {}", name(n)))?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).and_then(|address| address.parse::<IpAddr>().ok());
        let address = address.ok_or_else(|| Error::Other(format!("Service {} got no ClusterIP", name(n))))?;
        Ok((SocketAddr::new(address, PORT), endpoints))
    }

    /// The slice has no owner: nobody else removes it.
    async fn remove(&self, n: usize) -> Result<()> {
        let gone = DeleteParams::default();
        self.services.delete(&name(n), &gone).await.doing(|| format!("deleting Service {}", name(n)))?;
        self.slices.delete(&name(n), &gone).await.doing(|| format!("deleting EndpointSlice {}", name(n))).map(drop)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.made.len()
    }

    /// All Services with the endpoints that may answer.
    pub fn all(&self) -> &[(SocketAddr, Vec<Ipv4Addr>)] {
        &self.made
    }

    /// Some of them, spread evenly; the last one is among them.
    pub fn sample(&self) -> Vec<(SocketAddr, Vec<Ipv4Addr>)> {
        self.made.iter().rev().step_by(self.made.len().div_ceil(20).max(1)).cloned().collect()
    }

    /// The Service whose endpoints change.
    pub fn changing(&self) -> Result<(SocketAddr, Vec<Ipv4Addr>)> {
        self.made.get(self.changing_number()).cloned().ok_or_else(|| Error::Other("there are no Services".into()))
    }

    /// The name of its slice.
    pub fn changing_name(&self) -> String {
        name(self.changing_number())
    }

    fn changing_number(&self) -> usize {
        self.made.len() / 2
    }

    /// An endpoint that no Service has had before.
    pub fn fresh_endpoint(&mut self) -> Ipv4Addr {
        self.changes += 1;
        endpoint(SPARE + self.changes)
    }

    /// Gives the changing Service this endpoint and no other.
    pub async fn change(&mut self, to: Ipv4Addr) -> Result<()> {
        let number = self.changing_number();
        let patch = json!({ "endpoints": endpoints(&[to]) });
        let patched = self.slices.patch(&name(number), &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.doing(|| format!("patching EndpointSlice {}", name(number)))?;
        if let Some(entry) = self.made.get_mut(number) {
            entry.1 = vec![to];
        }
        Ok(())
    }

    /// How to change endpoints of many Services, one after the other: each change but one in two takes one of two endpoints away, and the next
    /// one gives it back. The one whose changes are measured is left out.
    pub fn churn(&self) -> Churn {
        let (count, spared) = (self.made.len(), self.changing_number());
        Churn { slices: self.slices.clone(), numbers: (0..count).filter(|n| *n != spared).step_by(7).collect(), step: 0 }
    }

    /// Calls on EndpointSlices.
    pub fn slices(&self) -> &Api<EndpointSlice> {
        &self.slices
    }
}

/// See [`Services::churn`].
pub struct Churn {
    slices: Api<EndpointSlice>,
    numbers: Vec<usize>,
    step: usize,
}

impl Churn {
    /// The next change. An even number of them leaves everything as it was.
    pub async fn change(&mut self) -> Result<()> {
        let number = self.numbers.get(self.step / 2 % self.numbers.len().max(1)).copied().unwrap_or_default();
        let both = [endpoint(2 * number), endpoint(2 * number + 1)];
        let left = if self.step.is_multiple_of(2) { &both[..1] } else { &both };
        self.step += 1;
        let patch = Patch::Merge(json!({ "endpoints": endpoints(left) }));
        let patched = self.slices.patch(&name(number), &PatchParams::default(), &patch).await;
        patched.doing(|| format!("patching EndpointSlice {}", name(number))).map(drop)
    }
}

/// Answers each connection with the address that it came to, and waits for the other side to close.
async fn respond(listener: tokio::net::TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            if let Ok(SocketAddr::V4(address)) = stream.local_addr() {
                let _ = stream.write_all(&address.ip().octets()).await;
                let _ = stream.read(&mut [0]).await;
            }
        });
    }
}

fn name(n: usize) -> String {
    format!("bench-{n:05}")
}

fn endpoint(n: usize) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(10, 244, 128, 1));
    Ipv4Addr::from(first + u32::try_from(n % 32_000).unwrap_or_default())
}

fn service(n: usize) -> Value {
    json!({ "metadata": { "name": name(n) }, "spec": { "ports": [{ "port": PORT, "targetPort": ENDPOINT_PORT }] } })
}

fn slice(n: usize, addresses: &[Ipv4Addr]) -> Value {
    json!({
        "metadata": {
            "name": name(n),
            "labels": { "kubernetes.io/service-name": name(n), "endpointslice.kubernetes.io/managed-by": "bench" },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": ENDPOINT_PORT, "protocol": "TCP" }],
        "endpoints": endpoints(addresses),
    })
}

fn endpoints(addresses: &[Ipv4Addr]) -> Value {
    addresses.iter().map(|address| json!({ "addresses": [address], "conditions": { "ready": true } })).collect()
}

fn object<K: DeserializeOwned>(manifest: Value) -> Result<K> {
    serde_json::from_value(manifest).map_err(|error| Error::Other(format!("a manifest: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_endpoints_are_the_same_and_all_are_in_the_network() {
        let all: std::collections::BTreeSet<Ipv4Addr> = (0..2 * SIZES[1]).chain(SPARE..SPARE + 500).map(endpoint).collect();
        assert_eq!(all.len(), 2 * SIZES[1] + 500);
        assert!(all.iter().all(|address| address.octets()[..2] == [10, 244] && address.octets()[2] >= 128), "outside {ENDPOINT_NETWORK}");
    }
}
