//! Bytes of list and watch answers → objects, in the two formats that the watches use.
//!
//! JSON into the API's own types, for the few pods of a node; protobuf straight into slim types, for what a cluster has thousands of.

use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use k8s_openapi::{List, ListableResource, Metadata};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::slim::{self, Slim};

/// A JSON watch line above this is a broken stream: etcd's own limit for one object is far below.
const LONGEST_LINE: usize = 16 << 20;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// Its objects.
    pub items: Vec<T>,
    /// Where a watch can start, once all pages are read.
    pub version: String,
    /// Asks for the next page; `None` on the last one.
    pub next: Option<String>,
}

/// One event of a watch, with the version to resume from.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame<T> {
    /// Made or changed.
    Applied(T, String),
    /// Deleted; the last state.
    Deleted(T, String),
    /// Nothing new up to `version`.
    Bookmark {
        /// The version.
        version: String,
        /// Whether all initial events of a streamed list were sent (KEP-3157).
        list_complete: bool,
    },
    /// The server ends the watch.
    Error {
        /// HTTP status code.
        code: u16,
        /// Machine-readable reason.
        reason: String,
        /// For people.
        message: String,
    },
}

/// A format of list and watch answers for one kind of object.
pub trait Decode: Clone + Send + Sync + 'static {
    /// What comes out.
    type Item: Send + 'static;
    /// Media type to ask for in lists.
    const LIST: &'static str;
    /// Media type to ask for in watches.
    const WATCH: &'static str;

    /// Reads a list answer.
    fn page(&self, body: &[u8]) -> Result<Page<Self::Item>, String>;
    /// The first whole frame at the front of `stream` and how many bytes it takes, or `None` when more are needed.
    fn split<'a>(&self, stream: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, String>;
    /// Reads a frame.
    fn frame(&self, frame: &[u8]) -> Result<Frame<Self::Item>, String>;
}

/// JSON into a typed API object, without its managedFields.
pub struct Json<K>(PhantomData<fn() -> K>);

impl<K> Json<K> {
    /// For objects of type `K`.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Clone for Json<K> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    object: T,
}

#[derive(Deserialize)]
struct Head {
    r#type: String,
}

/// A bookmark holds an object of the watched kind with nothing but its metadata.
#[derive(Deserialize)]
struct Bare {
    metadata: ObjectMeta,
}

fn object<T: DeserializeOwned>(frame: &[u8]) -> Result<T, String> {
    serde_json::from_slice::<Envelope<T>>(frame).map(|e| e.object).map_err(|e| format!("malformed watch event: {e}"))
}

impl<K> Decode for Json<K>
where
    K: ListableResource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + 'static,
{
    type Item = K;
    const LIST: &'static str = "application/json";
    const WATCH: &'static str = "application/json";

    fn page(&self, body: &[u8]) -> Result<Page<K>, String> {
        let mut list: List<K> = serde_json::from_slice(body).map_err(|e| format!("malformed list: {e}"))?;
        list.items.iter_mut().for_each(|item| item.metadata_mut().managed_fields = None);
        let next = list.metadata.continue_.filter(|token| !token.is_empty());
        Ok(Page { items: list.items, version: list.metadata.resource_version.unwrap_or_default(), next })
    }

    fn split<'a>(&self, stream: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, String> {
        match stream.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(stream.get(..end).map(|line| (line, end + 1))),
            None if stream.len() > LONGEST_LINE => Err(format!("a watch event of more than {LONGEST_LINE} bytes can't be right")),
            None => Ok(None),
        }
    }

    fn frame(&self, frame: &[u8]) -> Result<Frame<K>, String> {
        // Twice over the same bytes, so that no generic value is built: the second time with the type that the first one told.
        let head: Head = serde_json::from_slice(frame).map_err(|e| format!("malformed watch event: {e}"))?;
        match head.r#type.as_str() {
            kind @ ("ADDED" | "MODIFIED" | "DELETED") => {
                let mut item: K = object(frame)?;
                let meta = item.metadata_mut();
                meta.managed_fields = None;
                let version = meta.resource_version.clone().unwrap_or_default();
                Ok(if kind == "DELETED" { Frame::Deleted(item, version) } else { Frame::Applied(item, version) })
            }
            "BOOKMARK" => {
                let meta = object::<Bare>(frame)?.metadata;
                let end = meta.annotations.as_ref().and_then(|a| a.get("k8s.io/initial-events-end"));
                let list_complete = end.is_some_and(|v| v == "true");
                Ok(Frame::Bookmark { version: meta.resource_version.unwrap_or_default(), list_complete })
            }
            "ERROR" => {
                let status: Status = object(frame)?;
                let code = status.code.and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
                Ok(Frame::Error { code, reason: status.reason.unwrap_or_default(), message: status.message.unwrap_or_default() })
            }
            other => Err(format!("watch event of unknown type {:?}", other.chars().take(32).collect::<String>())),
        }
    }
}

