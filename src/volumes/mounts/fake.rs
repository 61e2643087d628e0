//! A mount table in memory: what is mounted where, with no effect on the file system.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Mounts;

/// One mount of the fake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeMount {
    /// Where.
    pub target: PathBuf,
    /// The tmpfs's size in bytes.
    pub size: Option<u64>,
    /// Somebody uses it: it can only be unmounted lazily.
    pub busy: bool,
}

/// Mounts that only tests see.
#[derive(Debug, Default)]
pub struct FakeMounts {
    table: Mutex<Vec<FakeMount>>,
}

impl FakeMounts {
    /// All mounts, oldest first.
    pub fn all(&self) -> Vec<FakeMount> {
        self.table().clone()
    }

    /// Mounts something that the code under test did not.
    pub fn add(&self, target: &Path, busy: bool) {
        self.table().push(FakeMount { target: target.into(), size: None, busy });
    }

    fn table(&self) -> MutexGuard<'_, Vec<FakeMount>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mounts for FakeMounts {
    fn tmpfs(&self, target: &Path, size: Option<u64>) -> io::Result<()> {
        // As the kernel does it: the target must be there.
        std::fs::symlink_metadata(target)?;
        self.table().push(FakeMount { target: target.into(), size, busy: false });
        Ok(())
    }

    fn is_tmpfs(&self, path: &Path) -> io::Result<bool> {
        std::fs::symlink_metadata(path)?;
        Ok(self.table().iter().any(|m| m.target == path))
    }

    fn bind(&self, source: &Path, target: &Path) -> io::Result<()> {
        std::fs::symlink_metadata(source)?;
        std::fs::symlink_metadata(target)?;
        self.table().push(FakeMount { target: target.into(), size: None, busy: false });
        Ok(())
    }

    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        let mut table = self.table();
        let Some(at) = table.iter().rposition(|m| m.target == target) else { return Ok(()) };
        if table.iter().any(|m| m.target.starts_with(target) && m.busy) && !lazy {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        table.remove(at);
        Ok(())
    }

    fn below(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.table().iter().rev().filter(|m| m.target.starts_with(dir)).map(|m| m.target.clone()).collect())
    }

    fn share(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}
