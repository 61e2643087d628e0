//! Folders of labs, and what is done with those whose owner is gone.
//!
//! A lab's owner holds a lock on a file in the lab's folder. A lock that can be taken therefore means that the owner is dead and,
//! as places end with their owner, that no process of the lab lives: what is left is a folder and empty control groups.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroups;
use crate::error::{Doing as _, Error, Result};

/// Holds the process id of an owner that waits to be ended; valid as long as the lock is held.
const OWNER: &str = "owner";
/// Logs of ended labs that are left to read.
const OLD_LOGS: usize = 10;

/// The folder of one lab, and the lock that says that it lives.
#[derive(Debug)]
pub struct Folder {
    /// Unique on this machine, whatever the base folder: also the name of the lab's control groups.
    pub id: String,
    /// Where everything of the lab is.
    pub path: PathBuf,
    /// Held as long as this value lives.
    _lock: File,
}

/// Where all labs are: `KUBELET_RS_LAB_DIR`, or `kubelet-rs-lab` below the folder for temporary files.
pub fn base() -> PathBuf {
    std::env::var_os("KUBELET_RS_LAB_DIR").map_or_else(|| std::env::temp_dir().join("kubelet-rs-lab"), PathBuf::from)
}

impl Folder {
    /// Makes the folder of a new lab, after removing what dead ones left.
    pub fn new(name: &str) -> Result<Self> {
        let base = base();
        std::fs::create_dir_all(&base).doing(|| format!("making {}", base.display()))?;
        let _guard = lock_base(&base)?;
        remove_dead(&base)?;
        let (id, path) = free_name(&base, name)?;
        for folder in [&path, &path.join("logs")] {
            std::fs::create_dir(folder).doing(|| format!("making {}", folder.display()))?;
        }
        let lock = File::create(path.join("lock")).doing(|| format!("making the lock of {id}"))?;
        lock.lock().doing(|| format!("locking {id}"))?;
        Ok(Self { id, path, _lock: lock })
    }

    /// Writes down that [`clean`] may ask this process to end.
    pub fn offer_to_clean(&self) -> Result<()> {
        std::fs::write(self.path.join(OWNER), std::process::id().to_string()).doing(|| format!("writing the owner of {}", self.id))
    }
}

impl Drop for Folder {
    /// Removes what an ended lab leaves, but for its logs. Its places have ended before.
    fn drop(&mut self) {
        retire(&self.path);
    }
}

/// Removes what dead labs left, but for their logs.
pub fn sweep() -> Result<()> {
    let base = base();
    if !base.exists() {
        return Ok(());
    }
    let _guard = lock_base(&base)?;
    remove_dead(&base)
}

/// What [`clean`] did.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// The labs that are gone.
    pub removed: Vec<String>,
    /// Why others are still there.
    pub failures: Vec<Error>,
}

/// Ends labs that wait for it and removes what all dead ones left, logs included. Labs of running tests stay.
/// One that can't be ended or removed keeps no other from it.
pub fn clean() -> Result<Cleaned> {
    let base = base();
    let mut cleaned = Cleaned::default();
    if !base.exists() {
        return Ok(cleaned);
    }
    let _guard = lock_base(&base)?;
    for path in labs(&base)? {
        match clean_one(&path) {
            Ok(true) => cleaned.removed.push(id_of(&path)),
            Ok(false) => {}
            Err(error) => cleaned.failures.push(error),
        }
    }
    Ok(cleaned)
}

/// Whether the lab was dead in the end, and is gone.
fn clean_one(path: &Path) -> Result<bool> {
    end_offered(path)?;
    if !owner_is_dead(path)? {
        return Ok(false);
    }
    cgroups::remove(&id_of(path));
    std::fs::remove_dir_all(path).doing(|| format!("removing {}", path.display())).map(|()| true)
}

/// The first of NAME-1, NAME-2, … that no lab below this base folder has, and none of another base folder: all share the machine's control
/// groups, and whoever makes the group has the name.
fn free_name(base: &Path, name: &str) -> Result<(String, PathBuf)> {
    for n in 1..=u32::MAX {
        let id = format!("{name}-{n}");
        let path = base.join(&id);
        if !path.exists() && cgroups::claim(&id)? {
            return Ok((id, path));
        }
    }
    Err(Error::Other(format!("no free name for {name}")))
}

fn remove_dead(base: &Path) -> Result<()> {
    let mut old = Vec::new();
    for path in labs(base)? {
        if owner_is_dead(&path)? {
            retire(&path);
            old.push((path.metadata().and_then(|metadata| metadata.modified()).ok(), path));
        }
    }
    old.sort();
    let surplus = old.len().saturating_sub(OLD_LOGS);
    for (_, path) in old.into_iter().take(surplus) {
        std::fs::remove_dir_all(&path).doing(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

fn retire(path: &Path) {
    cgroups::remove(&id_of(path));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        match entry.file_name().to_str() {
            Some("logs" | "lock") => {}
            _ if entry.file_type().is_ok_and(|kind| kind.is_dir()) => drop(std::fs::remove_dir_all(entry.path())),
            _ => drop(std::fs::remove_file(entry.path())),
        }
    }
}

fn labs(base: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(base).doing(|| format!("reading {}", base.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.join("lock").exists()).collect())
}

fn id_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn lock_base(base: &Path) -> Result<File> {
    let lock = File::create(base.join("lock")).doing(|| format!("opening the lock of {}", base.display()))?;
    lock.lock().doing(|| format!("locking {}", base.display()))?;
    Ok(lock)
}

fn owner_is_dead(path: &Path) -> Result<bool> {
    let lock = File::open(path.join("lock")).doing(|| format!("opening the lock of {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(Error::Io { doing: format!("locking {}", path.display()), source }),
    }
}

/// Ends the owner of a lab that waits for it.
fn end_offered(path: &Path) -> Result<()> {
    let owner = std::fs::read_to_string(path.join(OWNER)).ok().and_then(|owner| owner.parse::<i32>().ok());
    let Some(owner) = owner else { return Ok(()) };
    if owner_is_dead(path)? {
        return Ok(());
    }
    kill(Pid::from_raw(owner), Signal::SIGTERM).doing(|| format!("ending the owner of {}", id_of(path)))?;
    for _ in 0..600 {
        if owner_is_dead(path)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Error::Other(format!("{} has not ended 30 s after its owner, process {owner}, was asked to", id_of(path))))
}
