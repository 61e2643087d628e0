//! Bytes of list and watch answers → objects, in the two formats that the watches use.
//!
//! JSON into the API's own types, for the few pods of a node; protobuf straight into slim types, for what a cluster has thousands of.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta, Status};
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tracing::warn;

use super::slim::{self, Slim};

/// A JSON watch line above this is a broken stream: etcd's own limit for one object is far below.
const LONGEST_LINE: usize = 16 << 20;
/// The lists that are read as JSON are those of one node.
const LONGEST_LIST: usize = 64 << 20;

/// A whole list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    /// Its objects.
    pub items: Vec<T>,
    /// Where a watch can start.
    pub version: String,
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

    /// Takes the answer to a list in pieces.
    type List: ListDecode<Item = Self::Item>;
    /// Starts to read a list.
    fn list(&self) -> Self::List;
    /// The first whole frame at the front of `stream` and how many bytes it takes, or `None` when more are needed.
    fn split<'a>(&self, stream: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, String>;
    /// Reads a frame.
    fn frame(&self, frame: &[u8]) -> Result<Frame<Self::Item>, String>;
}

/// Reads the answer to one list.
pub trait ListDecode: Send {
    /// What comes out.
    type Item;
    /// Takes the next piece of the answer.
    fn push(&mut self, piece: &[u8]) -> Result<(), String>;
    /// All pieces have come.
    fn finish(self) -> Result<Listed<Self::Item>, String>;
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

/// The part of a list that is read; `items` lose their managedFields one by one, so that only one object's are held at a time.
#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned + Metadata<Ty = ObjectMeta>")]
struct JsonList<K> {
    metadata: ListMeta,
    items: Items<K>,
}

struct Items<K>(Vec<K>);

impl<'de, K: DeserializeOwned + Metadata<Ty = ObjectMeta>> Deserialize<'de> for Items<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lean<K>(PhantomData<K>);
        impl<'de, K: DeserializeOwned + Metadata<Ty = ObjectMeta>> Visitor<'de> for Lean<K> {
            type Value = Items<K>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of objects")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<K>, A::Error> {
                let mut items = Vec::new();
                while let Some(mut item) = seq.next_element::<K>()? {
                    item.metadata_mut().managed_fields = None;
                    items.push(item);
                }
                Ok(Items(items))
            }
            fn visit_unit<E>(self) -> Result<Items<K>, E> {
                Ok(Items(Vec::new())) // the server writes an empty list as null at times
            }
        }
        deserializer.deserialize_any(Lean(PhantomData))
    }
}

