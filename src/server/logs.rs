//! `kubectl logs`: from the query to the stream. Which container instance is meant is decided by the pod's status.

use std::io;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use tokio::time::sleep;

use super::query::Query;
use super::response::{self, Body};
use super::routes::ContainerPath;
use super::{Parts, streams};
use crate::model::{ContainerId, PodUid};
use crate::pods::{ContainerTarget, PodLookup};
use crate::runtime::log::{self, follow};

/// How long after the last bytes of a log its end comes.
const LATE_END: Duration = Duration::from_millis(5);

/// Why there is no log: status and text.
type Refusal = (StatusCode, String);

/// Answers a request for a container's log.
pub async fn answer(parts: &Parts, path: &ContainerPath, query: &Query) -> Response<Body> {
    match open(parts, path, query).await {
        Ok(response) => response,
        Err((status, text)) => response::text(status, text),
    }
}

async fn open(parts: &Parts, path: &ContainerPath, query: &Query) -> Result<Response<Body>, Refusal> {
    let (options, previous) = options(query, Timestamp::now())?;
    let (name, container) = (&path.pod.name, &path.container);
    let not_found = |text: String| (StatusCode::NOT_FOUND, text);
    let pod = parts.pods.find(&path.pod.namespace, name).ok_or_else(|| not_found(format!("pod {name:?} does not exist")))?;
    if streams::terminal_of(&pod, container).is_none() {
        return Err(not_found(format!("container {container:?} not found in pod {name:?}")));
    }
    let id = choose(&pod, container, previous).map_err(|text| (StatusCode::BAD_REQUEST, text))?;
    let uid = PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default());
    let target = find(parts.pods.as_ref(), &uid, container, &id)
        .ok_or_else(|| (StatusCode::BAD_REQUEST, format!("unable to retrieve container logs for {id}: it is gone")))?;
    let reader = follow::open(target.log_path.clone().into(), options).await.map_err(|e| {
        let gone = e.kind() == io::ErrorKind::NotFound;
        let status = if gone { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
        (status, format!("can't open the log file {} of container {container:?} in pod {name:?}: {e}", target.log_path))
    })?;
    let (pods, container) = (parts.pods.clone(), container.clone());
    let is_running = move || pods.container(&uid, &container, false).is_some_and(|newest| newest.id == id && newest.running);
    Ok(response::stream("text/plain", with_a_late_end(log::stream(reader, Box::new(is_running)))))
}

/// Lets the end of a log come a moment after its last bytes. Where a client reads through a WebSocket, the API server throws away what
/// reaches it together with the end (k8s.io/streaming, `wsstream.Reader`), which is the whole of a short log.
fn with_a_late_end<T: Send + 'static>(log: impl Stream<Item = T> + Send + 'static) -> impl Stream<Item = T> + Send + 'static {
    let end = stream::once(sleep(LATE_END)).filter_map(|()| std::future::ready(None));
    log.chain(end)
}

/// The instance with this id, as far as the workers still know it.
fn find(pods: &dyn PodLookup, uid: &PodUid, container: &str, id: &ContainerId) -> Option<ContainerTarget> {
    [false, true].into_iter().filter_map(|previous| pods.container(uid, container, previous)).find(|target| target.id == *id)
}

/// Reads PodLogOptions from the query, with the API's rules: what can't be read is 400, what makes no sense is 422.
fn options(query: &Query, now: Timestamp) -> Result<(log::Options, bool), Refusal> {
    let unreadable = |name: &str, value: &str| {
        let text = format!("unable to decode query: {name}={value:?} is not what it should be");
        (StatusCode::BAD_REQUEST, text)
    };
    let invalid = |text: &str| (StatusCode::UNPROCESSABLE_ENTITY, format!("invalid request: {text}"));
    let number = |name: &str| {
        let read = |value: &str| value.parse::<i64>().map_err(|_| unreadable(name, value));
        query.first(name).map(read).transpose()
    };
    // "tail" is what tailLines was called once.
    let tail = match query.first("tail").filter(|tail| !tail.is_empty()) {
        Some("all") => None,
        Some(_) => number("tail")?,
        None => number("tailLines")?,
    };
    let (limit, seconds) = (number("limitBytes")?, number("sinceSeconds")?);
    let time = query.first("sinceTime").filter(|time| !time.is_empty());
    let time: Option<Timestamp> = time.map(|t| t.parse().map_err(|_| unreadable("sinceTime", t))).transpose()?;
    if query.first("stream").is_some_and(|stream| stream != "All") {
        return Err((StatusCode::BAD_REQUEST, "only the stream \"All\" can be had from this node".into()));
    }
    let natural = |number: Option<i64>, least: i64, text: &str| match number {
        Some(n) if n < least => Err(invalid(text)),
        n => Ok(n.map(i64::unsigned_abs)),
    };
    let tail_lines = natural(tail, 0, "tailLines must be greater than or equal to 0")?;
    let limit_bytes = natural(limit, 1, "limitBytes must be greater than 0")?;
    let since = match (seconds, time) {
        (Some(_), Some(_)) => return Err(invalid("at most one of sinceTime or sinceSeconds may be specified")),
        (Some(seconds), None) if seconds < 1 => return Err(invalid("sinceSeconds must be greater than 0")),
        (Some(seconds), None) => Some(now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN)),
        (None, time) => time,
    };
    let options = log::Options { tail_lines, limit_bytes, since, follow: flag(query, "follow"), timestamps: flag(query, "timestamps") };
    Ok((options, flag(query, "previous")))
}

/// Booleans as the API server writes them: anything but `0` and `false` is yes, also nothing at all.
fn flag(query: &Query, name: &str) -> bool {
    query.first(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

/// Which instance of a container is meant; `Err` says why there is none. The texts are what people search the web for.
fn choose(pod: &Pod, container: &str, previous: bool) -> Result<ContainerId, String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = status_of(pod, container).ok_or_else(|| format!("container {container:?} in pod {name:?} is not available"))?;
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let last_id = last.and_then(|last| last.container_id.as_deref()).filter(|id| !id.is_empty());
    let terminated = || format!("container {container:?} in pod {name:?} is terminated");
    let id = if previous {
        last_id.ok_or_else(|| format!("previous terminated container {container:?} in pod {name:?} not found"))?
    } else if state.running.is_some() {
        status.container_id.as_deref().unwrap_or_default()
    } else if let Some(ended) = &state.terminated {
        // The next instance may have failed before there was a container.
        ended.container_id.as_deref().filter(|id| !id.is_empty()).or(last_id).ok_or_else(terminated)?
    } else if last.is_some() {
        last_id.ok_or_else(terminated)?
    } else {
        return Err(waiting(container, name, state.waiting.and_then(|w| w.reason)));
    };
    // `containerd://<id>`
    Ok(id.split_once("://").map_or(id, |(_, id)| id).into())
}

fn waiting(container: &str, pod: &str, reason: Option<String>) -> String {
    let why = match reason.as_deref() {
        Some("ErrImagePull") => ": image can't be pulled",
        Some("ImagePullBackOff") => ": trying and failing to pull image",
        Some(reason) => &format!(": {reason}"),
        None => " - no logs yet",
    };
    format!("container {container:?} in pod {pod:?} is waiting to start{why}")
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|s| s.name == container)
}

#[cfg(test)]
mod tests;
