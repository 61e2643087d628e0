//! Waiting for changes in one directory.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// The kinds of change that can be waited for (inotify(7)).
pub use nix::sys::inotify::AddWatchFlags as Change;

/// One change in a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The entry it happened to; `None` when it is about the directory itself or when events were lost.
    pub name: Option<OsString>,
}

struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A watch on one directory. Events are hints to look again, never facts: the kernel drops them when its queue is full.
pub struct DirWatch {
    fd: AsyncFd<Fd>,
}

impl DirWatch {
    /// Watches `directory` for `changes`. Must be called within a tokio runtime.
    pub fn new(directory: &Path, changes: Change) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(directory, changes | AddWatchFlags::IN_ONLYDIR)?;
        // SAFETY: `Fd` owns the descriptor, always names the same one, and closes it only when it is dropped, by the `AsyncFd`.
        let fd = unsafe { AsyncFd::register(Fd(inotify)) }?;
        Ok(Self { fd })
    }

    /// Waits for the next changes; all that have come together are returned at once.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        loop {
            let mut ready = self.fd.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(events) => return Ok(events.into_iter().map(|e| Event { change: e.mask, name: e.name }).collect()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_of_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = DirWatch::new(dir.path(), Change::IN_CREATE | Change::IN_MODIFY).unwrap();
        std::fs::write(dir.path().join("a"), "x").unwrap();
        let events = watch.next().await.unwrap();
        assert_eq!(events[0], Event { change: Change::IN_CREATE, name: Some("a".into()) });
    }

    #[tokio::test]
    async fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(DirWatch::new(file.path(), Change::IN_MODIFY).is_err());
    }
}
