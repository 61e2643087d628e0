//! emptyDir: a directory that lives as long as its pod, on disk or in memory.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::fs_group;
use super::layout::make_dirs;
use super::mounts::Mounts;
use super::problem::Problem;
use crate::model::node::NodeFacts;
use crate::model::quantity::Quantity;
use crate::model::resources::PodResources;

/// What an emptyDir is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// The root directory's file system.
    Disk,
    /// tmpfs of so many bytes.
    Memory(u64),
}

/// The medium that a spec asks for. Pure.
pub(super) fn medium(source: Option<&EmptyDirVolumeSource>, pod: &Pod, node: &NodeFacts) -> Result<Medium, Problem> {
    match source.and_then(|s| s.medium.as_deref()).unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => Ok(Medium::Memory(memory_size(source.and_then(|s| s.size_limit.as_ref()), pod, node)?)),
        huge if huge.starts_with("HugePages") => Err(Problem::Unsupported(format!("emptyDir with medium {huge}"))),
        other => Err(Problem::Spec(format!("unknown storage medium {other:?}; write \"\" or Memory"))),
    }
}

/// The size of a tmpfs: what is least of the node's allocatable memory, the pod's memory limit and the volume's own.
pub(super) fn memory_size(limit: Option<&Text>, pod: &Pod, node: &NodeFacts) -> Result<u64, Problem> {
    let own = limit.map(bytes).transpose()?;
    let all = [Some(node.allocatable.memory), PodResources::of(pod).memory_limit(), own];
    let least = all.into_iter().flatten().filter(|b| *b > 0).min();
    Ok(least.unwrap_or(0).unsigned_abs())
}

fn bytes(text: &Text) -> Result<i64, Problem> {
    text.0.parse::<Quantity>().map(Quantity::value).map_err(|e| Problem::Spec(e.to_string()))
}

/// Makes the directory and gives it to the group, once: `ready` is the file that remembers that. What containers put there and
/// how they set its modes stays as it is.
pub(super) fn set_up(dir: &Path, ready: &Path, medium: Medium, fs_group: Option<u32>, mounts: &dyn Mounts) -> Result<(), Problem> {
    let complete = ready.exists() && dir.exists();
    match medium {
        Medium::Disk if complete => return Ok(()),
        Medium::Memory(_) if complete && mounts.is_tmpfs(dir).map_err(Problem::io("look at", dir))? => return Ok(()),
        Medium::Disk => make_open_dir(dir)?,
        Medium::Memory(size) => make_tmpfs(dir, size, mounts)?,
    }
    if let Some(group) = fs_group {
        fs_group::apply(dir, group, false).map_err(Problem::io("give to the pod's fsGroup", dir))?;
    }
    let parent = ready.parent().unwrap_or(ready);
    make_dirs(parent).map_err(Problem::io("make directory", parent))?;
    fs::write(ready, "").map_err(Problem::io("write", ready))
}

/// A tmpfs in a directory of mode 0777, as upstream has it. `size` in bytes; 0 leaves it to the kernel.
pub(super) fn make_tmpfs(dir: &Path, size: u64, mounts: &dyn Mounts) -> Result<(), Problem> {
    make_open_dir(dir)?;
    if mounts.is_tmpfs(dir).map_err(Problem::io("look at", dir))? {
        return Ok(());
    }
    mounts.tmpfs(dir, Some(size).filter(|s| *s > 0)).map_err(Problem::io("mount a tmpfs at", dir))
}

