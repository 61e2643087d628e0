//! File system work that may hang (somebody's NFS), kept off the thread that everything else runs on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why blocking work has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// Earlier work on the same path still hangs. Starting more would use up all threads.
    #[error("earlier work on {0} has not ended; if that stays so, look for a dead network file system there")]
    Busy(PathBuf),
    /// It did not end in time. The thread stays behind until the kernel lets it go.
    #[error("{0} does not answer within {1:?}; look for a dead network file system there")]
    Deadline(PathBuf, Duration),
    /// The work panicked.
    #[error("working on {0} failed inside the agent")]
    Panicked(PathBuf),
}

/// Runs blocking work in threads, at most one piece of work a path. Clones share the bookkeeping.
#[derive(Debug, Clone, Default)]
pub struct Blocking {
    running: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Blocking {
    /// Runs `work` on `path`, and waits for it at most `deadline`.
    pub async fn run<T: Send + 'static>(
        &self,
        path: &Path,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let mark = Mark::set(self, path)?;
        let thread = tokio::task::spawn_blocking(move || {
            let _mark = mark;
            work()
        });
        match tokio::time::timeout(deadline, thread).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(BlockingError::Panicked(path.into())),
            Err(_) => Err(BlockingError::Deadline(path.into(), deadline)),
        }
    }
}

struct Mark {
    blocking: Blocking,
    path: PathBuf,
}

impl Mark {
    fn set(blocking: &Blocking, path: &Path) -> Result<Self, BlockingError> {
        let fresh = blocking.running.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into());
        if fresh { Ok(Self { blocking: blocking.clone(), path: path.into() }) } else { Err(BlockingError::Busy(path.into())) }
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

    #[tokio::test]
    async fn work_that_hangs_holds_up_one_path_only() {
        let (blocking, limit) = (Blocking::default(), Duration::from_millis(50));
        let (release, hangs) = mpsc::channel::<()>();
        let path = Path::new("/nfs");
        let stuck = blocking.run(path, limit, move || hangs.recv().is_ok()).await;
        assert_eq!(stuck, Err(BlockingError::Deadline(path.into(), limit)));
        assert_eq!(blocking.run(path, limit, || ()).await, Err(BlockingError::Busy(path.into())));
        assert_eq!(blocking.run(Path::new("/other"), limit * 100, || 7).await, Ok(7));

        release.send(()).unwrap();
        while blocking.run(path, limit * 100, || ()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
