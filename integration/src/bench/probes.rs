//! What a thousand probes a second cost.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Bench;
use super::figures::Series;
use super::pods::{self, Pods};
use super::usage::CpuMeter;
use crate::error::{Error, Result};

/// Pods, each of [`CONTAINERS`] containers with two probes.
const PODS: usize = 50;
/// Containers of a pod. The first one is what all of its pod's probes ask.
const CONTAINERS: usize = 10;
/// Pods that are made at once: starting five hundred containers takes a while.
const BATCH: usize = 10;
/// Where the first container listens.
const PORT: u16 = 8080;

/// Measures one contender.
pub async fn measure(bench: &mut Bench, index: usize) -> Result<()> {
    let who = bench.contenders[index].who;
    bench.say(format!("  {}: starting, then {PODS} pods of {CONTAINERS} containers with two probes each", who.name()));
    bench.contenders[index].start(&bench.lab).await?;
    let names: Vec<String> = (0..PODS).map(|n| format!("probed-{n}")).collect();
    for batch in names.chunks(BATCH) {
        let mut pods = Pods::open(bench, index).await?;
        let batch = batch.iter().map(|name| pod(name, pods.node())).collect::<Result<_>>()?;
        pods.create_all(batch).await?;
    }
    sleep(Duration::from_secs(bench.options.counts.settle)).await;
    let seconds = bench.options.counts.idle_window;
    let runtime = bench.contenders[index].node(&bench.lab).containerd_pid().await;
    let runtime = runtime.ok_or_else(|| Error::Other("containerd does not run".into()))?;
    let (mut agent, mut containerd) = (CpuMeter::new(bench.contenders[index].pids()), CpuMeter::new(vec![runtime]));
    let window = Duration::from_secs(seconds);
    let (agent, containerd) = tokio::try_join!(agent.during(window), containerd.during(window))?;
    let minute = 60.0 / seconds as f64;
    bench.add(Series::ProbeCpu, who, agent.as_secs_f64() * minute);
    bench.add(Series::ProbeRuntimeCpu, who, containerd.as_secs_f64() * minute);
    for batch in names.chunks(BATCH) {
        Pods::open(bench, index).await?.delete(batch).await?;
    }
    bench.contenders[index].stop().await
}

fn pod(name: &str, node: &str) -> Result<Pod> {
    let containers: Vec<Value> = (0..CONTAINERS)
        .map(|n| {
            json!({
                "name": format!("c{n}"),
                "image": if n == 0 { "kubelet-rs.io/whoami:1" } else { pods::IMAGE },
                "livenessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
                "readinessProbe": { "httpGet": { "port": PORT, "path": "/" }, "periodSeconds": 1 },
            })
        })
        .collect();
    let object = json!({
        "metadata": { "name": name },
        "spec": { "nodeName": node, "containers": containers, "tolerations": [{ "operator": "Exists" }], "terminationGracePeriodSeconds": 5 },
    });
    serde_json::from_value(object).map_err(|error| Error::Other(format!("the pod's manifest: {error}")))
}
