//! List and watch as one state machine: what [`super::WatchEvent`] promises, over a [`Source`].
//!
//! In: pages and frames. Out: events. A lost connection resumes from the last version; lost history (410) starts over with a
//! snapshot. The first list is streamed (KEP-3157) from the server's cache: one object at a time, no read from etcd.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, Stream, unfold};
use tokio::time::Instant;
use tracing::debug;

use super::backoff::Backoff;
use super::decode::{Frame, Page};
use super::transport::refused_with;
use super::{Error, ErrorKind, Result, WatchEvent};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A watch that ends sooner, without having said anything, counts as a failed try.
const TOO_SHORT: Duration = Duration::from_secs(1);
/// Any version that the server has in its cache.
const ANY: &str = "0";

/// Where a watch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin<'a> {
    /// With everything there is, then a bookmark that says so, then changes.
    List {
        /// The list must not be older than this version.
        at_least: &'a str,
    },
    /// With what came after this version.
    Version(&'a str),
}

/// Where pages and frames come from: the API server, or a script in tests.
pub trait Source: Send + Sync + 'static {
    /// The objects.
    type Item: Send + 'static;
    /// Reads one page of a consistent list.
    fn page(&self, next: Option<&str>) -> impl Future<Output = Result<Page<Self::Item>>> + Send;
    /// Opens a watch.
    fn watch(&self, from: Begin<'_>) -> impl Future<Output = Result<Frames<Self::Item>>> + Send;
    /// Waits until the server answers again after it did not: ends a long pause early.
    fn recovered(&self) -> impl Future<Output = ()> + Send;
}

/// The frames of an open watch; ends when the connection does.
pub type Frames<T> = BoxStream<'static, Result<Frame<T>>>;

enum State<T> {
    /// Nothing is known, or not any more. Next: [`State::Streaming`], or [`State::Paging`] when the server can't stream lists.
    Start { at_least: String },
    /// The objects of a streamed list come in. Next: a snapshot and [`State::Watching`].
    Streaming { items: Vec<T>, frames: Frames<T> },
    /// Some pages of a list are read. Next: more of them, at last a snapshot and [`State::Listed`].
    Paging { items: Vec<T>, next: Option<String> },
    /// Everything up to `version` is known, no watch is open. Next: [`State::Watching`].
    Listed { version: String },
    /// Changes come in. Next: [`State::Listed`] when the connection ends, [`State::Start`] when history was lost.
    Watching { version: String, frames: Frames<T>, since: Instant },
}

struct Machine<S: Source> {
    source: S,
    state: State<S::Item>,
    backoff: Backoff,
    /// Last failure that was told, until something succeeds.
    told: Option<Error>,
    /// A pause is due before the next step.
    pause: bool,
}

/// Runs the watch for as long as the stream is polled.
pub fn run<S: Source>(source: S) -> impl Stream<Item = WatchEvent<S::Item>> + Send {
    let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let machine = Machine { source, state: State::Start { at_least: ANY.into() }, backoff, told: None, pause: false };
    unfold(machine, |mut machine| async {
        loop {
            if std::mem::take(&mut machine.pause) {
                machine.wait().await;
            }
            let state = std::mem::replace(&mut machine.state, State::Start { at_least: ANY.into() });
            let (event, next) = machine.step(state).await;
            machine.state = next;
            if let Some(event) = event {
                return Some((event, machine));
            }
        }
    })
}

type Step<T> = (Option<WatchEvent<T>>, State<T>);

impl<S: Source> Machine<S> {
    async fn step(&mut self, state: State<S::Item>) -> Step<S::Item> {
        match state {
            State::Start { at_least } => match self.source.watch(Begin::List { at_least: &at_least }).await {
                Ok(frames) => (None, State::Streaming { items: Vec::new(), frames }),
                Err(error) if streaming_refused(&error) => (None, State::Paging { items: Vec::new(), next: None }),
                Err(error) => {
                    let next = if from_the_future(&error) { ANY.to_owned() } else { at_least };
                    self.failed(error, State::Start { at_least: next })
                }
            },
            State::Streaming { items, mut frames } => match frames.next().await {
                Some(Ok(frame)) => self.listed_frame(items, frames, frame),
                Some(Err(error)) => self.failed(error, State::Start { at_least: ANY.into() }),
                None => self.failed(self.broken_off(), State::Start { at_least: ANY.into() }),
            },
            State::Paging { mut items, next } => match self.source.page(next.as_deref()).await {
                Ok(page) => {
                    items.extend(page.items);
                    match page.next {
                        Some(next) => (None, State::Paging { items, next: Some(next) }),
                        None => self.snapshot(items, State::Listed { version: page.version }),
                    }
                }
                // Also when the continue token is too old: the whole list again.
                Err(error) => self.failed(error, State::Start { at_least: ANY.into() }),
            },
            State::Listed { version } => match self.source.watch(Begin::Version(&version)).await {
                Ok(frames) => (None, State::Watching { version, frames, since: Instant::now() }),
                Err(error) if gone(&error) => (None, State::Start { at_least: version }),
                Err(error) if from_the_future(&error) => self.failed(error, State::Start { at_least: ANY.into() }),
                Err(error) => self.failed(error, State::Listed { version }),
            },
            State::Watching { version, mut frames, since } => match frames.next().await {
                Some(Ok(frame)) => self.frame(version, frames, since, frame),
                Some(Err(error)) => self.failed(error, State::Listed { version }),
                None => {
                    self.pause = since.elapsed() < TOO_SHORT;
                    (None, State::Listed { version })
                }
            },
        }
    }

