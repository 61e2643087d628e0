//! A log as a stream of bytes: what is there, and, when it is followed, what comes until the container has ended.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream::try_unfold;
use tokio::time::{sleep, timeout};

use super::Options;
use super::read::Reader;
use crate::sys::inotify::{Change, DirWatch};

/// Looks again after this time even if the kernel has told of nothing.
const SAFETY_NET: Duration = Duration::from_secs(10);
/// The same when the kernel has no inotify instance to give.
const WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// First of the growing pauses after the runtime has closed a log file, or may have done so before it was watched: the
/// container may have ended, but the news of it comes from elsewhere and may come later.
const AFTER_CLOSE: Duration = Duration::from_millis(50);
/// The runtime makes the new file of a rotated log a moment before it stops writing to the old one.
const ROTATION: Duration = Duration::from_millis(50);

/// Says whether the container still runs. It is asked when there is nothing left to read.
pub type IsRunning = Box<dyn Fn() -> bool + Send + Sync>;

/// Opens a log; see [`Reader::open`].
pub async fn open(path: PathBuf, options: Options) -> io::Result<Reader> {
    blocking(move || Reader::open(&path, &options)).await
}

/// The log's bytes. Nothing is read ahead of the consumer.
pub fn stream(reader: Reader, is_running: IsRunning) -> impl Stream<Item = io::Result<Bytes>> + Send {
    try_unfold(Some(Follower { reader, is_running, phase: Phase::Reading, pause: AFTER_CLOSE }), |follower| async {
        match follower {
            Some(follower) => follower.next().await,
            None => Ok(None),
        }
    })
}

enum Phase {
    /// On the way to the end of what was there at first.
    Reading,
    /// Waiting for more, with or without the kernel's help.
    Waiting(Option<DirWatch>),
    /// The container has ended: what is there now is all there will be.
    Draining,
}

struct Follower {
    reader: Reader,
    is_running: IsRunning,
    phase: Phase,
    pause: Duration,
}

type Next = Option<(Bytes, Option<Follower>)>;

impl Follower {
    async fn next(mut self) -> io::Result<Next> {
        loop {
            // One stat of a file that is in use: not worth a trip to another thread.
            if !matches!(self.phase, Phase::Reading) && self.reader.take_up_rotation()? {
                sleep(ROTATION).await;
            }
            let chunk;
            (self.reader, chunk) = with(self.reader, Reader::next_chunk).await?;
            if let Some(chunk) = chunk {
                return Ok(Some((chunk, Some(self))));
            }
            if self.reader.has_enough() || !self.reader.follows() {
                return Ok(None);
            }
            self.phase = match self.phase {
                // Anything written before the watch began is found by reading once more.
                Phase::Reading => Phase::Waiting(watch(self.reader.path())),
                Phase::Waiting(_) if !(self.is_running)() => Phase::Draining,
                Phase::Waiting(mut watch) => {
                    self.pause = wait(&mut watch, self.pause).await;
                    Phase::Waiting(watch)
                }
                Phase::Draining => return Ok(self.reader.finish().map(|rest| (rest, None))),
            };
        }
    }
}

fn watch(log: &Path) -> Option<DirWatch> {
    let directory = log.parent()?;
    match DirWatch::new(directory, Change::IN_MODIFY | Change::IN_CREATE | Change::IN_MOVED_TO | Change::IN_CLOSE_WRITE) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(
                directory = %directory.display(), %error,
                "can't watch a log directory, looking at it every second instead; if this goes on, raise fs.inotify.max_user_instances"
            );
            None
        }
    }
}

/// Waits until there may be news; returns how long to wait the next time.
async fn wait(watch: &mut Option<DirWatch>, pause: Duration) -> Duration {
    let Some(events) = watch else {
        sleep(WITHOUT_EVENTS).await;
        return pause;
    };
    match timeout(pause, events.next()).await {
        Ok(Ok(events)) if events.iter().any(|e| e.change.contains(Change::IN_CLOSE_WRITE)) => AFTER_CLOSE,
        Ok(Ok(_)) => pause,
        Ok(Err(_)) => {
            *watch = None;
            pause
        }
        Err(_) => (pause * 2).min(SAFETY_NET),
    }
}

