//! Directories and files of the cgroup file systems, version 1 (one hierarchy a controller) and version 2.
//!
//! Knows paths and values, no pods. Everything here may block for some milliseconds: callers run it off the main thread.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::names::CgroupPath;
use super::plan::Write;
use super::{CgroupError, CgroupVersion};
use crate::sys::procfs;

/// Controllers that pods' cgroups need, where the kernel has them.
const V2_CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];
/// Hierarchies without controllers of their own: nothing is made in them, but what the runtime made is removed.
const V1_UNCONTROLLED: [&str; 2] = ["systemd", "unified"];

/// The mounted hierarchies.
#[derive(Debug, Clone)]
pub struct Tree {
    version: CgroupVersion,
    hierarchies: Vec<Hierarchy>,
}

#[derive(Debug, Clone)]
struct Hierarchy {
    root: PathBuf,
    /// Empty on version 2, where each cgroup has its own list.
    controllers: Vec<String>,
}

impl Tree {
    /// Finds the hierarchies below a mount point, normally `/sys/fs/cgroup`.
    pub fn open(mount_point: &Path, version: CgroupVersion) -> Result<Self, CgroupError> {
        let hierarchies = match version {
            CgroupVersion::V2 => vec![Hierarchy { root: mount_point.to_owned(), controllers: Vec::new() }],
            CgroupVersion::V1 => v1_hierarchies(mount_point).map_err(|error| CgroupError {
                cgroup: "/".to_owned(),
                message: format!("can't look for hierarchies in {}: {error}; mount the cgroup file systems there", mount_point.display()),
            })?,
        };
        Ok(Self { version, hierarchies })
    }

    /// Which version this is.
    pub fn version(&self) -> CgroupVersion {
        self.version
    }

    /// Whether the cgroup is there in any hierarchy.
    pub fn exists(&self, path: &CgroupPath) -> bool {
        self.hierarchies.iter().any(|h| h.directory(path).is_dir())
    }

    /// Makes a cgroup and those above it, with their controllers switched on.
    pub fn create(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        let make = |hierarchy: &Hierarchy| -> io::Result<()> {
            let mut directory = hierarchy.root.clone();
            for part in path.parts() {
                if self.version == CgroupVersion::V2 {
                    enable_controllers(&directory)?;
                }
                directory.push(part);
                match fs::create_dir(&directory) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(at(&directory, error)),
                    _ => {}
                }
                if hierarchy.controllers.iter().any(|c| c == "cpuset") {
                    inherit_cpuset(&directory)?;
                }
            }
            Ok(())
        };
        let controlled = |h: &&Hierarchy| !h.controllers.iter().any(|c| V1_UNCONTROLLED.contains(&c.as_str()));
        self.hierarchies.iter().filter(controlled).try_for_each(make).map_err(|error| failed(path, &error))
    }

    /// Writes values that differ from what is there. Controllers that the kernel lacks are passed over. Goes on after a failure; the
    /// error holds all of them.
    pub fn apply(&self, path: &CgroupPath, writes: &[Write]) -> Result<(), CgroupError> {
        let mut errors = Vec::new();
        for write in writes {
            let Some(hierarchy) = self.hierarchies.iter().find(|h| h.has(write.controller)) else { continue };
            let directory = hierarchy.directory(path);
            let file = directory.join(&write.file);
            let present = fs::read_to_string(&file);
            if matches!(&present, Ok(value) if value.trim_end() == write.value) {
                continue;
            }
            // On version 2 a controller that is off has no files.
            let off = self.version == CgroupVersion::V2 && present.is_err() && !is_on(&directory, write.controller);
            if !off && let Err(error) = fs::write(&file, &write.value) {
                errors.push(format!("can't write {} to {}: {error}", write.value, file.display()));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(CgroupError { cgroup: path.to_string(), message: errors.join("; ") }) }
    }

    /// Reads a number from a controller's file.
    pub fn read_number(&self, path: &CgroupPath, controller: &str, file: &str) -> Option<u64> {
        let hierarchy = self.hierarchies.iter().find(|h| h.has(controller))?;
        fs::read_to_string(hierarchy.directory(path).join(file)).ok()?.trim().parse().ok()
    }

    /// Reads one line's number from a controller's file of names and numbers.
    pub fn read_field(&self, path: &CgroupPath, controller: &str, file: &str, name: &str) -> Option<u64> {
        let hierarchy = self.hierarchies.iter().find(|h| h.has(controller))?;
        let text = fs::read_to_string(hierarchy.directory(path).join(file)).ok()?;
        procfs::field(&text, name)
    }

    /// Names of the cgroups right below, in any hierarchy.
    pub fn children(&self, path: &CgroupPath) -> Result<BTreeSet<String>, CgroupError> {
        let mut names = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.directory(path);
            match subdirectories(&directory) {
                Ok(found) => names.extend(found.iter().filter_map(|d| d.file_name()?.to_str().map(str::to_owned))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(path, &at(&directory, error))),
            }
        }
        Ok(names)
    }

    /// Kills every process in the cgroup and below, once, then tries to remove the directories. `Ok(false)` means that some process is
    /// still on its way out: try again soon.
    pub fn kill_and_remove(&self, path: &CgroupPath) -> Result<bool, CgroupError> {
        let mut all_gone = true;
        let mut errors = Vec::new();
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.directory(path);
            match kill_below(&directory).and_then(|()| remove_below(&directory)) {
                Ok(()) => {}
                Err(error) if is_gone(&error) || matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty) => {
                    // The runtime may be removing its own part at the same time: what counts is whether anything is left.
                    all_gone &= !directory.exists();
                }
                Err(error) => errors.push(format!("{}: {error}", directory.display())),
            }
        }
        if errors.is_empty() { Ok(all_gone) } else { Err(CgroupError { cgroup: path.to_string(), message: errors.join("; ") }) }
    }
}

