//! Waiting until a non-blocking descriptor has something to read.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;

struct Fd(OwnedFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A non-blocking descriptor that is known to the runtime.
pub struct Readable(AsyncFd<Fd>);

impl Readable {
    /// Takes a non-blocking descriptor. Must be called within a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: `Fd` owns the descriptor, always names the same one, and closes it only when it is dropped, by the `AsyncFd`.
        Ok(Self(unsafe { AsyncFd::register(Fd(fd)) }?))
    }

    /// Tries until the attempt finds something: an attempt that finds nothing says `EAGAIN`. Nothing is lost when this is dropped.
    pub async fn read<T>(&self, mut attempt: impl FnMut(RawFd) -> Result<T, Errno>) -> io::Result<T> {
        loop {
            let mut ready = self.0.readable().await?;
            match attempt(ready.get_inner().as_raw_fd()) {
                Ok(found) => return Ok(found),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl std::fmt::Debug for Readable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Readable").field(&self.0.get_ref().as_raw_fd()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, read};

    use super::*;

    #[tokio::test]
    async fn what_comes_later_is_waited_for() {
        let (from, to) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        let readable = Readable::new(from.try_clone().unwrap()).unwrap();
        let reading = tokio::spawn(async move { readable.read(|_| read(&from, &mut [0; 8])).await });
        tokio::task::yield_now().await;
        std::fs::File::from(to).write_all(b"abc").unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), 3);
    }
}
