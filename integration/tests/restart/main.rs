//! A restart is the normal case: of the agent, of containerd, of the API server.

mod agent;
mod around;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use integration::fixture::{Namespace, SharedLab, container_statuses};
use integration::lab::PATIENCE;
use integration::objects::{deployment, web_service};
use integration::{Error, Lab, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;

static LAB: SharedLab = SharedLab::one_at_a_time(|| Lab::builder("restart"));

/// Two web servers behind a Service that answers; gives the Service's address.
async fn served(lab: &Lab, ns: &Namespace<'_>) -> Result<SocketAddr> {
    ns.apply::<Deployment>(deployment("web", 2)).await?;
    let service = ns.apply::<Service>(web_service("web", "web")).await?;
    ns.pods("app=web", 2).await?;
    let address: Option<std::net::IpAddr> = service.spec.and_then(|spec| spec.cluster_ip).and_then(|address| address.parse().ok());
    let address = SocketAddr::new(address.ok_or_else(|| Error::Other("a Service without a ClusterIP".into()))?, 80);
    answers(lab, address).await?;
    Ok(address)
}

async fn answers(lab: &Lab, address: SocketAddr) -> Result<String> {
    let connector = lab.node(0).place().connector();
    let ask = async || connector.http(address, "/", integration::fixture::ANSWER).await.map_err(|error| error.to_string());
    lab.wait_for(&format!("an answer from {address}"), PATIENCE, ask).await
}

/// What must not change: each pod's container ids and restart counts, as the API server tells them.
async fn containers(ns: &Namespace<'_>) -> Result<BTreeMap<String, Vec<(String, i32)>>> {
    let pods = ns.api::<Pod>().list(&ListParams::default()).await.map_err(|error| Error::Other(error.to_string()))?;
    let ids =
        |pod: &Pod| container_statuses(pod).map(|status| (status.container_id.clone().unwrap_or_default(), status.restart_count)).collect();
    Ok(pods.items.iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), ids(pod))).collect())
}

/// What containerd has for a namespace: sandboxes and containers, sorted.
fn in_containerd(lab: &Lab, ns: &Namespace<'_>) -> Result<Vec<String>> {
    let mut ids = lab.node(0).containers(lab.tools(), &format!("labels.\"io.kubernetes.pod.namespace\"=={}", ns.name()))?;
    ids.sort();
    Ok(ids)
}

/// Waits until the agent works again: it has run a pod from beginning to end. Not in the test's namespace, where things are counted.
async fn agent_is_back(lab: &Lab, name: &str) -> Result<()> {
    let elsewhere = Namespace::default(lab);
    elsewhere.apply::<Pod>(integration::objects::pod(name, integration::objects::whoami_container(), "Always")).await?;
    elsewhere.ready(name).await?;
    elsewhere.delete_pod(name).await
}