impl Hierarchy {
    fn directory(&self, path: &CgroupPath) -> PathBuf {
        path.parts().fold(self.root.clone(), |directory, part| directory.join(part))
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.is_empty() || self.controllers.iter().any(|c| c == controller)
    }
}

/// Each directory is a hierarchy; several controllers in one are joined by commas (`cpu,cpuacct`), with symbolic links beside it.
fn v1_hierarchies(mount_point: &Path) -> io::Result<Vec<Hierarchy>> {
    let mut found = Vec::new();
    for root in subdirectories(mount_point)? {
        let name = root.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let controllers = name.split(',').map(str::to_owned).collect();
        found.push(Hierarchy { root, controllers });
    }
    Ok(found)
}

fn subdirectories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Version 2: lets children of this cgroup have the controllers that it has itself.
fn enable_controllers(directory: &Path) -> io::Result<()> {
    let words = |file: &str| fs::read_to_string(directory.join(file)).map_err(|error| at(&directory.join(file), error));
    let (available, enabled) = (words("cgroup.controllers")?, words("cgroup.subtree_control")?);
    let has = |list: &str, controller: &str| list.split_whitespace().any(|c| c == controller);
    for controller in V2_CONTROLLERS {
        if has(&available, controller) && !has(&enabled, controller) {
            let file = directory.join("cgroup.subtree_control");
            fs::write(&file, format!("+{controller}")).map_err(|error| at(&file, error))?;
        }
    }
    Ok(())
}

fn is_on(directory: &Path, controller: &str) -> bool {
    fs::read_to_string(directory.join("cgroup.controllers")).is_ok_and(|list| list.split_whitespace().any(|c| c == controller))
}

/// Version 1: no process can enter a cpuset that names no CPU or no memory node, and a new one names none.
fn inherit_cpuset(directory: &Path) -> io::Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = directory.join(name);
        let is_empty = fs::read_to_string(&file).map_or(true, |value| value.trim().is_empty());
        if is_empty && let Some(parent) = directory.parent() {
            let value = fs::read_to_string(parent.join(name)).map_err(|error| at(&parent.join(name), error))?;
            fs::write(&file, value.trim()).map_err(|error| at(&file, error))?;
        }
    }
    Ok(())
}

fn kill_below(directory: &Path) -> io::Result<()> {
    for child in subdirectories(directory)? {
        kill_below(&child)?;
    }
    for pid in fs::read_to_string(directory.join("cgroup.procs"))?.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
        // 0 stands for a process of another PID namespace, and to kill(2) for our own group.
        if pid > 1 {
            // It may be gone by now; whether it is shows when the directory is removed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

fn remove_below(directory: &Path) -> io::Result<()> {
    for child in subdirectories(directory)? {
        remove_below(&child)?;
    }
    fs::remove_dir(directory)
}

/// Whether the error says that a cgroup has just been removed; files of one that is open answer with ENODEV.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn failed(path: &CgroupPath, error: &io::Error) -> CgroupError {
    let hint = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => "; mount the cgroup file systems read-write",
        ErrorKind::PermissionDenied => "; the agent must run as root, outside of a container",
        ErrorKind::ResourceBusy => {
            "; on cgroup v2 a group with processes of its own can't hold other groups: set cgroupRoot to one without"
        }
        _ => "",
    };
    CgroupError { cgroup: path.to_string(), message: format!("{error}{hint}") }
}

#[cfg(test)]
mod tests;