/// A directory that containers of any user can write to. The directories above are closed.
pub(super) fn make_open_dir(dir: &Path) -> Result<(), Problem> {
    let parent = dir.parent().unwrap_or(dir);
    make_dirs(parent).map_err(Problem::io("make directory", parent))?;
    match DirBuilder::new().mode(0o777).create(dir) {
        // Whatever the agent's umask is.
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o777)).map_err(Problem::io("change mode of", dir)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(Problem::io("make directory", dir)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::mounts::fake::FakeMounts;
    use crate::volumes::tests::{node, pod};
    use serde_json::{Value, json};
    use std::path::PathBuf;

    #[test]
    fn sizes() {
        let limited = |name: &str, memory: Option<&str>| json!({"name": name, "image": "i", "resources": {"limits": {"memory": memory}}});
        let unlimited = json!({"name": "u", "image": "i"});
        let gib = 1u64 << 30;
        let table: [(Value, &str, u64); 7] = [
            (json!({"containers": [unlimited]}), "", 4 * gib),
            (json!({"containers": [unlimited]}), "1Gi", gib),
            (json!({"containers": [unlimited]}), "100Gi", 4 * gib),
            (json!({"containers": [limited("a", Some("1Gi")), limited("b", Some("1Gi"))]}), "0", 2 * gib),
            (json!({"containers": [limited("a", Some("1Gi")), unlimited]}), "", 4 * gib),
            (json!({"containers": [limited("a", Some("1Gi"))], "initContainers": [limited("i", Some("3Gi"))]}), "", 3 * gib),
            (json!({"containers": [unlimited], "resources": {"limits": {"memory": "2Gi"}}}), "3Gi", 2 * gib),
        ];
        for (spec, limit, want) in table {
            let limit = Some(Text(limit.to_owned())).filter(|l| !l.0.is_empty());
            assert_eq!(memory_size(limit.as_ref(), &pod(spec.clone()), &node()).unwrap(), want, "{spec} {limit:?}");
        }
        let p = pod(json!({"containers": []}));
        assert!(memory_size(Some(&Text("1GB".into())), &p, &node()).is_err());
    }

    #[test]
    fn media() {
        let p = pod(json!({"containers": []}));
        let source = |medium: &str| EmptyDirVolumeSource { medium: Some(medium.into()), size_limit: None };
        assert_eq!(medium(None, &p, &node()).unwrap(), Medium::Disk);
        assert_eq!(medium(Some(&source("")), &p, &node()).unwrap(), Medium::Disk);
        assert_eq!(medium(Some(&source("Memory")), &p, &node()).unwrap(), Medium::Memory(4 << 30));
        let error = medium(Some(&source("HugePages-2Mi")), &p, &node()).unwrap_err().to_string();
        assert_eq!(error, "volumes of type emptyDir with medium HugePages-2Mi are not supported yet by kubelet-rs");
        assert!(medium(Some(&source("Disk")), &p, &node()).is_err());
    }

    fn places(root: &Path) -> (PathBuf, PathBuf) {
        (root.join("volumes/empty/v"), root.join("plugins/empty/v/ready"))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn on_disk_it_is_made_once_and_left_alone_then() {
        let (root, mounts) = (tempfile::tempdir().unwrap(), FakeMounts::default());
        let (dir, ready) = places(root.path());
        set_up(&dir, &ready, Medium::Disk, None, &mounts).unwrap();
        assert_eq!((mode(&dir), mode(dir.parent().unwrap())), (0o777, 0o750));
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.join("data"), "kept").unwrap();
        set_up(&dir, &ready, Medium::Disk, Some(0), &mounts).unwrap();
        assert_eq!(mode(&dir), 0o700, "a container's own choice");
        assert_eq!(fs::read_to_string(dir.join("data")).unwrap(), "kept");
        assert!(mounts.all().is_empty());
    }

    #[test]
    fn in_memory_it_is_mounted_again_after_a_reboot_only() {
        let (root, mounts) = (tempfile::tempdir().unwrap(), FakeMounts::default());
        let (dir, ready) = places(root.path());
        for _ in 0..2 {
            set_up(&dir, &ready, Medium::Memory(1 << 20), None, &mounts).unwrap();
            assert_eq!(mounts.all().iter().map(|m| (&m.target, m.size)).collect::<Vec<_>>(), [(&dir, Some(1 << 20))]);
        }
        let rebooted = FakeMounts::default();
        set_up(&dir, &ready, Medium::Memory(1 << 20), None, &rebooted).unwrap();
        assert_eq!(rebooted.all().len(), 1);
    }

    #[test]
    fn a_file_in_its_place_is_an_error() {
        let (root, mounts) = (tempfile::tempdir().unwrap(), FakeMounts::default());
        let (dir, ready) = places(root.path());
        make_dirs(dir.parent().unwrap()).unwrap();
        fs::write(&dir, "").unwrap();
        let error = set_up(&dir, &ready, Medium::Disk, None, &mounts).unwrap_err().to_string();
        assert!(error.starts_with("make directory "), "{error}");
    }
}
