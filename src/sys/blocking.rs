//! File system work that may hang (somebody's NFS), kept off the thread that everything else runs on.
//!
//! A dead file server holds its threads for ever, and short work (a file of the agent's own, a name to resolve) must not wait behind
//! that. So this work may take [`THREADS`] of tokio's threads, and the agent's runtime has more of them. Threads of our own would do the
//! same, but tokio's paused clock, which tests live by, stands still only for its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

/// Threads at a time. A pod has a handful of volumes, most of them done in a millisecond: who meets this limit, meets a dead server.
pub const THREADS: usize = 64;

/// Why blocking work has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// Earlier work on the same path hangs: it is over its own deadline. Starting more would use up all threads.
    #[error("earlier work on {0} has not ended; if that stays so, look for a dead network file system there")]
    Busy(PathBuf),
    /// It did not end in time. The thread stays behind until the kernel lets it go.
    #[error("{0} does not answer within {1:?}; look for a dead network file system there")]
    Deadline(PathBuf, Duration),
    /// Work on other paths holds all threads.
    #[error("{0} can't be worked on, because {THREADS} other files and directories don't answer; look for a dead network file system")]
    Exhausted(PathBuf),
    /// The work panicked.
    #[error("working on {0} failed inside the agent")]
    Panicked(PathBuf),
}

/// Runs blocking work in threads, at most one piece of work a path. Clones share the bookkeeping.
#[derive(Debug, Clone)]
pub struct Blocking {
    running: Arc<Mutex<HashMap<PathBuf, Job>>>,
    threads: Arc<Semaphore>,
}

impl Default for Blocking {
    fn default() -> Self {
        Self::with_threads(THREADS)
    }
}

/// Work that is running.
#[derive(Debug)]
struct Job {
    /// When it should have ended.
    due: Instant,
    /// Closed when it has ended.
    ended: watch::Sender<()>,
}

impl Blocking {
    fn with_threads(threads: usize) -> Self {
        Self { running: Arc::default(), threads: Arc::new(Semaphore::new(threads)) }
    }

    /// Runs `work` on `path`, and waits for it at most `deadline`. Work that is running on the same path is waited for first.
    pub async fn run<T: Send + 'static>(
        &self,
        path: &Path,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let due = Instant::now() + deadline;
        let mark = self.turn(path, deadline, due).await?;
        let permit = timeout_at(due, self.threads.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(BlockingError::Exhausted(path.into())) };
        let thread = tokio::task::spawn_blocking(move || {
            let _held = (mark, permit);
            work()
        });
        match timeout_at(due, thread).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(BlockingError::Panicked(path.into())),
            Err(_) => Err(BlockingError::Deadline(path.into(), deadline)),
        }
    }

    /// Waits until nothing else runs on `path`, and says that something does.
    async fn turn(&self, path: &Path, deadline: Duration, due: Instant) -> Result<Mark, BlockingError> {
        loop {
            let (theirs, mut ended) = match Mark::set(self, path, due) {
                Ok(mark) => return Ok(mark),
                Err(running) => running,
            };
            if timeout_at(theirs.min(due), ended.changed()).await.is_err() {
                let hangs = theirs <= Instant::now();
                return Err(if hangs { BlockingError::Busy(path.into()) } else { BlockingError::Deadline(path.into(), deadline) });
            }
        }
    }
}

struct Mark {
    blocking: Blocking,
    path: PathBuf,
}

impl Mark {
    /// Fails with the work that is running: when it should have ended, and how to learn that it has.
    fn set(blocking: &Blocking, path: &Path, due: Instant) -> Result<Self, (Instant, watch::Receiver<()>)> {
        let mut running = blocking.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = running.get(path) {
            return Err((job.due, job.ended.subscribe()));
        }
        running.insert(path.into(), Job { due, ended: watch::Sender::new(()) });
        Ok(Self { blocking: blocking.clone(), path: path.into() })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.blocking.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn work_that_hangs_holds_up_one_path_only() {
        let blocking = Blocking::default();
        let (release, hangs) = mpsc::channel::<()>();
        let path = Path::new("/nfs");
        let stuck = blocking.run(path, SHORT, move || hangs.recv().is_ok()).await;
        assert_eq!(stuck, Err(BlockingError::Deadline(path.into(), SHORT)));
        assert_eq!(blocking.run(path, LONG, || ()).await, Err(BlockingError::Busy(path.into())));
        assert_eq!(blocking.run(Path::new("/other"), LONG, || 7).await, Ok(7));

        release.send(()).unwrap();
        while blocking.run(path, LONG, || ()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn young_work_on_the_same_path_is_waited_for() {
        let blocking = Blocking::default();
        let path = Path::new("/data");
        let (release, goes_on) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let blocking = blocking.clone();
            async move { blocking.run(path, LONG, move || goes_on.recv().is_ok()).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(blocking.run(path, SHORT, || ()).await, Err(BlockingError::Deadline(path.into(), SHORT)), "it has time left");
        let second = blocking.run(path, LONG, || 2);
        tokio::pin!(second);
        assert!(tokio::time::timeout(SHORT, &mut second).await.is_err(), "one at a time");
        release.send(()).unwrap();
        assert_eq!((second.await, first.await.unwrap()), (Ok(2), Ok(true)));
    }

    #[tokio::test]
    async fn threads_are_bounded_and_free_again_after_a_panic() {
        let blocking = Blocking::with_threads(1);
        assert_eq!(blocking.run(Path::new("/a"), LONG, || panic!("on purpose")).await, Err::<(), _>(BlockingError::Panicked("/a".into())));
        let (release, hangs) = mpsc::channel::<()>();
        let stuck = blocking.run(Path::new("/a"), SHORT, move || hangs.recv().is_ok()).await;
        assert_eq!(stuck, Err(BlockingError::Deadline("/a".into(), SHORT)));
        assert_eq!(blocking.run(Path::new("/b"), SHORT, || ()).await, Err(BlockingError::Exhausted("/b".into())));
        assert_eq!(blocking.run(Path::new("/b"), SHORT, || ()).await, Err(BlockingError::Exhausted("/b".into())), "and it left no mark");
        drop(release);
        assert_eq!(blocking.run(Path::new("/b"), LONG, || 1).await, Ok(1));
    }
}
