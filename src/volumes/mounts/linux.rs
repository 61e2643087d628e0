//! The kernel's mount table.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::{Mounts, mountinfo};

/// Mounts in the agent's own mount namespace.
#[derive(Debug, Default)]
pub struct LinuxMounts {
    /// The kernel is older than 6.4 and knows no `noswap` option.
    no_noswap: AtomicBool,
}

const NONE: Option<&str> = None;

impl Mounts for LinuxMounts {
    fn tmpfs(&self, target: &Path, size: Option<u64>) -> io::Result<()> {
        let size = size.map(|s| format!("size={s}")).unwrap_or_default();
        let mount = |options: &str| mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), Some(options));
        if !self.no_noswap.load(Ordering::Relaxed) {
            // Secrets must not reach a swap device. Old kernels refuse the option, and then it is as it always was.
            match mount(&format!("{size},noswap")) {
                Err(Errno::EINVAL) => {}
                result => return Ok(result?),
            }
        }
        mount(&size)?;
        self.no_noswap.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn is_tmpfs(&self, path: &Path) -> io::Result<bool> {
        let parent = path.parent().unwrap_or(path);
        // Every tmpfs has a device number of its own.
        let own_device = fs::symlink_metadata(path)?.dev() != fs::symlink_metadata(parent)?.dev();
        Ok(own_device && statfs(path)?.filesystem_type() == TMPFS_MAGIC)
    }

    fn bind(&self, source: &Path, target: &Path) -> io::Result<()> {
        Ok(mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)?)
    }

    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        let lazy = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW | lazy) {
            // Nothing is mounted there any more, or the directory is gone: both are what was wanted.
            Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    fn below(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(mountinfo::below(&table()?, &dir.canonicalize()?))
    }

    fn share(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.canonicalize()?;
        if !mountinfo::is_shared(&table()?, &dir) {
            mount(Some(&dir), &dir, NONE, MsFlags::MS_BIND, NONE)?;
            mount(NONE, &dir, NONE, MsFlags::MS_SHARED | MsFlags::MS_REC, NONE)?;
        }
        Ok(())
    }
}

fn table() -> io::Result<Vec<mountinfo::Line>> {
    Ok(mountinfo::parse(&fs::read("/proc/thread-self/mountinfo")?))
}
