//! Mounting and unmounting, behind a trait so that tests need no root.
//!
//! All calls block for as long as the kernel does: unmounting goes through [`crate::sys::blocking`].

use std::io;
use std::path::{Path, PathBuf};

mod linux;
mod mountinfo;

#[cfg(any(test, feature = "fakes"))]
pub mod fake;

pub use linux::LinuxMounts;

/// What this room asks of the kernel's mount table.
pub trait Mounts: Send + Sync + 'static {
    /// Mounts a tmpfs, of `size` bytes where given (else the kernel's half of the memory).
    fn tmpfs(&self, target: &Path, size: Option<u64>) -> io::Result<()>;
    /// Whether `path` is the root of a mounted tmpfs.
    fn is_tmpfs(&self, path: &Path) -> io::Result<bool>;
    /// Shows at `target` what `source` is: a file at a file, a directory at a directory, without what is mounted below it.
    fn bind(&self, source: &Path, target: &Path) -> io::Result<()>;
    /// Unmounts what is mounted last at `target`. `lazy` hides it now and lets it go when its last user does.
    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()>;
    /// Mount points at or below `dir`, in the order in which they can be unmounted. A path mounted twice is there twice.
    fn below(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes sure that mounts below `dir` show up in containers that ask for it and the other way round (shared propagation).
    fn share(&self, dir: &Path) -> io::Result<()>;
}
