//! Pods: how long from their creation until they are Ready, and from their deletion until they are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::report::Figures;
use crate::bench::{LONG, median};
use crate::error::{Doing as _, Error, Result};
use crate::fixture::pod_is_ready;
use crate::lab::Lab;

/// When pods were seen to be Ready and to be gone.
pub struct Times {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    ready: BTreeMap<String, Instant>,
    gone: BTreeMap<String, Instant>,
}

impl Times {
    /// Starts to watch pods.
    pub async fn watch(lab: &Lab) -> Result<Self> {
        let api: Api<Pod> = Api::namespaced(lab.client(), "default");
        let (sender, seen) = watch::channel(Seen::default());
        let now = api.list(&ListParams::default().limit(1)).await.doing(|| "listing pods")?.metadata.resource_version.unwrap_or_default();
        let task = tokio::spawn(async move {
            let mut version = now;
            // The API server ends each watch after some minutes; the next goes on where it ended.
            loop {
                if let Ok(events) = api.watch(&WatchParams::default(), &version).await {
                    let mut events = std::pin::pin!(events);
                    while let Some(Ok(event)) = events.next().await {
                        version = note(&sender, event).unwrap_or(version);
                    }
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        Ok(Self { seen, task })
    }

    async fn ready(&self, name: &str) -> Result<Instant> {
        self.find(&format!("{name} to be Ready"), |seen| seen.ready.get(name).copied()).await
    }

    async fn gone(&self, name: &str) -> Result<Instant> {
        self.find(&format!("{name} to be gone"), |seen| seen.gone.get(name).copied()).await
    }

    async fn find(&self, what: &str, look: impl Fn(&Seen) -> Option<Instant>) -> Result<Instant> {
        let mut seen = self.seen.clone();
        let found = timeout(LONG, seen.wait_for(|seen| look(seen).is_some())).await;
        let found = found.map_err(|_| Error::Other(format!("waited {LONG:?} for {what}")))?;
        let found = found.map_err(|_| Error::Other("the watch of pods has ended".into()))?;
        look(&found).ok_or_else(|| Error::Other(what.to_owned()))
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Writes down what an event says; gives the version that it brings.
fn note(sender: &watch::Sender<Seen>, event: WatchEvent<Pod>) -> Option<String> {
    let now = Instant::now();
    let (pod, gone) = match event {
        WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
        WatchEvent::Deleted(pod) => (pod, true),
        WatchEvent::Bookmark(bookmark) => return Some(bookmark.metadata.resource_version),
        WatchEvent::Error(_) => return None,
    };
    let ready = pod_is_ready(&pod);
    let name = pod.metadata.name.unwrap_or_default();
    sender.send_if_modified(|seen| {
        if gone {
            seen.gone.entry(name).or_insert(now);
        } else if ready {
            seen.ready.entry(name).or_insert(now);
        }
        gone || ready
    });
    pod.metadata.resource_version
}

/// Pods one after the other: created, Ready, deleted, gone.
pub async fn singles(lab: &Lab, times: &Times, count: usize, figures: &mut Figures) -> Result<()> {
    let (mut ready, mut gone) = (Vec::new(), Vec::new());
    for index in 0..count {
        let name = format!("single-{index}");
        let start = Instant::now();
        create(lab, &name).await?;
        ready.push(times.ready(&name).await?.duration_since(start));
        // The status that says Ready is not the agent's last word on the start.
        sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        delete(lab, &name).await?;
        gone.push(times.gone(&name).await?.duration_since(start));
    }
    figures.time("pod_ready", median(ready)?);
    figures.time("pod_gone", median(gone)?);
    Ok(())
}

/// Pods all at once, then deleted all at once.
pub async fn burst(lab: &Lab, times: &Times, count: usize, figures: &mut Figures) -> Result<()> {
    let names: Vec<String> = (0..count).map(|index| format!("burst-{index}")).collect();
    let start = Instant::now();
    for_all(&names, |name| create(lab, name)).await?;
    let mut last = start;
    for name in &names {
        last = last.max(times.ready(name).await?);
    }
    figures.time("burst", last.duration_since(start));
    for_all(&names, |name| delete(lab, name)).await?;
    for name in &names {
        times.gone(name).await?;
    }
    Ok(())
}

/// Pods that stay.
pub async fn fill(lab: &Lab, times: &Times, count: usize) -> Result<()> {
    let names: Vec<String> = (0..count).map(|index| format!("fill-{index}")).collect();
    for_all(&names, |name| create(lab, name)).await?;
    for name in &names {
        times.ready(name).await?;
    }
    Ok(())
}

async fn for_all<'a, F: Future<Output = Result<()>>>(names: &'a [String], call: impl Fn(&'a str) -> F) -> Result<()> {
    futures::stream::iter(names.iter().map(|name| Ok(call(name)))).try_for_each_concurrent(50, |call| call).await
}

async fn create(lab: &Lab, name: &str) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(lab.client(), "default");
    let manifest = json!({
        "metadata": { "name": name },
        "spec": { "nodeName": lab.node(0).name(), "containers": [{ "name": "pause", "image": super::floor::PAUSE }] },
    });
    let pod = serde_json::from_value(manifest).map_err(|error| Error::Other(error.to_string()))?;
    api.create(&PostParams::default(), &pod).await.doing(|| format!("creating {name}")).map(drop)
}

async fn delete(lab: &Lab, name: &str) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(lab.client(), "default");
    api.delete(name, &DeleteParams::default()).await.doing(|| format!("deleting {name}")).map(drop)
}
