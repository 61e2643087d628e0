//! What runs: two lists, then the state of each sandbox that is ready and of each container.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt, TryStreamExt};
use proto::cri::{ContainerFilter, ListPodSandboxRequest, PodSandbox, PodSandboxFilter};

use super::call::{garbage, within};
use super::{Container, ContainerId, CriRuntime, ObservedPod, PodUid, Result, Sandbox, SandboxId, containers, convert, sandboxes};
use crate::runtime::names;

/// How many states are asked for at the same time: enough to hide the socket's latency, few enough not to keep the runtime from
/// starting containers meanwhile.
const AT_ONCE: usize = 8;

pub(super) async fn all(cri: &CriRuntime) -> Result<Vec<ObservedPod>> {
    observe(cri, None).await
}

pub(super) async fn one(cri: &CriRuntime, uid: &PodUid) -> Result<Option<ObservedPod>> {
    Ok(observe(cri, Some(uid)).await?.pop())
}

async fn observe(cri: &CriRuntime, uid: Option<&PodUid>) -> Result<Vec<ObservedPod>> {
    let in_pod = ContainerFilter { label_selector: selector(uid), ..Default::default() };
    let (sandboxes, containers) = tokio::try_join!(list_sandboxes(cri, uid), containers::list(cri, in_pod))?;
    let sandboxes = stream::iter(sandboxes).map(|s| sandbox_state(cri, s)).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>();
    let containers = stream::iter(containers).map(|c| container_state(cri, c)).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>();
    let (sandboxes, containers) = tokio::try_join!(sandboxes, containers)?;
    Ok(group(sandboxes.into_iter().flatten(), containers.into_iter().flatten()))
}

fn selector(uid: Option<&PodUid>) -> BTreeMap<String, String> {
    uid.map(|uid| (names::POD_UID.to_owned(), uid.to_string())).into_iter().collect()
}

async fn list_sandboxes(cri: &CriRuntime, uid: Option<&PodUid>) -> Result<Vec<PodSandbox>> {
    let filter = Some(PodSandboxFilter { label_selector: selector(uid), ..Default::default() });
    let mut client = cri.runtime();
    let message = ListPodSandboxRequest { filter };
    Ok(within("list sandboxes", cri.timeout, message, |r| async move { client.list_pod_sandbox(r).await }).await?.items)
}

/// A sandbox or container, and whose it is.
type Owned<T> = (crate::model::PodRef, T);

/// `None` for what no node agent made, and for what is gone meanwhile.
async fn sandbox_state(cri: &CriRuntime, listed: PodSandbox) -> Result<Option<Owned<Sandbox>>> {
    const ACTION: &str = "list sandboxes";
    let Some(pod) = convert::pod_ref(&listed.labels) else { return Ok(None) };
    if listed.id.is_empty() {
        return Err(garbage(ACTION, format!("an empty sandbox id of pod {pod}")));
    }
    let id = SandboxId::from(listed.id);
    if convert::sandbox_ready(listed.state).map_err(|what| garbage(ACTION, what))? {
        return match sandboxes::status(cri, &id).await {
            Ok(sandbox) => Ok(Some((pod, sandbox))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
    }
    // Of a sandbox that is down, nobody asks for addresses.
    let attempt = listed.metadata.unwrap_or_default().attempt;
    Ok(Some((pod, Sandbox { id, attempt, created_at: listed.created_at, ready: false, ips: vec![], host_network: false })))
}

/// `None` for what no node agent made, and for what is gone meanwhile.
async fn container_state(cri: &CriRuntime, listed: proto::cri::Container) -> Result<Option<Owned<(Container, Option<i64>)>>> {
    let Some(pod) = convert::pod_ref(&listed.labels) else { return Ok(None) };
    if listed.id.is_empty() {
        return Err(garbage("list containers", format!("an empty container id of pod {pod}")));
    }
    let grace = listed.annotations.get(names::TERMINATION_GRACE_PERIOD).and_then(|s| s.parse().ok());
    match containers::status(cri, &ContainerId::from(listed.id)).await {
        Ok(container) => Ok(Some((pod, (Container { sandbox: listed.pod_sandbox_id.into(), ..container }, grace)))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn group(
    sandboxes: impl Iterator<Item = Owned<Sandbox>>,
    containers: impl Iterator<Item = Owned<(Container, Option<i64>)>>,
) -> Vec<ObservedPod> {
    let mut pods: BTreeMap<PodUid, ObservedPod> = BTreeMap::new();
    let entry = |pod: crate::model::PodRef| ObservedPod { pod, sandboxes: vec![], containers: vec![], grace_period: None };
    for (pod, sandbox) in sandboxes {
        pods.entry(pod.uid.clone()).or_insert_with(|| entry(pod)).sandboxes.push(sandbox);
    }
    for (pod, (container, grace)) in containers {
        let pod = pods.entry(pod.uid.clone()).or_insert_with(|| entry(pod));
        pod.grace_period = pod.grace_period.or(grace);
        pod.containers.push(container);
    }
    let mut pods: Vec<ObservedPod> = pods.into_values().collect();
    for pod in &mut pods {
        // Newest first; the id decides between two of the same instant, so that the order is the same each time.
        pod.sandboxes.sort_unstable_by(|a, b| (b.created_at, b.attempt, &b.id).cmp(&(a.created_at, a.attempt, &a.id)));
        pod.containers.sort_unstable_by(|a, b| (b.created_at, b.restart_count, &b.id).cmp(&(a.created_at, a.restart_count, &a.id)));
    }
    pods
}