    /// A frame of a streamed list.
    fn listed_frame(&mut self, mut items: Vec<S::Item>, frames: Frames<S::Item>, frame: Frame<S::Item>) -> Step<S::Item> {
        match frame {
            Frame::Applied(item, _) => {
                items.push(item);
                (None, State::Streaming { items, frames })
            }
            Frame::Bookmark { version, list_complete: true } => {
                self.snapshot(items, State::Watching { version, frames, since: Instant::now() })
            }
            Frame::Bookmark { .. } => (None, State::Streaming { items, frames }),
            // Initial events are never deletions; whatever this is, a new list is right.
            Frame::Deleted(..) => self.failed(self.broken_off(), State::Start { at_least: ANY.into() }),
            Frame::Error { code, reason, message } => {
                let error = self.error(refused_with(code, &reason, message));
                if streaming_refused(&error) {
                    return (None, State::Paging { items: Vec::new(), next: None });
                }
                self.failed(error, State::Start { at_least: ANY.into() })
            }
        }
    }

    /// A frame of a watch.
    fn frame(&mut self, version: String, frames: Frames<S::Item>, since: Instant, frame: Frame<S::Item>) -> Step<S::Item> {
        match frame {
            Frame::Applied(item, version) => {
                self.succeeded();
                (Some(WatchEvent::Applied(item)), State::Watching { version, frames, since })
            }
            Frame::Deleted(item, version) => {
                self.succeeded();
                (Some(WatchEvent::Deleted(item)), State::Watching { version, frames, since })
            }
            Frame::Bookmark { version, .. } => {
                self.succeeded();
                (None, State::Watching { version, frames, since })
            }
            Frame::Error { code, reason, message } => {
                let error = self.error(refused_with(code, &reason, message));
                if gone(&error) {
                    debug!("{error}: reading everything again");
                    return (None, State::Start { at_least: version });
                }
                self.failed(error, State::Listed { version })
            }
        }
    }

    fn snapshot(&mut self, mut items: Vec<S::Item>, next: State<S::Item>) -> Step<S::Item> {
        self.succeeded();
        items.shrink_to_fit();
        (Some(WatchEvent::Snapshot(items)), next)
    }

    fn failed(&mut self, error: Error, next: State<S::Item>) -> Step<S::Item> {
        self.pause = true;
        if self.told.as_ref() == Some(&error) {
            return (None, next);
        }
        self.told = Some(error.clone());
        (Some(WatchEvent::Failing(error)), next)
    }

    fn succeeded(&mut self) {
        self.told = None;
        self.backoff.reset();
    }

    async fn wait(&mut self) {
        let pause = self.backoff.pause();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Some other call got through: so will this one, soon, but not with all watches at the same instant.
            () = async { self.source.recovered().await; tokio::time::sleep(super::backoff::random_part(FIRST_PAUSE)).await } => {}
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { action: "watch".into(), kind }
    }

    fn broken_off(&self) -> Error {
        self.error(ErrorKind::Unavailable("the list broke off".into()))
    }
}

/// History before the version was compacted away.
fn gone(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Refused(410, _))
}

/// The server doesn't know `sendInitialEvents` (feature gate WatchList off): 422, or 400 from older ones. Or it would, but its etcd is
/// older than 3.4.25 and can't tell how far a watch has come: 500, and the feature's name in its words (`cacher.go`, Watch).
fn streaming_refused(error: &Error) -> bool {
    match &error.kind {
        ErrorKind::Refused(400 | 422, _) => true,
        ErrorKind::Unavailable(message) => message.contains("RequestWatchProgress"),
        _ => false,
    }
}

/// The server has not reached our version: it lags behind another one for a moment, or its etcd was restored from a backup.
/// Its words are the only sign (`k8s.io/apiserver/pkg/storage`, NewTooLargeResourceVersionError).
fn from_the_future(error: &Error) -> bool {
    matches!(&error.kind, ErrorKind::Unavailable(message) if message.contains("Too large resource version"))
}

#[cfg(test)]
mod tests;
