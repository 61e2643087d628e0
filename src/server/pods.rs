//! Lists of pods: those that should run, and those that do.

use std::io;

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::response::{self, Body};
use crate::pods::PodLookup;
use crate::runtime::{ContainerPhase, ObservedPod, Runtime};

const HEAD: &[u8] = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#;

/// Every pod of this node as a PodList. One pod at a time is put into JSON, so that the list never is in memory as a whole.
pub fn all(pods: &dyn PodLookup) -> Response<Body> {
    let items = pods.all().into_iter().enumerate().map(|(i, pod)| {
        let mut item = if i == 0 { Vec::new() } else { vec![b','] };
        serde_json::to_writer(&mut item, pod.as_ref())?;
        Ok(Bytes::from(item))
    });
    let parts = std::iter::once(Ok(HEAD.into())).chain(items).chain([io::Result::Ok(Bytes::from_static(b"]}"))]);
    response::stream("application/json", stream::iter(parts))
}

/// What the runtime says is running: names and images only.
pub async fn running(runtime: &dyn Runtime) -> Response<Body> {
    match runtime.list_pods().await {
        Ok(pods) => {
            let items: Vec<Value> = pods.iter().filter_map(running_pod).collect();
            response::json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}).to_string())
        }
        Err(error) => response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn running_pod(observed: &ObservedPod) -> Option<Value> {
    let running = observed.containers.iter().filter(|c| c.phase == ContainerPhase::Running);
    let containers: Vec<Value> = running.map(|c| json!({"name": *c.name, "image": c.image, "resources": {}})).collect();
    if containers.is_empty() && !observed.sandboxes.iter().any(|s| s.ready) {
        return None;
    }
    let pod = &observed.pod;
    Some(json!({
        "metadata": {"name": *pod.name, "namespace": *pod.namespace, "uid": pod.uid.as_str()},
        "spec": {"containers": containers},
        "status": {},
    }))
}
