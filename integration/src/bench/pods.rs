//! Pods that come and go: one after the other, and 50 at once, beside the same calls made without an agent.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::figures::{Series, Who};
use super::floor::Floor;
use super::options::Part;
use super::watch::Watch;
use super::{Bench, PODS};
use crate::error::{Doing as _, Error, Result};
use crate::fixture::pod_is_ready;

/// What the pods run: a process of a few dozen kilobytes that ends as soon as it gets TERM.
pub const IMAGE: &str = "registry.k8s.io/pause:3.10.2";
/// Seconds between TERM and KILL: a pod's default, of which the process needs nothing.
pub const GRACE: i64 = 30;
/// Pods that are made at once.
const MANY: usize = 50;
/// How many the bare client starts at the same time.
const WIDTHS: [usize; 4] = [4, 8, 16, MANY];
/// A node that does not exist: its pods are nobody's work.
const NOBODY: &str = "nobody";
/// How long something may take that takes seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// One round of the floor and each agent; the floor comes first in even rounds and last in odd ones.
pub async fn round(bench: &mut Bench, round: usize) {
    if round.is_multiple_of(2) {
        floor_round(bench, round).await;
    }
    for index in bench.order(round) {
        let result = agent_round(bench, index, round).await;
        bench.note_failure(Part::Pods, index, result).await;
    }
    if !round.is_multiple_of(2) {
        floor_round(bench, round).await;
    }
}

async fn floor_round(bench: &mut Bench, round: usize) {
    if let Err(error) = floor(bench, round).await {
        bench.say(format!("pods: floor FAILED: {error}"));
        bench.figures.fail(format!("pods: floor: {error}"));
    }
}

async fn agent_round(bench: &mut Bench, index: usize, round: usize) -> Result<()> {
    let who = bench.contenders[index].who;
    bench.say(format!("  {}: starting", who.name()));
    bench.contenders[index].start(&bench.lab).await?;
    let mut pods = Pods::open(bench, index).await?;
    // The first pod after an agent's start finds nothing prepared: it is not what a node does all day.
    pods.create(&["first".to_owned()]).await?;
    pods.delete(&["first".to_owned()]).await?;
    for n in 0..bench.options.counts.pods {
        sleep(Duration::from_millis(500)).await;
        let name = [format!("one-{round}-{n}")];
        let ready = pods.create(&name).await?;
        bench.add(Series::PodReady, who, ready.as_secs_f64());
        sleep(Duration::from_millis(500)).await;
        let gone = pods.delete(&name).await?;
        bench.add(Series::PodGone, who, gone.as_secs_f64());
    }
    sleep(Duration::from_secs(2)).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("many-{round}-{n}")).collect();
    let ready = pods.create(&names).await?;
    bench.add(Series::ManyReady, who, ready.as_secs_f64());
    sleep(Duration::from_secs(2)).await;
    let gone = pods.delete(&names).await?;
    bench.add(Series::ManyGone, who, gone.as_secs_f64());
    // What agents remove after a pod is gone is not to fall into somebody else's turn.
    sleep(Duration::from_secs(2)).await;
    bench.contenders[index].stop().await
}

async fn floor(bench: &mut Bench, round: usize) -> Result<()> {
    bench.say("  floor: bare calls, no agent");
    let Some(contender) = bench.contenders.last() else { return Ok(()) };
    let floor = Floor::connect(contender.node(&bench.lab), contender.cgroup(&bench.lab)).await?;
    let (first, _) = floor.up(&format!("first-{round}")).await?;
    floor.down(first).await?;
    for n in 0..bench.options.counts.pods {
        let (pod, up) = floor.up(&format!("one-{round}-{n}")).await?;
        bench.add(Series::PodReady, Who::Floor, up.as_secs_f64());
        sleep(Duration::from_millis(500)).await;
        let down = floor.down(pod).await?;
        bench.add(Series::PodGone, Who::Floor, down.as_secs_f64());
        sleep(Duration::from_millis(500)).await;
    }
    let mut best = f64::MAX;
    for width in WIDTHS {
        let names = (0..MANY).map(|n| format!("many-{round}-{width}-{n}"));
        let start = Instant::now();
        let up = stream::iter(names).map(|name| async {
            let name = name;
            floor.up(&name).await
        });
        let pods: Vec<_> = up.buffer_unordered(width).try_collect().await?;
        let taken = start.elapsed().as_secs_f64();
        bench.add(Series::BareMany(width), Who::Floor, taken);
        best = best.min(taken);
        stream::iter(pods).map(Ok).try_for_each_concurrent(8, |(pod, _)| async { floor.down(pod).await.map(drop) }).await?;
        sleep(Duration::from_secs(2)).await;
    }
    bench.add(Series::ManyReady, Who::Floor, best);
    floor_with_api(bench, &floor, round).await
}

