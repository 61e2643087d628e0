//! Lists and watches of one selection of objects over HTTP: the outside half of [`super::watch`].

use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::stream::{BoxStream, StreamExt, unfold};
use http_body_util::{BodyExt, Limited};
use kube::Resource;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use kube::core::Request as Builder;
use tokio::time::timeout;

use super::backoff::random_part;
use super::connect::chain;
use super::decode::{Decode, Frame, Page};
use super::transport::{Transport, no_answer};
use super::watch::{Begin, Source};
use super::{Error, ErrorKind, Result};

/// Objects a page, where the server doesn't stream lists. A page of 500 Services is about 0.5 MB of protobuf.
const PAGE: u32 = 500;
/// Largest page accepted: 500 of the largest possible objects would be more, but no cluster has them.
const LARGEST_PAGE: usize = 256 << 20;
/// A page may take longer than an ordinary call.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);
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

    fn error(&self, kind: ErrorKind) -> Error {
        Error { action: self.selection.action.to_owned(), kind }
    }
}

impl<D: Decode> Source for HttpSource<D> {
    type Item = D::Item;

    async fn page(&self, next: Option<&str>) -> Result<Page<D::Item>> {
        let params = ListParams {
            label_selector: self.selection.labels.map(str::to_owned),
            field_selector: self.selection.fields.clone(),
            limit: Some(PAGE),
            continue_token: next.map(str::to_owned),
            ..ListParams::default()
        };
        let request = Builder::new(&self.selection.path).list(&params);
        let request = request.map_err(|e| self.error(ErrorKind::Refused(400, e.to_string())))?;
        let exchange = async {
            let body = self.transport.open(request, D::LIST).await?.into_body();
            let body = Limited::new(body, LARGEST_PAGE).collect().await;
            body.map(|body| body.to_bytes()).map_err(|e| ErrorKind::Unavailable(format!("the answer broke off: {}", chain(e.as_ref()))))
        };
        let body = timeout(PAGE_DEADLINE, exchange).await.unwrap_or_else(|_| Err(no_answer(PAGE_DEADLINE)));
        let body = body.map_err(|kind| self.error(kind))?;
        self.decode.page(&body).map_err(|reason| self.error(ErrorKind::Unavailable(reason)))
    }

    async fn watch(&self, from: Begin<'_>) -> Result<BoxStream<'static, Result<Frame<D::Item>>>> {
        let seconds = (SHORTEST_WATCH + random_part(SHORTEST_WATCH)).as_secs();
        let params = WatchParams {
            label_selector: self.selection.labels.map(str::to_owned),
            field_selector: self.selection.fields.clone(),
            timeout: Some(u32::try_from(seconds).unwrap_or(300)),
            bookmarks: true,
            send_initial_events: matches!(from, Begin::List { .. }),
        };
        let version = match from {
            Begin::List { at_least } => at_least,
            Begin::Version(version) => version,
        };
        let request = Builder::new(&self.selection.path).watch(&params, version);
        let request = request.map_err(|e| self.error(ErrorKind::Refused(400, e.to_string())))?;
        let head = timeout(PAGE_DEADLINE, self.transport.open(request, D::WATCH)).await;
        let response = head.unwrap_or_else(|_| Err(no_answer(PAGE_DEADLINE))).map_err(|kind| self.error(kind))?;
        let frames = Frames {
            body: response.into_body(),
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
                let frame = self.decode.frame(frame)?;
                self.buffer.advance(used);
                return Ok(Some(frame));
            }
            match timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Err(format!("nothing came for {SILENCE:?}, not even a bookmark")),
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
