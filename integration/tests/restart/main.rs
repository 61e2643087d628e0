//! A restart is the normal case: of the agent, of containerd, of the API server.

mod agent;
mod around;

use std::collections::BTreeMap;

use integration::fixture::{Namespace, SharedLab, container_statuses};
use integration::{Error, Lab, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

static LAB: SharedLab = SharedLab::one_at_a_time(|| Lab::builder("restart"));

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