/// The same calls, and what no agent can spare the API server: it creates the pods, signs a token for each, and is told that each is
/// Ready. On a machine that is also the control plane, that takes CPU from the runtime.
async fn floor_with_api(bench: &mut Bench, floor: &Floor, round: usize) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(bench.lab.client(), PODS);
    let accounts: Api<ServiceAccount> = Api::namespaced(bench.lab.client(), PODS);
    let mut pods = Pods { watch: Watch::open(&api, &format!("spec.nodeName={NOBODY}")).await?, api, node: NOBODY.to_owned() };
    let names: Vec<String> = (0..MANY).map(|n| format!("bare-{round}-{n}")).collect();
    let at_once = tokio::sync::Semaphore::new(WIDTHS[0]);
    let (api, start) = (pods.api.clone(), Instant::now());
    let up = stream::iter(&names).map(|name| async {
        api.create(&PostParams::default(), &pod(name, NOBODY)?).await.doing(|| "creating a pod")?;
        let (params, token) = (PostParams::default(), TokenRequest::default());
        accounts.create_token_request("default", &params, &token).await.doing(|| "asking for a token")?;
        let turn = at_once.acquire().await;
        let (bare, _) = floor.up(name).await?;
        drop(turn);
        let patched = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status(name))).await;
        patched.doing(|| "patching a pod's status").map(|_| bare)
    });
    let bare: Vec<_> = up.buffer_unordered(MANY).try_collect().await?;
    let ready = pods.until_ready(&names).await?;
    bench.add(Series::BareManyWithApi, Who::Floor, (ready - start).as_secs_f64());
    stream::iter(bare).map(Ok).try_for_each_concurrent(8, |pod| async { floor.down(pod).await.map(drop) }).await?;
    forget_pods_of(bench, NOBODY).await
}

/// What an agent tells of a pod that runs.
fn status(name: &str) -> Value {
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now());
    let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind, "status": "True", "lastTransitionTime": now })).collect();
    let id = format!("containerd://{name}");
    let container = json!({
        "name": "main", "image": IMAGE, "imageID": IMAGE, "containerID": id, "ready": true, "started": true, "restartCount": 0,
        "state": { "running": { "startedAt": now } },
    });
    let ip = "10.244.0.9";
    json!({ "status": {
        "phase": "Running", "startTime": now, "qosClass": "BestEffort", "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": ip,
        "conditions": conditions, "containerStatuses": [container],
    } })
}

/// The pods of one node, watched.
pub struct Pods {
    api: Api<Pod>,
    node: String,
    watch: Watch<Pod>,
}

impl Pods {
    /// Begins to watch the pods of a contender's node, for 290 s.
    pub async fn open(bench: &Bench, index: usize) -> Result<Self> {
        let node = bench.contenders[index].node(&bench.lab).name().to_owned();
        let api = Api::namespaced(bench.lab.client(), PODS);
        let watch = Watch::open(&api, &format!("spec.nodeName={node}")).await?;
        Ok(Self { api, node, watch })
    }

    /// Creates ordinary pods at once; gives the time until all are Ready.
    pub async fn create(&mut self, names: &[String]) -> Result<Duration> {
        let pods: Vec<Pod> = names.iter().map(|name| pod(name, &self.node)).collect::<Result<_>>()?;
        self.create_all(pods).await
    }