/// Kubernetes protobuf into a slim type.
pub struct Protobuf<T> {
    node: Arc<str>,
    kind: PhantomData<fn() -> T>,
}

impl<T> Protobuf<T> {
    /// `node` decides which endpoints are local.
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), kind: PhantomData }
    }
}

impl<T> Clone for Protobuf<T> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), kind: PhantomData }
    }
}

fn report(problems: &[String]) {
    problems.iter().for_each(|problem| warn!("{problem}"));
}

impl<T: Slim + Send + 'static> Decode for Protobuf<T> {
    type Item = T;
    const LIST: &'static str = slim::ACCEPT;
    const WATCH: &'static str = slim::ACCEPT_WATCH;

    fn page(&self, body: &[u8]) -> Result<Page<T>, String> {
        let page = slim::page(body, &self.node).map_err(|e| e.to_string())?;
        report(&page.problems);
        let next = Some(page.continue_token).filter(|token| !token.is_empty());
        Ok(Page { items: page.items, version: page.resource_version, next })
    }

    fn split<'a>(&self, stream: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, String> {
        slim::split_frame(stream).map_err(|e| e.to_string())
    }

    fn frame(&self, frame: &[u8]) -> Result<Frame<T>, String> {
        Ok(match slim::event::<T>(frame, &self.node).map_err(|e| e.to_string())? {
            slim::Event::Applied(decoded) => {
                report(&decoded.problems);
                Frame::Applied(decoded.object, decoded.resource_version)
            }
            slim::Event::Deleted(decoded) => Frame::Deleted(decoded.object, decoded.resource_version),
            slim::Event::Bookmark { resource_version, initial_events_end } => {
                Frame::Bookmark { version: resource_version, list_complete: initial_events_end }
            }
            slim::Event::Error { code, reason, message } => Frame::Error { code: u16::try_from(code).unwrap_or(500), reason, message },
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","resourceVersion":"7",
        "managedFields":[{"manager":"x","fieldsV1":{"f:spec":{}}}]},"spec":{"containers":[]}}"#;

    fn line(kind: &str, object: &str) -> Vec<u8> {
        format!(r#"{{"type":"{kind}","object":{object}}}"#).into_bytes()
    }

    #[test]
    fn pods_lose_their_managed_fields() {
        let Ok(Frame::Applied(pod, version)) = Json::<Pod>::new().frame(&line("MODIFIED", POD)) else { panic!("applied") };
        assert_eq!((pod.metadata.name.as_deref(), version.as_str()), (Some("web"), "7"));
        assert_eq!(pod.metadata.managed_fields, None);
        let list = format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9","continue":"c"}},"items":[{POD}]}}"#);
        let page = Json::<Pod>::new().page(list.as_bytes()).expect("page");
        assert_eq!((page.version.as_str(), page.next.as_deref()), ("9", Some("c")));
        assert_eq!(page.items[0].metadata.managed_fields, None);
    }

    #[test]
    fn other_events_are_read_without_a_pod() {
        let json = Json::<Pod>::new();
        let bookmark = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"12","creationTimestamp":null,
            "annotations":{"k8s.io/initial-events-end":"true"}},"spec":{"containers":null},"status":{}}"#;
        assert_eq!(json.frame(&line("BOOKMARK", bookmark)), Ok(Frame::Bookmark { version: "12".into(), list_complete: true }));
        let gone = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old","reason":"Expired","code":410}"#;
        let want = Frame::Error { code: 410, reason: "Expired".into(), message: "too old".into() };
        assert_eq!(json.frame(&line("ERROR", gone)), Ok(want));
        assert!(json.frame(&line("SURPRISE", "{}")).is_err_and(|e| e.contains("SURPRISE")));
        assert!(json.frame(b"{\"type\":").is_err());
    }

    #[test]
    fn lines_are_split_off_one_by_one() {
        let json = Json::<Pod>::new();
        assert_eq!(json.split(b"abc"), Ok(None));
        assert_eq!(json.split(b"abc\nde"), Ok(Some((&b"abc"[..], 4))));
        assert!(json.split(&vec![b'x'; LONGEST_LINE + 1]).is_err());
    }
}
