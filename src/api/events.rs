//! Events about pods and this node: what `kubectl describe` shows.
//!
//! In: [`Recorder`] calls from any room; they never wait. Out: creations and patches, late and few at a time, so that they don't
//! compete with the start of a pod. Owns: one task with the queue and the memory of recent events. Survives a restart: nothing.

mod correlate;
mod writer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::mpsc;

use super::Api;
use crate::model::PodRef;
use crate::model::service::ServiceName;

/// Events that may wait; more are dropped and counted.
const QUEUE: usize = 1000;
/// Longer messages are cut: some runtimes put whole command outputs into their errors.
const LONGEST_MESSAGE: usize = 4096;

/// Whether somebody should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// For information.
    Normal,
    /// Something went wrong.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Limits of the whole node, from the kubelet configuration.
#[derive(Debug, Clone, Copy)]
pub struct EventRates {
    /// `eventRecordQPS`: events a second; 0 for no limit.
    pub per_second: u32,
    /// `eventBurst`: how many at once.
    pub burst: u32,
}

impl Default for EventRates {
    fn default() -> Self {
        Self { per_second: 50, burst: 100 }
    }
}

/// Something that happened, on its way to the writer.
#[derive(Debug, Clone)]
struct Record {
    object: ObjectReference,
    kind: EventType,
    reason: Cow<'static, str>,
    message: String,
    annotations: BTreeMap<String, String>,
    at: Timestamp,
}

/// Records events. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Record>,
    node: Arc<str>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the task that writes the events of this node. It ends when the last recorder is dropped and the queue is empty.
    pub fn start(api: Arc<dyn Api>, node: &str, rates: EventRates) -> Self {
        let (queue, records) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(api, node.to_owned(), rates, records));
        Self { queue, node: node.into(), dropped: Arc::default() }
    }

    /// An event about a pod, or with `field_path` (`spec.containers{web}`) about one of its containers.
    pub fn pod_event(
        &self,
        pod: &PodRef,
        field_path: Option<&str>,
        kind: EventType,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        self.record(of_pod(pod, field_path), kind, reason.into(), message.into());
    }

    /// An event about a pod, with annotations for programs.
    pub fn annotated_pod_event(
        &self,
        pod: &PodRef,
        annotations: BTreeMap<String, String>,
        kind: EventType,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        self.send(Record { annotations, ..Record::new(of_pod(pod, None), kind, reason.into(), message.into()) });
    }

    /// An event about this node. Its UID is the node's name, as upstream has it: `kubectl describe node` looks for that.
    pub fn node_event(&self, kind: EventType, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) {
        let name = Some(self.node.to_string());
        let object = ObjectReference { kind: Some("Node".into()), uid: name.clone(), name, ..ObjectReference::default() };
        self.record(object, kind, reason.into(), message.into());
    }

    /// An event about a Service.
    pub fn service_event(&self, id: &ServiceName, kind: EventType, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) {
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            namespace: Some(id.namespace.to_string()),
            name: Some(id.name.to_string()),
            ..ObjectReference::default()
        };
        self.record(object, kind, reason.into(), message.into());
    }

    /// Events lost so far because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn record(&self, object: ObjectReference, kind: EventType, reason: Cow<'static, str>, message: String) {
        self.send(Record::new(object, kind, reason, message));
    }

    fn send(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Record {
    fn new(object: ObjectReference, kind: EventType, reason: Cow<'static, str>, mut message: String) -> Self {
        if message.len() > LONGEST_MESSAGE {
            let end = (0..=LONGEST_MESSAGE).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        Self { object, kind, reason, message, annotations: BTreeMap::new(), at: Timestamp::now() }
    }
}

fn of_pod(pod: &PodRef, field_path: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace.to_string()),
        name: Some(pod.name.to_string()),
        uid: Some(pod.uid.to_string()),
        field_path: field_path.map(str::to_owned),
        resource_version: None,
    }
}

#[cfg(test)]
mod tests;
