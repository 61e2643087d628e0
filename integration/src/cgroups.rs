//! The lab's own control groups: `/kubelet-rs-lab/LAB/NODE` in every hierarchy, nothing else touched.
//!
//! On cgroup v1 there is a hierarchy for each controller; on v2 there is one, and controllers are switched on from its root down.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Doing as _, Error, Result};

const MOUNT: &str = "/sys/fs/cgroup";
/// All labs are below this group.
const ROOT: &str = "kubelet-rs-lab";
/// What a node agent limits pods with.
const V2_CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// The group of one node, as `cgroupRoot` names it.
pub fn name(lab: &str, node: &str) -> String {
    format!("/{ROOT}/{lab}/{node}")
}

/// Takes a lab's name, by making its group; false if another lab has it. The owner is whoever made the group.
pub fn claim(lab: &str) -> Result<bool> {
    let mut hierarchies = hierarchies()?;
    hierarchies.sort();
    if hierarchies.iter().any(|hierarchy| hierarchy.join(ROOT).join(lab).exists()) {
        return Ok(false);
    }
    let Some(first) = hierarchies.first() else {
        return Err(Error::Other(format!("no control group hierarchy is mounted below {MOUNT}")));
    };
    let parent = first.join(ROOT);
    make(&parent)?;
    match std::fs::create_dir(parent.join(lab)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).doing(|| format!("making the control group of {lab}")),
    }
}

/// Makes the group of one node in every hierarchy.
pub fn create(lab: &str, node: &str) -> Result<()> {
    if is_v2() {
        let mut group = PathBuf::from(MOUNT);
        for part in [ROOT, lab, node] {
            delegate(&group);
            group.push(part);
            make(&group)?;
        }
        delegate(&group);
        return Ok(());
    }
    for hierarchy in hierarchies()? {
        let mut group = hierarchy;
        for part in [ROOT, lab, node] {
            let parent = group.clone();
            group.push(part);
            make(&group)?;
            // A new cpuset group is empty, and no process may join a group without CPUs and memory nodes.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = std::fs::read_to_string(parent.join(file)) {
                    std::fs::write(group.join(file), value.trim()).doing(|| format!("writing {file} of {}", group.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// Removes all groups of a lab, whose processes must have been ended. The kernel may need a moment until the last one is gone;
/// what is busy after five seconds stays.
pub fn remove(lab: &str) {
    let groups: Vec<PathBuf> = hierarchies().unwrap_or_default().into_iter().map(|hierarchy| hierarchy.join(ROOT)).collect();
    for _ in 0..100 {
        groups.iter().for_each(|group| remove_tree(&group.join(lab)));
        if !groups.iter().any(|group| group.join(lab).exists()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for group in groups {
        // Stays as long as another lab is below it.
        let _ = std::fs::remove_dir(group);
    }
}

/// How many processes are in a group below a node's (`/kubepods/burstable/pod…`) and below it, as the host sees them.
pub fn processes(lab: &str, node: &str, below: &str) -> usize {
    // On v1 pods are in several hierarchies; the one that limits memory stands for all.
    let hierarchy = if is_v2() { PathBuf::from(MOUNT) } else { Path::new(MOUNT).join("memory") };
    count(&hierarchy.join(ROOT).join(lab).join(node).join(below.trim_start_matches('/')))
}

fn count(group: &Path) -> usize {
    let own = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().count();
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    own + folders.map(|entry| count(&entry.path())).sum::<usize>()
}

fn is_v2() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The mounts that groups are made below: one on v2; on v1 one for each controller, and beside them the v2 mount of hybrid hosts,
/// where runc makes groups too.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if is_v2() {
        return Ok(vec![PathBuf::from(MOUNT)]);
    }
    let entries = std::fs::read_dir(MOUNT).doing(|| format!("reading {MOUNT}"))?;
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    Ok(folders.filter(|path| path.join("cgroup.procs").exists()).collect())
}

/// Switches controllers on for the children of a v2 group; one that the kernel lacks stays off.
fn delegate(group: &Path) {
    for controller in V2_CONTROLLERS {
        let _ = std::fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn make(group: &Path) -> Result<()> {
    std::fs::create_dir_all(group).doing(|| format!("making the control group {}", group.display()))
}

fn remove_tree(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
