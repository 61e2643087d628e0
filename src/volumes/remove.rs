//! Deletes a pod's directory, and nothing that is mounted or linked into it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Deeper directories are first moved up. Containers can nest directories without end, but open files are scarce.
const DEEPEST: usize = 32;
/// Where they are moved to, at the top.
const MOVED: &str = "..deep";

/// What could not be removed, and why.
pub(super) type Leftovers = Vec<(PathBuf, io::Error)>;

/// Removes a directory with all in it. Symlinks are not followed and mount points not crossed: what is behind them stays, and is
/// reported. Goes on after errors.
pub(super) fn tree(dir: &Path) -> Leftovers {
    let name = match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => return vec![(dir.into(), io::ErrorKind::InvalidInput.into())],
    };
    let parent = match fs::File::open(name.0) {
        Ok(parent) => OwnedFd::from(parent),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => return vec![(name.0.into(), e)],
    };
    let mut removal = Removal { root: None, moved: 0, leftovers: Vec::new() };
    loop {
        let before = removal.moved;
        removal.dir(&parent, dir, name.1.as_bytes(), 0);
        // Each round that moved something up has made the tree shallower.
        if removal.moved == before || removal.leftovers.iter().any(|(path, _)| path != dir) {
            return removal.leftovers;
        }
        removal.leftovers.clear();
    }
}

struct Removal {
    root: Option<OwnedFd>,
    moved: usize,
    leftovers: Leftovers,
}

impl Removal {
    /// Removes directory `name` of `parent`.
    fn dir(&mut self, parent: &OwnedFd, path: &Path, name: &[u8], depth: usize) {
        let dir = match open_dir(parent, name) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => return,
            Err(e) => return self.failed(path, e),
        };
        if depth == 0 {
            match dir.try_clone() {
                Ok(root) => self.root = Some(root),
                Err(e) => return self.leftovers.push((path.into(), e)),
            }
        }
        match entries(&dir) {
            Ok(entries) => entries.iter().for_each(|(name, is_dir)| self.entry(&dir, path, name, *is_dir, depth)),
            Err(e) => return self.leftovers.push((path.into(), e)),
        }
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // The reason is in the list already.
            Err(Errno::ENOTEMPTY) if !self.leftovers.is_empty() => {}
            Err(e) => self.failed(path, e),
        }
    }

    fn entry(&mut self, dir: &OwnedFd, path: &Path, name: &[u8], is_dir: bool, depth: usize) {
        let path = path.join(std::ffi::OsStr::from_bytes(name));
        if !is_dir {
            match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => self.failed(&path, e),
            }
            return;
        }
        if depth < DEEPEST {
            return self.dir(dir, &path, name, depth + 1);
        }
        let Some(root) = &self.root else { return };
        let up = format!("{MOVED}-{}", self.moved);
        match renameat(dir, name, root, up.as_str()) {
            Ok(()) => self.moved += 1,
            // A name that an earlier, ended removal used.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => self.moved += 1,
            Err(e) => self.failed(&path, e),
        }
    }

    fn failed(&mut self, path: &Path, error: Errno) {
        self.leftovers.push((path.into(), error.into()));
    }
}

/// Opens a directory unless it is a symlink or on another mount (openat2(2), also true for bind mounts of the same file system).
fn open_dir(parent: &OwnedFd, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH;
    openat2(parent.as_fd(), name, OpenHow::new().flags(flags).mode(Mode::empty()).resolve(resolve))
}

/// Names in a directory, and whether each is a directory itself.
fn entries(dir: &OwnedFd) -> io::Result<Vec<(Vec<u8>, bool)>> {
    let list = fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
    list.map(|entry| entry.and_then(|e| Ok((e.file_name().as_bytes().to_vec(), e.file_type()?.is_dir())))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn everything_goes_but_what_links_lead_to() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("kept"), "").unwrap();
        let dir = root.path().join("pod");
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/b/f"), "").unwrap();
        symlink(outside.path(), dir.join("a/link")).unwrap();
        symlink("nowhere", dir.join("dangling")).unwrap();
        assert!(tree(&dir).is_empty());
        assert!(!dir.exists());
        assert!(outside.path().join("kept").exists());
        assert!(tree(&dir).is_empty(), "gone already");
        assert!(tree(&root.path().join("no/where")).is_empty());
    }

    #[test]
    fn a_symlink_in_place_of_the_directory_is_not_followed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("kept"), "").unwrap();
        symlink(outside.path(), root.path().join("pod")).unwrap();
        assert_eq!(tree(&root.path().join("pod")).len(), 1);
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn nesting_does_not_cost_open_files_or_stack() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("pod");
        fs::create_dir(&dir).unwrap();
        fs::create_dir(dir.join(format!("{MOVED}-0"))).unwrap();
        fs::write(dir.join(format!("{MOVED}-0/f")), "").unwrap();
        // Made from the inside out: one path can't name it.
        let mut inner = root.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), "").unwrap();
        for n in 0..400 {
            let outer = root.path().join(format!("outer-{n}"));
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join("d")).unwrap();
            inner = outer;
        }
        fs::rename(&inner, dir.join("d")).unwrap();
        let leftovers = tree(&dir);
        assert!(leftovers.is_empty(), "{leftovers:?}");
        assert!(!dir.exists());
    }

    #[test]
    fn mount_points_are_neither_crossed_nor_hidden() {
        // procfs is mounted everywhere; asking for /proc/self itself shows that the kernel refuses to cross.
        let slash = OwnedFd::from(fs::File::open("/").unwrap());
        assert_eq!(open_dir(&slash, b"proc").unwrap_err(), Errno::EXDEV);
    }
}
