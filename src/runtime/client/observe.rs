//! What runs: two lists, then the state of each sandbox that is ready and of each container.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use proto::cri::{ContainerFilter, ListPodSandboxRequest, PodSandbox, PodSandboxFilter};
use tokio::time::timeout;

use super::call::{garbage, within};
use super::{Container, ContainerId, CriRuntime, ObservedPod, PodUid, Result, Sandbox, SandboxId, containers, convert, sandboxes};
use crate::model::PodRef;
use crate::runtime::{ContainerPhase, Error, ErrorKind, Outline, names};

/// How many states are asked for at the same time: enough to hide the socket's latency, few enough not to keep the runtime from
/// starting containers meanwhile.
const AT_ONCE: usize = 8;
/// How long one state may take.
const STATE_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn all(cri: &CriRuntime) -> Result<Vec<ObservedPod>> {
    observe(cri, None).await
}

pub(super) async fn one(cri: &CriRuntime, uid: &PodUid) -> Result<Option<ObservedPod>> {
    // A runtime that ignores filters tells of other pods, too.
    match observe(cri, Some(uid)).await?.into_iter().find(|found| found.pod.uid == *uid) {
        Some(ObservedPod { unread: Some(error), .. }) => Err(error),
        found => Ok(found),
    }
}

/// Two lists and nothing else. What makes no sense in them agrees with nothing, so that somebody looks.
pub(super) async fn outlines(cri: &CriRuntime) -> Result<Vec<Outline>> {
    let (sandboxes, containers) = tokio::try_join!(list_sandboxes(cri, None), containers::list(cri, ContainerFilter::default()))?;
    let mut pods: BTreeMap<PodUid, Outline> = BTreeMap::new();
    let mut add = |labels: &BTreeMap<String, String>, put: &dyn Fn(&mut Outline)| {
        if let Some(pod) = convert::pod_ref(labels) {
            put(pods.entry(pod.uid.clone()).or_insert_with(|| Outline::empty(pod)));
        }
    };
    for s in sandboxes {
        let ready = convert::sandbox_ready(s.state).unwrap_or_default();
        add(&s.labels, &|pod| pod.sandboxes.push((SandboxId::from(s.id.as_str()), ready)));
    }
    for c in containers {
        let phase = convert::phase(c.state).unwrap_or(ContainerPhase::Unknown);
        add(&c.labels, &|pod| pod.containers.push((ContainerId::from(c.id.as_str()), phase)));
    }
    Ok(pods.into_values().collect())
}

async fn observe(cri: &CriRuntime, uid: Option<&PodUid>) -> Result<Vec<ObservedPod>> {
    let in_pod = ContainerFilter { label_selector: selector(uid), ..Default::default() };
    let (sandboxes, containers) = tokio::try_join!(list_sandboxes(cri, uid), containers::list(cri, in_pod))?;
    let sandboxes = stream::iter(sandboxes).map(|s| sandbox_state(cri, s)).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let containers = stream::iter(containers).map(|c| container_state(cri, c)).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let (sandboxes, containers) = tokio::join!(sandboxes, containers);
    group(sandboxes.into_iter().flatten(), containers.into_iter().flatten())
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

/// Whose sandbox or container it is, and its state. `None` for what no node agent made, and for what is gone meanwhile.
type State<T> = Option<(PodRef, Result<T>)>;

async fn sandbox_state(cri: &CriRuntime, listed: PodSandbox) -> State<Sandbox> {
    let pod = convert::pod_ref(&listed.labels)?;
    present(pod, read_sandbox(cri, listed).await)
}

async fn read_sandbox(cri: &CriRuntime, listed: PodSandbox) -> Result<Sandbox> {
    const ACTION: &str = "list sandboxes";
    if listed.id.is_empty() {
        return Err(garbage(ACTION, "an empty sandbox id"));
    }
    let id = SandboxId::from(listed.id);
    if convert::sandbox_ready(listed.state).map_err(|what| garbage(ACTION, what))? {
        return soon(sandboxes::status(cri, &id)).await;
    }
    // Of a sandbox that is down, nobody asks for addresses.
    let attempt = listed.metadata.unwrap_or_default().attempt;
    Ok(Sandbox { id, attempt, created_at: listed.created_at, ready: false, ips: vec![], host_network: false })
}

async fn container_state(cri: &CriRuntime, listed: proto::cri::Container) -> State<(Container, Option<i64>)> {
    let pod = convert::pod_ref(&listed.labels)?;
    present(pod, read_container(cri, listed).await)
}

async fn read_container(cri: &CriRuntime, listed: proto::cri::Container) -> Result<(Container, Option<i64>)> {
    if listed.id.is_empty() {
        return Err(garbage("list containers", "an empty container id"));
    }
    let grace = listed.annotations.get(names::TERMINATION_GRACE_PERIOD).and_then(|s| s.parse().ok());
    let container = soon(containers::status(cri, &ContainerId::from(listed.id))).await?;
    Ok((Container { sandbox: listed.pod_sandbox_id.into(), ..container }, grace))
}

fn present<T>(pod: PodRef, state: Result<T>) -> State<T> {
    match state {
        Err(error) if error.is_not_found() => None,
        state => Some((pod, state)),
    }
}

/// A call that is one of many: all others wait for it, so it gets less time than a call that somebody asked for.
async fn soon<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error { action: "read the state of a sandbox or container".to_owned(), kind: ErrorKind::Deadline(STATE_DEADLINE) });
    timeout(STATE_DEADLINE, call).await.unwrap_or_else(late)
}

/// States by pod. An error stays with its pod, unless it says that the runtime is gone.
fn group(
    sandboxes: impl Iterator<Item = (PodRef, Result<Sandbox>)>,
    containers: impl Iterator<Item = (PodRef, Result<(Container, Option<i64>)>)>,
) -> Result<Vec<ObservedPod>> {
    let mut pods = BTreeMap::new();
    for (pod, sandbox) in sandboxes {
        let entry = entry(&mut pods, pod);
        match sandbox {
            Ok(sandbox) => entry.sandboxes.push(sandbox),
            Err(error) => note(entry, error)?,
        }
    }
    for (pod, container) in containers {
        let entry = entry(&mut pods, pod);
        match container {
            Ok((container, grace)) => {
                entry.grace_period = entry.grace_period.or(grace);
                entry.containers.push(container);
            }
            Err(error) => note(entry, error)?,
        }
    }
    let mut pods: Vec<ObservedPod> = pods.into_values().collect();
    for pod in &mut pods {
        // Newest first; the id decides between two of the same instant, so that the order is the same each time.
        pod.sandboxes.sort_unstable_by(|a, b| (b.created_at, b.attempt, &b.id).cmp(&(a.created_at, a.attempt, &a.id)));
        pod.containers.sort_unstable_by(|a, b| (b.created_at, b.restart_count, &b.id).cmp(&(a.created_at, a.restart_count, &a.id)));
    }
    Ok(pods)
}

fn entry(pods: &mut BTreeMap<PodUid, ObservedPod>, pod: PodRef) -> &mut ObservedPod {
    pods.entry(pod.uid.clone()).or_insert_with(|| ObservedPod::empty(pod))
}

fn note(pod: &mut ObservedPod, error: Error) -> Result<()> {
    match error.kind {
        ErrorKind::Unavailable(_) => Err(error),
        _ => {
            pod.unread.get_or_insert(error);
            Ok(())
        }
    }
}
