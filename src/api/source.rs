//! Lists and watches of one selection of objects over HTTP: the outside half of [`super::watch`].

use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::stream::{BoxStream, StreamExt, unfold};
use http_body_util::BodyExt;
use kube::Resource;
use kube::api::{ListParams, VersionMatch, WatchParams};
use kube::client::Body;
use kube::core::Request as Builder;
use tokio::time::timeout;
use tracing::warn;

use super::backoff::random_part;
use super::client::Built;
use super::connect::chain;
use super::decode::{Decode, Frame, ListDecode, Listed};
use super::transport::{DEADLINE, Transport, no_answer};
use super::watch::Source;
use super::{Error, ErrorKind, Result};

/// A list may take longer than an ordinary call to begin; then its parts come without a pause.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// How long the server ends a watch after (client-go: 5 to 10 minutes, at random).
const SHORTEST_WATCH: Duration = Duration::from_secs(300);
/// Bookmarks come about once a minute: a watch that is silent for twice that long is dead.
const SILENCE: Duration = Duration::from_secs(120);

/// Which objects to watch.
#[derive(Debug, Clone)]
pub struct Selection {
    /// For error messages: `watch services`.
    action: &'static str,
    path: String,
    fields: Option<String>,
    labels: Option<&'static str>,
}

impl Selection {
    /// All objects of kind `K`, in all namespaces.
    pub fn of<K: Resource<DynamicType = ()>>(action: &'static str) -> Self {
        Self { action, path: K::url_path(&(), None), fields: None, labels: None }
    }
    /// Only those with these fields.
    pub fn fields(mut self, selector: String) -> Self {
        self.fields = Some(selector);
        self
    }
    /// Only those with these labels.
    pub fn labels(mut self, selector: &'static str) -> Self {
        self.labels = Some(selector);
        self
    }
}

/// Reads a selection with a decoder.
pub struct HttpSource<D> {
    transport: Transport,
    selection: Selection,
    decode: D,
}

impl<D: Decode> HttpSource<D> {
    /// Sends nothing yet.
    pub fn new(transport: Transport, selection: Selection, decode: D) -> Self {
        Self { transport, selection, decode }
    }

    async fn open(&self, request: Built, accept: &'static str) -> Result<Body> {
        let request = request.map_err(|e| self.error(ErrorKind::Refused(400, e.to_string())))?;
        let head = timeout(HEAD_DEADLINE, self.transport.open(request, accept)).await;
        let response = head.unwrap_or_else(|_| Err(no_answer(HEAD_DEADLINE))).map_err(|kind| self.error(kind))?;
        Ok(response.into_body())
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { action: self.selection.action.to_owned(), kind }
    }
}

impl<D: Decode> Source for HttpSource<D> {
    type Item = D::Item;

    async fn list(&self, at_least: &str) -> Result<Listed<D::Item>> {
        let params = ListParams {
            label_selector: self.selection.labels.map(str::to_owned),
            field_selector: self.selection.fields.clone(),
            ..ListParams::default()
        };
        let params = params.at(at_least).matching(VersionMatch::NotOlderThan);
        let mut body = self.open(Builder::new(&self.selection.path).list(&params), D::LIST).await?;
        let broken = |reason| self.error(ErrorKind::Unavailable(reason));
        let mut list = self.decode.list();
        while let Some(part) = timeout(DEADLINE, body.frame()).await.map_err(|_| self.error(no_answer(DEADLINE)))? {
            let part = part.map_err(|e| broken(format!("the answer broke off: {}", chain(&e))))?;
            if let Ok(data) = part.into_data() {
                list.push(&data).map_err(broken)?;
            }
        }
        list.finish().map_err(broken)
    }

    async fn watch(&self, version: &str) -> Result<BoxStream<'static, Result<Frame<D::Item>>>> {
        let seconds = (SHORTEST_WATCH + random_part(SHORTEST_WATCH)).as_secs();
        let params = WatchParams {
            label_selector: self.selection.labels.map(str::to_owned),
            field_selector: self.selection.fields.clone(),
            timeout: u32::try_from(seconds).ok(),
            ..WatchParams::default()
        };
        let frames = Frames {
            body: self.open(Builder::new(&self.selection.path).watch(&params, version), D::WATCH).await?,
            buffer: BytesMut::new(),
            decode: self.decode.clone(),
            action: self.selection.action,
            broken: false,
        };
        Ok(unfold(frames, |mut frames| async { frames.next().await.map(|frame| (frame, frames)) }).boxed())
    }

    async fn recovered(&self) {
        self.transport.recovered().await;
    }
}

/// The frames of one open watch. Holds no more than the frame that is coming in.
struct Frames<D> {
    body: Body,
    buffer: BytesMut,
    decode: D,
    action: &'static str,
    /// After an error nothing more is read.
    broken: bool,
}

impl<D: Decode> Frames<D> {
    async fn next(&mut self) -> Option<Result<Frame<D::Item>>> {
        if self.broken {
            return None;
        }
        let next = self.read().await.transpose()?;
        self.broken = next.is_err();
        Some(next.map_err(|reason| Error { action: self.action.to_owned(), kind: ErrorKind::Unavailable(reason) }))
    }

    async fn read(&mut self) -> std::result::Result<Option<Frame<D::Item>>, String> {
        loop {
            if let Some((frame, used)) = self.decode.split(&self.buffer)? {
                let frame = self.decode.frame(frame);
                self.buffer.advance(used);
                match frame {
                    Ok(frame) => return Ok(Some(frame)),
                    // Asked again, the server would send the same: one bad object must not keep all others away.
                    Err(reason) => warn!("{}: passing over a change that can't be read: {reason}", self.action),
                }
                continue;
            }
            match timeout(SILENCE, self.body.frame()).await {
                // Not even a bookmark came. The server may be gone without a word, which the next call will tell; or it has been
                // restarted on an older etcd and sends none before a kind's first event (`cacher/cache_watcher.go`).
                Err(_) => return Ok(None),
                // The server closed it, in order or not: either way the watch resumes from the last version.
                Ok(None | Some(Err(_))) => return Ok(None),
                Ok(Some(Ok(part))) => {
                    if let Ok(data) = part.into_data() {
                        self.grow(&data);
                    }
                }
            }
        }
    }

    fn grow(&mut self, data: &[u8]) {
        if self.buffer.is_empty() {
            // A burst must not leave its memory behind for the life of the watch.
            self.buffer = BytesMut::with_capacity(data.len());
        }
        self.buffer.extend_from_slice(data);
    }
}
