//! What a directory holds on its file system.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Add;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::fstatat;

/// Space on a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes in blocks: what holes in files would take is not in it.
    pub bytes: i64,
    /// Files, directories and the like.
    pub inodes: i64,
}

impl Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), inodes: self.inodes.saturating_add(other.inodes) }
    }
}

impl std::iter::Sum for Held {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Directories open at a time, which is how deep the walk goes: whoever writes below decides about the depth.
const DEEPEST: usize = 128;
/// Bytes of a block in `st_blocks`, on every file system (stat(2)).
const BLOCK: i64 = 512;

/// Adds up all below `dir` and itself, on its file system only; a file with several names counts once. Nothing when it is not there.
/// What vanishes on the way is not counted. Whoever writes below can't lead the walk outside: no symlink is followed. Blocks.
pub fn held(dir: &Path) -> io::Result<Held> {
    let root = match open(dir) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::default()),
        Err(error) => return Err(error),
    };
    let meta = root.metadata()?;
    let (device, mut linked) = (meta.dev(), HashSet::new());
    let mut sum = Held { bytes: size(meta.blocks()), inodes: 1 };
    let mut open_dirs = vec![(list(&root)?, root)];
    while let Some((entries, parent)) = open_dirs.last_mut() {
        let Some(entry) = entries.next() else {
            open_dirs.pop();
            continue;
        };
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let Ok(stat) = fstatat(&*parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        let is_dir = stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR;
        let other_name = !is_dir && stat.st_nlink > 1 && !linked.insert(stat.st_ino);
        if stat.st_dev != device || other_name {
            continue;
        }
        sum = sum + Held { bytes: stat.st_blocks.saturating_mul(BLOCK), inodes: 1 };
        let child = through(parent).join(name);
        if is_dir
            && open_dirs.len() < DEEPEST
            && let Ok(child) = open(&child)
        {
            // Somebody may have mounted or moved something since the look above.
            if child.metadata().is_ok_and(|meta| meta.dev() == device)
                && let Ok(entries) = list(&child)
            {
                open_dirs.push((entries, child));
            }
        }
    }
    Ok(sum)
}

fn open(dir: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(dir)
}

/// An open directory's own path: it stays true when somebody moves the directory.
fn through(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

fn list(dir: &File) -> io::Result<std::fs::ReadDir> {
    std::fs::read_dir(through(dir))
}

fn size(blocks: u64) -> i64 {
    i64::try_from(blocks).unwrap_or(i64::MAX).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_below_counts_once() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d");
        fs::create_dir_all(dir.join("a/b")).unwrap();
        let empty = held(&dir).unwrap();
        assert_eq!(empty.inodes, 3);
        fs::write(dir.join("a/file"), vec![7; 1 << 20]).unwrap();
        fs::hard_link(dir.join("a/file"), dir.join("a/b/again")).unwrap();
        symlink("/", dir.join("outside")).unwrap();
        let sparse = File::create(dir.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let full = held(&dir).unwrap();
        assert_eq!(full.inodes, 6, "the file, the link, and the sparse file");
        let grown = full.bytes - empty.bytes;
        assert!((1 << 20..1 << 21).contains(&grown), "{grown}");
        assert_eq!(held(&root.path().join("missing")).unwrap(), Held::default());
        assert!(held(&dir.join("sparse")).is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        let deep = (0..300).fold(root.path().to_path_buf(), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(held(root.path()).unwrap().inodes, i64::try_from(DEEPEST).unwrap() + 1);
    }
}
