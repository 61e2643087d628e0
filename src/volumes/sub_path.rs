//! A part of a volume, for one container's mount (`subPath`).
//!
//! Containers write to their volumes, so a path in one can be made to lead anywhere, also between a look at it and its use
//! (CVE-2017-1002101, CVE-2021-25741). So the kernel resolves the path below the volume's root (`openat2(2)`), what it found is held open, and
//! that very thing is bound to a directory of the pod that no container sees. The runtime gets the path of that directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstatat, mkdirat};

use super::layout::make_dirs;
use super::mounts::Mounts;

/// What is to be bound, and where.
#[derive(Clone, Debug)]
pub(super) struct SubPath {
    /// The volume.
    pub root: PathBuf,
    /// Below it.
    pub path: String,
    /// Where the part of the volume will be.
    pub target: PathBuf,
}

/// Binds it, making directories that are missing. Again and again: what is bound already stays, if it is the same.
pub(super) fn bind(wanted: &SubPath, mounts: &dyn Mounts) -> io::Result<()> {
    let root = OwnedFd::from(File::open(&wanted.root)?);
    let part = open_or_make(&root, &wanted.path)?;
    let found = fstatat(&part, c"", AtFlags::AT_EMPTY_PATH)?;
    let is_dir = found.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let standing = mounts.below(wanted.target.parent().unwrap_or(&wanted.target)).or_else(none_if_missing)?;
    let bound = standing.iter().filter(|mount| same_path(mount, &wanted.target)).count();
    if bound > 0 {
        let now = fs::symlink_metadata(&wanted.target)?;
        if bound == 1 && (now.dev(), now.ino()) == (found.st_dev, found.st_ino) {
            return Ok(());
        }
        for _ in 0..bound {
            // Of the container before, which is dead, or of one that is still stopping: that one has its own mount of it.
            mounts.unmount(&wanted.target, true)?;
        }
    }
    make_target(&wanted.target, is_dir)?;
    mounts.bind(&PathBuf::from(format!("/proc/self/fd/{}", part.as_raw_fd())), &wanted.target)
}

fn none_if_missing(error: io::Error) -> io::Result<Vec<PathBuf>> {
    if error.kind() == io::ErrorKind::NotFound { Ok(Vec::new()) } else { Err(error) }
}

/// The mount table has paths without links.
fn same_path(mount: &Path, target: &Path) -> bool {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return false };
    parent.canonicalize().is_ok_and(|parent| mount == parent.join(name))
}

/// An empty directory or file to bind to, in place of what is there and has another type.
fn make_target(target: &Path, is_dir: bool) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        make_dirs(parent)?;
    }
    match fs::symlink_metadata(target) {
        Ok(now) if now.is_dir() == is_dir && !now.is_symlink() => return Ok(()),
        Ok(now) if now.is_dir() => fs::remove_dir(target)?,
        Ok(_) => fs::remove_file(target)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if is_dir {
        return make_dirs(target);
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(target).map(drop)
}

/// Opens the path below the root without reading what it leads to. What is missing becomes directories with the root's own mode, as
/// upstream makes them.
fn open_or_make(root: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    match open(root, path, OFlag::O_PATH) {
        Err(Errno::ENOENT) => {}
        result => return Ok(result?),
    }
    let mode = File::from(root.try_clone()?).metadata()?.permissions().mode() & 0o7777;
    let mut done = PathBuf::from(".");
    let mut at = root.try_clone()?;
    for part in Path::new(path).components() {
        let Component::Normal(name) = part else { continue };
        done.push(name);
        at = match open(root, &done, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => make(&at, Path::new(name), mode)?,
            result => result?,
        };
    }
    Ok(at)
}

/// Makes a directory in an open one, whatever the umask says. Somebody else may make it at the same time: then that one counts, if it is a directory.
fn make(parent: &OwnedFd, name: &Path, mode: u32) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty())?;
    File::from(made.try_clone()?).set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(made)
}

