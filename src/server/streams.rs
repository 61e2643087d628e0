//! exec, attach and port-forward: from the request to the runtime's one-time URL.

use std::sync::{Arc, PoisonError};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;

use super::handler::{Client, Handler};
use super::query::Query;
use super::response::{self, Body};
use super::routes::{ContainerPath, PodPath};
use super::upgrade;
use crate::model::{ContainerId, PodUid};
use crate::runtime::{self, StreamRequest};

/// Why there is no stream: status and text.
type Refusal = (StatusCode, String);

/// Runs a command in a container.
pub async fn exec(handler: &Handler, path: &ContainerPath, query: &Query, request: Request<Incoming>, client: &Client) -> Response<Body> {
    let url = async {
        let mut wanted = stream_request(query)?;
        wanted.command = query.all("command").map(str::to_owned).collect();
        let (_, id) = container(handler, path)?;
        handler.parts.runtime.exec_url(&id, &wanted).await.map_err(of_runtime)
    };
    proxy(handler, url, request, client).await
}

/// Connects to a container's main process.
pub async fn attach(handler: &Handler, path: &ContainerPath, query: &Query, request: Request<Incoming>, client: &Client) -> Response<Body> {
    let url = async {
        let mut wanted = stream_request(query)?;
        let (pod, id) = container(handler, path)?;
        // Whether there is a terminal was settled when the container was made.
        wanted.tty = terminal_of(&pod, &path.container).unwrap_or(false);
        wanted.stderr &= !wanted.tty;
        handler.parts.runtime.attach_url(&id, &wanted).await.map_err(of_runtime)
    };
    proxy(handler, url, request, client).await
}

/// Opens connections to a pod's ports.
pub async fn port_forward(handler: &Handler, path: &PodPath, query: &Query, request: Request<Incoming>, client: &Client) -> Response<Body> {
    let websocket = request.headers().get(http::header::UPGRADE).is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let url = async {
        let ports = if websocket { ports(query)? } else { Vec::new() };
        let pod = find_pod(handler, path)?;
        let sandbox = handler.parts.pods.sandbox(&uid_of(&pod));
        let sandbox = sandbox.ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod {:?} is not running", path.name)))?;
        handler.parts.runtime.port_forward_url(&sandbox, &ports).await.map_err(of_runtime)
    };
    proxy(handler, url, request, client).await
}

async fn proxy(
    handler: &Handler,
    url: impl Future<Output = Result<String, Refusal>>,
    request: Request<Incoming>,
    client: &Client,
) -> Response<Body> {
    if !upgrade::is_wanted(request.headers()) {
        return response::text(StatusCode::BAD_REQUEST, "Upgrade request required\n");
    }
    let url = match url.await {
        Ok(url) => url,
        Err((status, text)) => return response::text(status, text),
    };
    match upgrade::forward(request, &url, client.address, handler.settings.streaming_idle_timeout).await {
        Ok(answer) => {
            *client.relay.lock().unwrap_or_else(PoisonError::into_inner) = answer.relay;
            answer.response
        }
        Err(error) => {
            tracing::warn!(%error, "can't connect a stream");
            response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
        }
    }
}

fn stream_request(query: &Query) -> Result<StreamRequest, Refusal> {
    let on = |name: &str| query.first(name) == Some("1");
    let tty = on("tty");
    // A terminal has one output.
    let (stdin, stdout, stderr) = (on("input"), on("output"), on("error") && !tty);
    if !stdin && !stdout && !stderr {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr".into()));
    }
    Ok(StreamRequest { command: Vec::new(), stdin, stdout, stderr, tty })
}

fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let values: Vec<&str> = query.all("port").collect();
    if values.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "query parameter \"port\" is required".into()));
    }
    let read = |port: &str| {
        let port = port.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| (StatusCode::BAD_REQUEST, format!("unable to parse {:?} as ports", values.join(","))))
    };
    values.iter().flat_map(|value| value.split(',')).map(read).collect()
}

fn find_pod(handler: &Handler, path: &PodPath) -> Result<Arc<Pod>, Refusal> {
    let pod = handler.parts.pods.find(&path.namespace, &path.name);
    let pod = pod.ok_or_else(|| (StatusCode::NOT_FOUND, "pod does not exist".into()))?;
    if path.uid.is_some() && path.uid != pod.metadata.uid {
        return Err((StatusCode::NOT_FOUND, "pod not found".into()));
    }
    Ok(pod)
}

fn container(handler: &Handler, path: &ContainerPath) -> Result<(Arc<Pod>, ContainerId), Refusal> {
    let pod = find_pod(handler, &path.pod)?;
    let target = handler.parts.pods.container(&uid_of(&pod), &path.container, false);
    match target {
        Some(target) => Ok((pod, target.id)),
        None => Err((StatusCode::NOT_FOUND, format!("container not found ({:?})", path.container))),
    }
}

fn uid_of(pod: &Pod) -> PodUid {
    pod.metadata.uid.as_deref().unwrap_or_default().into()
}

/// Whether a container of the pod has a terminal; `None` when the pod has no such container.
pub fn terminal_of(pod: &Pod, container: &str) -> Option<bool> {
    let spec = pod.spec.as_ref()?;
    let regular = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| (&c.name, c.tty));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.name, c.tty));
    regular.chain(ephemeral).find(|(name, _)| *name == container).map(|(_, tty)| tty.unwrap_or(false))
}

fn of_runtime(error: runtime::Error) -> Refusal {
    let status = if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(Some(raw)).unwrap()
    }

    #[test]
    fn stream_requests() {
        let want = |stdin, stdout, stderr, tty| StreamRequest { command: vec![], stdin, stdout, stderr, tty };
        let table = [
            ("input=1&output=1&error=1", Some(want(true, true, true, false))),
            ("input=1&output=1&error=1&tty=1", Some(want(true, true, false, true))),
            ("output=1", Some(want(false, true, false, false))),
            ("error=1&tty=1", None),
            ("output=true", None),
            ("", None),
        ];
        for (raw, want) in table {
            assert_eq!(stream_request(&query(raw)).ok(), want, "{raw}");
        }
    }

    #[test]
    fn port_lists() {
        let table = [
            ("port=80", Some(vec![80])),
            ("port=80,81&port=82", Some(vec![80, 81, 82])),
            ("", None),
            ("port=", None),
            ("port=0", None),
            ("port=70000", None),
            ("port=80,", None),
        ];
        for (raw, want) in table {
            assert_eq!(ports(&query(raw)).ok(), want, "{raw}");
        }
    }
}