    /// Creates these pods at once; gives the time until all are Ready.
    pub async fn create_all(&mut self, pods: Vec<Pod>) -> Result<Duration> {
        let names: Vec<String> = pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        let start = Instant::now();
        let params = PostParams::default();
        let (api, params) = (&self.api, &params);
        let create = |pod: Pod| async move { api.create(params, &pod).await.doing(|| "creating a pod").map(drop) };
        stream::iter(pods).map(Ok).try_for_each_concurrent(16, create).await?;
        self.until_ready(&names).await.map(|at| at - start)
    }

    /// When the first event about a pod arrived that `wanted` says yes to.
    pub async fn until(&mut self, name: &str, what: &str, mut wanted: impl FnMut(&Pod) -> bool) -> Result<Instant> {
        let of_it = |event: &WatchEvent<Pod>| match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => pod.metadata.name.as_deref() == Some(name) && wanted(pod),
            _ => false,
        };
        self.watch.until(&format!("pod {name} {what}"), PATIENCE, of_it).await
    }

    /// The node that the pods are bound to.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The pods as the API server has them.
    pub fn api(&self) -> &Api<Pod> {
        &self.api
    }

    /// Waits until all these pods are Ready; gives when the last one was.
    async fn until_ready(&mut self, names: &[String]) -> Result<Instant> {
        let mut missing: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let ready = |event: &WatchEvent<Pod>| {
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
                && pod_is_ready(pod)
            {
                missing.remove(pod.metadata.name.as_deref().unwrap_or_default());
            }
            missing.is_empty()
        };
        let at = self.watch.until("the pods to be Ready", PATIENCE, ready).await;
        match at {
            Ok(at) => Ok(at),
            Err(error) => Err(Error::Other(format!("{error}; not Ready: {}", self.describe(&missing).await))),
        }
    }

    /// Deletes pods at once, each with its own grace period; gives the time until all are gone.
    pub async fn delete(&mut self, names: &[String]) -> Result<Duration> {
        let start = Instant::now();
        let params = DeleteParams::default();
        let (api, params) = (&self.api, &params);
        let delete = |name| async move { api.delete(name, params).await.doing(|| format!("deleting pod {name}")).map(drop) };
        stream::iter(names.iter().map(String::as_str)).map(Ok).try_for_each_concurrent(16, delete).await?;
        let mut left: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let gone = |event: &WatchEvent<Pod>| {
            if let WatchEvent::Deleted(pod) = event {
                left.remove(pod.metadata.name.as_deref().unwrap_or_default());
            }
            left.is_empty()
        };
        match self.watch.until("the pods to be gone", PATIENCE, gone).await {
            Ok(at) => Ok(at - start),
            Err(error) => Err(Error::Other(format!("{error}; still there: {}", self.describe(&left).await))),
        }
    }

    /// A few of them in words.
    async fn describe(&self, names: &BTreeSet<&str>) -> String {
        let mut words = Vec::new();
        for name in names.iter().take(3) {
            words.push(match self.api.get(name).await {
                Ok(pod) => crate::fixture::describe(&pod),
                Err(error) => format!("{name}: {error}"),
            });
        }
        format!("{} pods, among them {}", names.len(), words.join("; "))
    }
}

/// Removes a contender's pods from the API server without its help.
pub async fn forget(bench: &Bench, index: usize) -> Result<()> {
    forget_pods_of(bench, bench.contenders[index].node(&bench.lab).name()).await
}

async fn forget_pods_of(bench: &Bench, node: &str) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(bench.lab.client(), PODS);
    let mine = ListParams::default().fields(&format!("spec.nodeName={node}"));
    api.delete_collection(&DeleteParams::default().grace_period(0), &mine).await.doing(|| "removing what is left of the pods").map(drop)
}

/// An ordinary pod, service account token and all, bound to its node by whoever made it: no scheduler is measured.
fn pod(name: &str, node: &str) -> Result<Pod> {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": GRACE,
            "containers": [{ "name": "main", "image": IMAGE }],
            // A node that was away is tainted for some seconds.
            "tolerations": [{ "operator": "Exists" }],
        },
    }))
    .map_err(|error| Error::Other(format!("the pod's manifest: {error}")))
}