fn open(root: &OwnedFd, path: impl AsRef<Path>, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root.as_fd(), path.as_ref(), OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::volumes::mounts::fake::FakeMounts;

    struct Place {
        root: tempfile::TempDir,
        volume: PathBuf,
        mounts: FakeMounts,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let volume = root.path().join("volume");
            fs::create_dir(&volume).unwrap();
            fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
            Self { root, volume, mounts: FakeMounts::default() }
        }

        fn target(&self) -> PathBuf {
            self.root.path().canonicalize().unwrap().join("volume-subpaths/v/c/0")
        }

        fn bind(&self, path: &str) -> io::Result<()> {
            bind(&SubPath { root: self.volume.clone(), path: path.into(), target: self.target() }, &self.mounts)
        }
    }

    #[test]
    fn what_is_missing_is_made_with_the_volumes_mode() {
        let place = Place::new();
        place.bind("a/b/c").unwrap();
        assert_eq!(fs::metadata(place.volume.join("a/b")).unwrap().permissions().mode() & 0o777, 0o777);
        assert!(place.volume.join("a/b/c").is_dir() && place.target().is_dir());
        assert_eq!(place.mounts.all().len(), 1);
        fs::write(place.volume.join("file"), "x").unwrap();
        let other = Place { mounts: FakeMounts::default(), ..place };
        fs::remove_dir(other.target()).unwrap();
        other.bind("file").unwrap();
        assert!(other.target().is_file(), "a file is bound to a file");
    }

    /// Whatever a container plants in its volume: nothing outside is reached or made.
    #[test]
    fn cve_2017_1002101_links_do_not_lead_out_of_the_volume() {
        let place = Place::new();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "").unwrap();
        symlink(outside.path(), place.volume.join("absolute")).unwrap();
        symlink("../../../../../../etc", place.volume.join("climbs")).unwrap();
        symlink(outside.path().join("secret"), place.volume.join("file")).unwrap();
        symlink("/proc/self/root", place.volume.join("magic")).unwrap();
        symlink(outside.path().join("made"), place.volume.join("dangling")).unwrap();
        for path in [
            "absolute",
            "absolute/secret",
            "absolute/new",
            "climbs",
            "climbs/new",
            "file",
            "magic",
            "magic/etc",
            "dangling",
            "dangling/new",
        ] {
            assert!(place.bind(path).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was made outside");
        assert!(place.mounts.all().is_empty());
    }

    /// The last part is exchanged for a link all the time while it is bound: it is either refused, or what is bound is in the volume.
    #[test]
    fn cve_2021_25741_an_exchange_in_between_changes_nothing() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let place = Place::new();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(place.volume.join("real")).unwrap();
        let stop = AtomicBool::new(false);
        let (link, spare) = (place.volume.join("x"), place.volume.join("spare"));
        symlink("real", &link).unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for n in 0_u32.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let to = if n.is_multiple_of(2) { Path::new("real") } else { outside.path() };
                    let _ = fs::remove_file(&spare);
                    symlink(to, &spare).unwrap();
                    fs::rename(&spare, &link).unwrap();
                }
            });
            let root = OwnedFd::from(File::open(&place.volume).unwrap());
            let real = fs::metadata(place.volume.join("real")).unwrap().ino();
            let mut opened = 0;
            for _ in 0..5000 {
                if let Ok(part) = open_or_make(&root, "x") {
                    let found = fstatat(&part, c"", AtFlags::AT_EMPTY_PATH).unwrap();
                    assert_eq!(found.st_ino, real);
                    opened += 1;
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert!(opened > 0);
        });
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_within_the_volume_are_followed_and_the_same_thing_is_bound_once() {
        let place = Place::new();
        fs::create_dir_all(place.volume.join("..2026_1/sub")).unwrap();
        symlink("..2026_1", place.volume.join("..data")).unwrap();
        symlink("..data/sub", place.volume.join("sub")).unwrap();
        place.bind("sub").unwrap();
        assert_eq!(place.mounts.all().len(), 1);
    }
}