/// JSON can only be read when all of it has come.
pub struct JsonBody<K> {
    body: Vec<u8>,
    kind: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned + Metadata<Ty = ObjectMeta>> ListDecode for JsonBody<K> {
    type Item = K;

    fn push(&mut self, piece: &[u8]) -> Result<(), String> {
        if self.body.len().saturating_add(piece.len()) > LONGEST_LIST {
            return Err(format!("a list of more than {LONGEST_LIST} bytes can't be right"));
        }
        self.body.extend_from_slice(piece);
        Ok(())
    }

    fn finish(self) -> Result<Listed<K>, String> {
        let (metadata, items) = match serde_json::from_slice::<JsonList<K>>(&self.body) {
            Ok(list) => (list.metadata, list.items.0),
            Err(_) => without_bad_items(&self.body)?,
        };
        Ok(Listed { items, version: metadata.resource_version.unwrap_or_default() })
    }
}

/// Reads a list of which an item can't be read: that one is left out and named. Takes more memory, so it is the second try.
fn without_bad_items<K: DeserializeOwned + Metadata<Ty = ObjectMeta>>(body: &[u8]) -> Result<(ListMeta, Vec<K>), String> {
    #[derive(Deserialize)]
    struct Raw {
        metadata: ListMeta,
        items: Vec<Value>,
    }
    let list: Raw = serde_json::from_slice(body).map_err(|e| format!("malformed list: {e}"))?;
    let read = |item: Value| {
        let name = name_of(&item);
        match serde_json::from_value::<K>(item) {
            Ok(mut item) => {
                item.metadata_mut().managed_fields = None;
                Some(item)
            }
            Err(error) => {
                warn!("{name} can't be read and is left out: {error}");
                None
            }
        }
    };
    Ok((list.metadata, list.items.into_iter().filter_map(read).collect()))
}

/// Namespace and name of an object, for messages.
fn name_of(object: &Value) -> String {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

/// A bookmark holds an object of the watched kind with nothing but its metadata.
#[derive(Deserialize)]
struct Bare {
    metadata: ObjectMeta,
}

fn object<T: DeserializeOwned>(frame: &[u8]) -> Result<T, String> {
    serde_json::from_slice::<Envelope<T>>(frame).map(|e| e.object).map_err(|e| {
        let name = serde_json::from_slice::<Envelope<Value>>(frame).map(|e| name_of(&e.object)).unwrap_or_default();
        format!("malformed watch event of {name}: {e}")
    })
}

impl<K> Decode for Json<K>
where
    K: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + 'static,
{
    type Item = K;
    type List = JsonBody<K>;
    const LIST: &'static str = "application/json";
    const WATCH: &'static str = "application/json";

    fn list(&self) -> JsonBody<K> {
        JsonBody { body: Vec::new(), kind: PhantomData }
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
                Ok(Frame::Bookmark { version: meta.resource_version.unwrap_or_default() })
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

impl<T: Slim + Send> ListDecode for slim::ListReader<T> {
    type Item = T;

    fn push(&mut self, piece: &[u8]) -> Result<(), String> {
        slim::ListReader::push(self, piece).map_err(|e| e.to_string())
    }

    fn finish(self) -> Result<Listed<T>, String> {
        let list = slim::ListReader::finish(self).map_err(|e| e.to_string())?;
        report(&list.problems);
        Ok(Listed { items: list.items, version: list.resource_version })
    }
}

impl<T: Slim + Send + 'static> Decode for Protobuf<T> {
    type Item = T;
    type List = slim::ListReader<T>;
    const LIST: &'static str = slim::ACCEPT;
    const WATCH: &'static str = slim::ACCEPT_WATCH;

    fn list(&self) -> slim::ListReader<T> {
        slim::ListReader::new(&self.node)
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
            slim::Event::Bookmark { resource_version } => Frame::Bookmark { version: resource_version },
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
        let list = format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{POD},{POD}]}}"#);
        let read = |text: &str| {
            let mut list = Json::<Pod>::new().list();
            text.as_bytes().chunks(10).try_for_each(|piece| list.push(piece))?;
            list.finish()
        };
        let listed = read(&list).expect("list");
        assert_eq!((listed.version.as_str(), listed.items.len()), ("9", 2));
        assert!(listed.items.iter().all(|pod| pod.metadata.managed_fields.is_none()));
        assert_eq!(read(r#"{"metadata":{"resourceVersion":"9"},"items":null}"#).map(|l| l.items.len()), Ok(0));
        assert!(read(&list[..list.len() - 1]).is_err());
    }

    #[test]
    fn one_bad_pod_is_named_and_hides_no_others() {
        let bad = r#"{"metadata":{"name":"bad","namespace":"ns"},"spec":{"containers":7}}"#;
        let mut list = Json::<Pod>::new().list();
        list.push(format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{bad},{POD}]}}"#).as_bytes()).expect("short");
        let listed = list.finish().expect("the rest");
        assert_eq!((listed.version.as_str(), listed.items.len()), ("9", 1));
        assert_eq!((listed.items[0].metadata.name.as_deref(), &listed.items[0].metadata.managed_fields), (Some("web"), &None));
        assert!(Json::<Pod>::new().frame(&line("ADDED", bad)).is_err_and(|e| e.contains("ns/bad")));
    }

    #[test]
    fn other_events_are_read_without_a_pod() {
        let json = Json::<Pod>::new();
        let bookmark = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"12","creationTimestamp":null},"spec":{"containers":null},"status":{}}"#;
        assert_eq!(json.frame(&line("BOOKMARK", bookmark)), Ok(Frame::Bookmark { version: "12".into() }));
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
