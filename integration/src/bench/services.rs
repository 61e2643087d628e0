//! Services: how soon a change is in force, and what it costs.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::bench::report::Figures;
use crate::bench::{LONG, median, usage};
use crate::error::{Doing as _, Error, Result};
use crate::fixture::{describe, pod_is_ready};
use crate::lab::{Lab, PATIENCE};
use crate::objects::whoami_on;

/// A pod that answers with its name.
#[derive(Clone, Debug)]
pub struct Server {
    name: String,
    address: IpAddr,
}

/// The two pods behind every Service.
pub async fn servers(lab: &Lab) -> Result<Vec<Server>> {
    let api: Api<Pod> = Api::namespaced(lab.client(), "default");
    let mut servers = Vec::new();
    for name in ["server-a", "server-b"] {
        let pod = serde_json::from_value(whoami_on(name, lab.node(0).name(), name)).map_err(|error| Error::Other(error.to_string()))?;
        api.create(&PostParams::default(), &pod).await.doing(|| format!("creating {name}"))?;
        let look = async || {
            let pod = api.get(name).await.map_err(|error| error.to_string())?;
            let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).and_then(|address| address.parse().ok());
            address.filter(|_| pod_is_ready(&pod)).ok_or_else(|| describe(&pod))
        };
        servers.push(Server { name: name.to_owned(), address: lab.wait_for(name, PATIENCE, look).await? });
    }
    Ok(servers)
}

/// ClusterIP of the n-th Service: 10.96.128.0 and on, where the API server gives none of its own accord so soon.
fn cluster_ip(index: usize) -> SocketAddr {
    let low = u16::try_from(index).unwrap_or(u16::MAX).saturating_add(0x8000);
    let [third, fourth] = low.to_be_bytes();
    ([10, 96, third, fourth], 80).into()
}

fn slice(index: usize, endpoints: &[&Server]) -> Value {
    let endpoints: Vec<Value> =
        endpoints.iter().map(|server| json!({ "addresses": [server.address], "conditions": { "ready": true } })).collect();
    json!({
        "metadata": { "name": format!("bench-{index}"), "labels": { "kubernetes.io/service-name": format!("bench-{index}") } },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
    })
}

/// Services without a selector, each with two endpoints in a slice of its own.
pub async fn create(lab: &Lab, servers: &[Server], range: Range<usize>) -> Result<()> {
    let services: Api<Service> = Api::namespaced(lab.client(), "default");
    let slices: Api<EndpointSlice> = Api::namespaced(lab.client(), "default");
    let both: Vec<&Server> = servers.iter().collect();
    let (services, slices, both) = (&services, &slices, &both);
    futures::stream::iter(range.map(Ok::<usize, Error>))
        .try_for_each_concurrent(16, |index| async move {
            let doing = || format!("creating Service bench-{index}");
            let service = json!({
                "metadata": { "name": format!("bench-{index}") },
                "spec": { "clusterIP": cluster_ip(index).ip(), "ports": [{ "port": 80, "targetPort": 8080 }] },
            });
            let parsed = |error: serde_json::Error| Error::Other(error.to_string());
            let service = serde_json::from_value(service).map_err(parsed)?;
            services.create(&PostParams::default(), &service).await.doing(doing)?;
            let slice = serde_json::from_value(slice(index, both)).map_err(parsed)?;
            slices.create(&PostParams::default(), &slice).await.doing(doing).map(drop)
        })
        .await
}

/// Waits until Services answer: a sample of 50 out of `count`, first and last among them.
pub async fn programmed(lab: &Lab, count: usize) -> Result<()> {
    let connector = lab.node(0).place().connector();
    let sample = (0..50).map(|step| step * (count - 1) / 49);
    futures::stream::iter(sample.map(Ok))
        .try_for_each_concurrent(4, |index| {
            let connector = connector.clone();
            async move {
                let ask =
                    async || connector.http(cluster_ip(index), "/", Duration::from_millis(200)).await.map_err(|error| error.to_string());
                lab.wait_for(&format!("Service {index} of {count}"), LONG, ask).await.map(drop)
            }
        })
        .await
}

/// Moves the only endpoint of one Service there and back, and takes the time until a new connection reaches the new one.
pub async fn changes(lab: &Lab, servers: &[Server], scene: &str, count: usize, figures: &mut Figures) -> Result<()> {
    let [a, b] = servers else { return Err(Error::Other("two servers are needed".into())) };
    let slices: Api<EndpointSlice> = Api::namespaced(lab.client(), "default");
    // Where there are two processes, the second is the one that serves Services.
    let agent: Vec<u32> = lab.node(0).agent_pids().await.into_iter().last().into_iter().collect();
    let (mut times, mut cpu) = (Vec::new(), Duration::ZERO);
    // The first one only brings the Service down to one endpoint.
    for turn in 0..=count {
        let to = if turn % 2 == 0 { a } else { b };
        // Upstream keeps a distance between changes, which is not what is measured here.
        sleep(Duration::from_secs(if *lab.agent() == Agent::Upstream { 3 } else { 1 })).await;
        let before = usage::cpu(&agent)?;
        let patch = Patch::Merge(slice(0, &[to]));
        slices.patch("bench-0", &PatchParams::default(), &patch).await.doing(|| "changing an endpoint")?;
        let start = Instant::now();
        answered_by(lab, &to.name).await?;
        let took = start.elapsed();
        // What is tidied up after the answer belongs to the change.
        sleep(Duration::from_secs(1)).await;
        if turn > 0 {
            times.push(took);
            cpu += usage::cpu(&agent)?.saturating_sub(before);
        }
    }
    figures.time(&format!("change_{scene}"), median(times)?);
    figures.time(&format!("change_cpu_{scene}"), cpu.div_f64(count as f64));
    Ok(())
}

/// Asks the first Service without a pause until a pod has answered, on one thread inside the node's network.
async fn answered_by(lab: &Lab, name: &str) -> Result<()> {
    let deadline = Instant::now() + LONG;
    let connector = lab.node(0).place().connector();
    while Instant::now() < deadline {
        let answer = connector.http(cluster_ip(0), "/", Duration::from_secs(1)).await.unwrap_or_default();
        if answer.split_whitespace().next() == Some(name) {
            return Ok(());
        }
    }
    Err(Error::Other(format!("{name} did not answer within {LONG:?}")))
}

/// The agent's start, on a node whose kernel has no rules, until all Services answer.
pub async fn from_nothing(lab: &Lab, count: usize, figures: &mut Figures) -> Result<()> {
    lab.node(0).stop_agent().await?;
    lab.on_node(0, "nft", &["flush", "ruleset"])?;
    let start = Instant::now();
    lab.node(0).start_agent().await?;
    programmed(lab, count).await?;
    figures.time("from_nothing", start.elapsed());
    Ok(())
}
