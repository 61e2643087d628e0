//! Network namespaces. A namespace belongs to a thread: only a thread of its own may leave the daemon's.

use std::io;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs `work` on a thread of its own in a new, empty network namespace, which ends with the thread and what it opened. Threads that
/// `work` starts are in the namespace too. Needs root.
///
/// # Errors
/// The system's, where it gives no namespace, and `Other` if `work` panicked.
pub fn in_new_namespace<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let thread = thread::Builder::new().name("netns".to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the work in the network namespace panicked")))
}
