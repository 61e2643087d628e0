//! The lab's own control groups: `/kubelet-rs-lab/LAB/NODE` in every hierarchy, nothing else touched.
//!
//! On cgroup v1 there is a hierarchy for each controller; on v2 there is one, and controllers are switched on from its root down.

use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Result};

const MOUNT: &str = "/sys/fs/cgroup";
/// All labs are below this group.
const ROOT: &str = "kubelet-rs-lab";
/// What a node agent limits pods with.
const V2_CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// The group of one node, as `cgroupRoot` names it.
pub fn name(lab: &str, node: &str) -> String {
    format!("/{ROOT}/{lab}/{node}")
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
    for hierarchy in v1_hierarchies()? {
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

/// Removes all groups of a lab. They must be empty of processes; one that is not stays.
pub fn remove(lab: &str) {
    let hierarchies = if is_v2() { vec![PathBuf::from(MOUNT)] } else { v1_hierarchies().unwrap_or_default() };
    for hierarchy in hierarchies {
        remove_tree(&hierarchy.join(ROOT).join(lab));
        // Stays as long as another lab is below it.
        let _ = std::fs::remove_dir(hierarchy.join(ROOT));
    }
}

fn is_v2() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The v1 hierarchies: folders of the mount point, without the links (`cpu,cpuacct`) and the empty v2 mount beside them.
fn v1_hierarchies() -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(MOUNT).doing(|| format!("reading {MOUNT}"))?;
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("tasks").exists())
        .collect())
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
