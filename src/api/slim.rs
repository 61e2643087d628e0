//! Services and EndpointSlices straight from Kubernetes protobuf into the slim types of [`crate::model::service`].
//!
//! In: response bodies and watch frames. Out: slim objects, each with the problems found in it. Owns and keeps nothing.
//!
//! Only the fields that a node reads are declared (`slim/wire.rs`); the decoder steps over all others, so `managedFields`,
//! owner references and the annotations of Services never reach the heap. A list is read while it comes in ([`ListReader`]): one object at a time is decoded.
//! A malformed part of an object costs that part only; it is named in [`Decoded::problems`].

mod convert;
mod reader;
mod wire;

#[cfg(test)]
mod tests;

use prost::Message;

pub use reader::ListReader;

use crate::model::service::{EndpointSlice, Service, ServiceName};

/// What to ask the API server for in a get or a list.
pub const ACCEPT: &str = "application/vnd.kubernetes.protobuf";
/// What to ask the API server for in a watch.
pub const ACCEPT_WATCH: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// A watch frame above this many bytes is a broken stream: etcd's own limit for one object is far below.
const MAX_FRAME: usize = 16 << 20;

/// Why bytes from the API server could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body doesn't start with the four bytes of Kubernetes protobuf: the server answered in another format.
    #[error("the answer is not Kubernetes protobuf (is a proxy between this node and the API server?)")]
    NotProtobuf,
    /// The bytes end in the middle of a field, or a length is impossible.
    #[error("the answer is cut off or damaged")]
    Truncated,
    /// A watch frame announces more bytes than any object has.
    #[error("a watch frame of {0} bytes can't be right")]
    FrameTooLong(usize),
    /// One message is malformed.
    #[error("malformed {kind}: {reason}")]
    Malformed {
        /// The message's kind.
        kind: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// A watch event of a type that this version of the protocol doesn't have.
    #[error("watch event of unknown type {0:?}")]
    UnknownEvent(String),
}

/// Kinds that can be decoded here.
pub trait Slim: Sized {
    /// The object's kind, for messages.
    const KIND: &'static str;
    /// Reads one object's own message (without envelope). `node` is this node's name: it decides what `local` means.
    fn read(raw: &[u8], node: &str) -> Result<Decoded<Self>, DecodeError>;
    /// Namespace and name.
    fn id(&self) -> &ServiceName;
}

/// One object with what the watch engine needs besides.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded<T> {
    /// The healthy part of the object.
    pub object: T,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// What was wrong with the object: one line each, which names it. Empty for a well-formed one.
    pub problems: Vec<String>,
}

/// A whole list.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects<T> {
    /// Its objects.
    pub items: Vec<T>,
    /// The list's `metadata.resourceVersion`: where a watch starts.
    pub resource_version: String,
    /// What was wrong with them.
    pub problems: Vec<String>,
}

/// One event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<T> {
    /// ADDED or MODIFIED.
    Applied(Decoded<T>),
    /// DELETED, with the last state.
    Deleted(Decoded<T>),
    /// BOOKMARK: everything up to this version was sent.
    Bookmark {
        /// The version.
        resource_version: String,
    },
    /// ERROR: the watch ends here.
    Error {
        /// HTTP status code, such as 410 when history was lost.
        code: i32,
        /// Machine-readable reason, such as `Expired`.
        reason: String,
        /// The server's words.
        message: String,
    },
}

/// Splits the first frame off a watch stream: the frame's payload and the number of bytes used, or `None` when more are needed.
pub fn split_frame(stream: &[u8]) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let Some((head, rest)) = stream.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length > MAX_FRAME {
        return Err(DecodeError::FrameTooLong(length));
    }
    Ok(rest.get(..length).map(|frame| (frame, length + 4)))
}

/// Reads the payload of one watch frame.
pub fn event<T: Slim>(frame: &[u8], node: &str) -> Result<Event<T>, DecodeError> {
    // Frames come as a bare WatchEvent today; client-go also accepts one in an envelope, so do we.
    let frame = if wire::is_enveloped(frame) { wire::unwrap(frame)? } else { frame };
    let (mut kind, mut raw): (&[u8], &[u8]) = (&[], &[]);
    for field in wire::Fields(frame) {
        match field? {
            (1, bytes) => kind = bytes,
            (2, bytes) => raw = wire::field(bytes, 1)?.unwrap_or_default(),
            _ => {}
        }
    }
    let raw = if wire::is_enveloped(raw) { wire::unwrap(raw)? } else { raw };
    match kind {
        b"ADDED" | b"MODIFIED" => read_named(raw, node).map(Event::Applied),
        b"DELETED" => read_named(raw, node).map(Event::Deleted),
        b"BOOKMARK" => {
            let object = wire::Bookmark::decode(raw).map_err(|e| malformed("bookmark", &e))?;
            let meta = object.metadata.unwrap_or_default();
            Ok(Event::Bookmark { resource_version: meta.resource_version })
        }
        b"ERROR" => {
            let status = wire::Status::decode(raw).map_err(|e| malformed("Status", &e))?;
            Ok(Event::Error { code: status.code, reason: status.reason, message: status.message })
        }
        other => Err(DecodeError::UnknownEvent(String::from_utf8_lossy(other).chars().take(32).collect())),
    }
}

impl Slim for Service {
    const KIND: &'static str = "Service";
    fn read(raw: &[u8], _node: &str) -> Result<Decoded<Self>, DecodeError> {
        wire::Service::decode(raw).map(convert::service).map_err(|e| malformed(Self::KIND, &e))
    }
    fn id(&self) -> &ServiceName {
        &self.id
    }
}

impl Slim for EndpointSlice {
    const KIND: &'static str = "EndpointSlice";
    fn read(raw: &[u8], node: &str) -> Result<Decoded<Self>, DecodeError> {
        wire::EndpointSlice::decode(raw).map(|slice| convert::slice(slice, node)).map_err(|e| malformed(Self::KIND, &e))
    }
    fn id(&self) -> &ServiceName {
        &self.id
    }
}

/// Reads an object; an error names it.
fn read_named<T: Slim>(raw: &[u8], node: &str) -> Result<Decoded<T>, DecodeError> {
    T::read(raw, node).map_err(|error| match error {
        DecodeError::Malformed { kind, reason } => DecodeError::Malformed { kind, reason: format!("{}: {reason}", wire::name_in(raw)) },
        other => other,
    })
}

fn malformed(kind: &'static str, error: &prost::DecodeError) -> DecodeError {
    DecodeError::Malformed { kind, reason: error.to_string() }
}