async fn with<T: Send + 'static>(
    mut reader: Reader,
    act: impl FnOnce(&mut Reader) -> io::Result<T> + Send + 'static,
) -> io::Result<(Reader, T)> {
    blocking(move || act(&mut reader).map(|answer| (reader, answer))).await
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::{StreamExt, TryStreamExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    struct Log {
        dir: tempfile::TempDir,
        running: Arc<AtomicBool>,
    }

    impl Log {
        fn new(text: &str) -> Self {
            let log = Self { dir: tempfile::tempdir().unwrap(), running: Arc::new(AtomicBool::new(true)) };
            log.write("0.log", text);
            log
        }
        fn write(&self, name: &str, text: &str) {
            let mut f = std::fs::File::options().create(true).append(true).open(self.dir.path().join(name)).unwrap();
            for line in text.split_inclusive('\n') {
                write!(f, "2020-01-01T00:00:00Z stdout F {line}").unwrap();
            }
        }
        async fn follow(&self, options: Options) -> futures::stream::BoxStream<'static, io::Result<Bytes>> {
            let reader = open(self.dir.path().join("0.log"), options).await.unwrap();
            let running = self.running.clone();
            stream(reader, Box::new(move || running.load(Ordering::SeqCst))).boxed()
        }
        fn rename(&self, to: &str) {
            std::fs::rename(self.dir.path().join("0.log"), self.dir.path().join(to)).unwrap();
        }
    }

    async fn take(s: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin), n: usize) -> String {
        let mut text = Vec::new();
        while text.len() < n {
            let next = timeout(LONG, s.next()).await.expect("no more of the log came in time");
            match next {
                Some(chunk) => text.extend_from_slice(&chunk.unwrap()),
                None => break,
            }
        }
        String::from_utf8(text).unwrap()
    }

    fn followed() -> Options {
        Options { follow: true, ..Options::default() }
    }

    #[tokio::test]
    async fn without_follow_it_ends() {
        let log = Log::new("a\nb\n");
        let all: Vec<Bytes> = log.follow(Options::default()).await.try_collect().await.unwrap();
        assert_eq!(all.concat(), b"a\nb\n");
    }

    #[tokio::test]
    async fn follows_over_two_rotations_and_loses_nothing() {
        let log = Log::new("a\n");
        let mut s = log.follow(followed()).await;
        assert_eq!(take(&mut s, 2).await, "a\n");
        for (i, name) in ["0.log.1", "0.log.2"].into_iter().enumerate() {
            log.write("0.log", &format!("before {i}\n"));
            assert_eq!(take(&mut s, 9).await, format!("before {i}\n"));
            log.rename(name);
            log.write(name, &format!("late {i}\n"));
            log.write("0.log", &format!("after {i}\n"));
            assert_eq!(take(&mut s, 15).await, format!("late {i}\nafter {i}\n"));
        }
        log.write("0.log", "last\nunfinished");
        log.running.store(false, Ordering::SeqCst);
        assert_eq!(take(&mut s, usize::MAX).await, "last\nunfinished");
    }

    #[tokio::test]
    async fn ends_soon_after_the_container_though_the_news_is_late() {
        let log = Log::new("a\n");
        let mut s = log.follow(followed()).await;
        assert_eq!(take(&mut s, 2).await, "a\n");
        let started = tokio::time::Instant::now();
        let running = log.running.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(300)).await;
            running.store(false, Ordering::SeqCst);
        });
        log.write("0.log", "bye\n");
        assert_eq!(take(&mut s, usize::MAX).await, "bye\n");
        assert!(started.elapsed() < SAFETY_NET / 2, "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn the_byte_limit_ends_it() {
        let log = Log::new("abcdef\n");
        let mut s = log.follow(Options { limit_bytes: Some(3), ..followed() }).await;
        assert_eq!(take(&mut s, usize::MAX).await, "abc");
    }

    #[tokio::test]
    async fn tail_0_shows_only_what_comes() {
        let log = Log::new("a\nb\n");
        let mut s = log.follow(Options { tail_lines: Some(0), ..followed() }).await;
        log.write("0.log", "c\n");
        assert_eq!(take(&mut s, 2).await, "c\n");
    }
}
