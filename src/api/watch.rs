//! List and watch as one state machine: what [`super::WatchEvent`] promises, over a [`Source`].
//!
//! In: lists and frames. Out: events. A lost connection resumes from the last version; lost history (410) starts over with a
//! snapshot. Lists come from the server's watch cache, which costs etcd nothing, and are never older than what was seen before.
//!
//! Streamed lists (KEP-3157) are not used: the server refuses them when its etcd is older than 3.4.31, and one object at a time is
//! held either way.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, Stream, unfold};
use tokio::time::Instant;
use tracing::debug;

use super::backoff::Backoff;
use super::decode::{Frame, Listed};
use super::transport::refused_with;
use super::{Error, ErrorKind, Result, WatchEvent};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A watch that ends sooner, without having said anything, counts as a failed try.
const TOO_SHORT: Duration = Duration::from_secs(1);
/// Any version that the server has in its cache.
const ANY: &str = "0";

/// Where lists and frames come from: the API server, or a script in tests.
pub trait Source: Send + Sync + 'static {
    /// The objects.
    type Item: Send + 'static;
    /// Lists everything, as of the given version or any later one.
    fn list(&self, at_least: &str) -> impl Future<Output = Result<Listed<Self::Item>>> + Send;
    /// Opens a watch for what came after this version.
    fn watch(&self, version: &str) -> impl Future<Output = Result<Frames<Self::Item>>> + Send;
    /// Waits until the server answers again after it did not: ends a long pause early.
    fn recovered(&self) -> impl Future<Output = ()> + Send;
}

/// The frames of an open watch; ends when the connection does.
pub type Frames<T> = BoxStream<'static, Result<Frame<T>>>;

enum State<T> {
    /// Nothing is known, or not any more. Next: a snapshot and [`State::Known`].
    Start { at_least: String },
    /// Everything up to `version` is known, no watch is open. Next: [`State::Watching`].
    Known { version: String },
    /// Changes come in. Next: [`State::Known`] when the connection ends, [`State::Start`] when history was lost.
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
            State::Start { at_least } => match self.source.list(&at_least).await {
                Ok(list) => {
                    self.succeeded();
                    let mut items = list.items;
                    items.shrink_to_fit();
                    (Some(WatchEvent::Snapshot(items)), State::Known { version: list.version })
                }
                Err(error) => {
                    let at_least = if from_the_future(&error) { ANY.to_owned() } else { at_least };
                    self.failed(error, State::Start { at_least })
                }
            },
            State::Known { version } => match self.source.watch(&version).await {
                Ok(frames) => (None, State::Watching { version, frames, since: Instant::now() }),
                Err(error) if gone(&error) => (None, State::Start { at_least: version }),
                Err(error) if from_the_future(&error) => self.failed(error, State::Start { at_least: ANY.into() }),
                Err(error) => self.failed(error, State::Known { version }),
            },
            State::Watching { version, mut frames, since } => match frames.next().await {
                Some(Ok(frame)) => self.frame(version, frames, since, frame),
                Some(Err(error)) => self.failed(error, State::Known { version }),
                None => {
                    self.pause = since.elapsed() < TOO_SHORT;
                    (None, State::Known { version })
                }
            },
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
            Frame::Bookmark { version } => {
                self.succeeded();
                (None, State::Watching { version, frames, since })
            }
            Frame::Error { code, reason, message } => {
                let error = Error { action: "watch".into(), kind: refused_with(code, &reason, message) };
                if gone(&error) {
                    debug!("{error}: reading everything again");
                    return (None, State::Start { at_least: version });
                }
                self.failed(error, State::Known { version })
            }
        }
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
}

/// History before the version was compacted away.
fn gone(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Refused(410, _))
}

/// The server has not reached our version: it lags behind another one for a moment, or its etcd was restored from a backup.
/// Its words are the only sign (`k8s.io/apiserver/pkg/storage`, NewTooLargeResourceVersionError).
fn from_the_future(error: &Error) -> bool {
    matches!(&error.kind, ErrorKind::Unavailable(message) if message.contains("Too large resource version"))
}

#[cfg(test)]
mod tests;
