//! Mount points inside read-only volumes for what containers mount below them. Pure but for [`make`].
//!
//! A container that mounts a ConfigMap at `/etc/app` and another volume at `/etc/app/cache` needs a directory `cache` in the
//! ConfigMap's volume: the runtime can't make it there (pkg/volume/util/nested_volumes.go of Kubernetes).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, VolumeMount};

use super::layout::make_open_dirs;
use super::problem::Problem;

/// Directories that the volume must have, relative to it. Those inside another nested volume are that one's business.
fn needed(pod: &Pod, volume: &str) -> BTreeSet<PathBuf> {
    let Some(spec) = &pod.spec else { return BTreeSet::new() };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| &c.volume_mounts);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| &c.volume_mounts);
    let mut dirs = BTreeSet::new();
    for mounts in containers.chain(ephemeral).flatten() {
        dirs.extend(below(mounts, volume));
    }
    dirs
}

fn below(mounts: &[VolumeMount], volume: &str) -> BTreeSet<PathBuf> {
    let places: Vec<PathBuf> = mounts.iter().filter_map(|m| plain(&m.mount_path)).collect();
    let mut dirs = BTreeSet::new();
    // A subPath mount shows only a part of the volume: what is mounted below it lies somewhere else.
    for own in mounts.iter().filter(|m| m.name == volume).filter_map(|m| plain(&m.mount_path)) {
        let inside = |p: &Path, outer: &Path| p != outer && p.starts_with(outer);
        let nested = places.iter().filter(|p| inside(p, &own));
        let outermost = nested.filter(|p| !places.iter().any(|q| inside(p, q) && inside(q, &own)));
        dirs.extend(outermost.filter_map(|p| p.strip_prefix(&own).ok().map(Path::to_owned)));
    }
    dirs
}

/// The path without its root, when it has only ordinary parts.
fn plain(path: &str) -> Option<PathBuf> {
    let parts: Option<Vec<&std::ffi::OsStr>> = Path::new(path)
        .components()
        .filter(|c| *c != Component::RootDir && *c != Component::CurDir)
        .map(|c| if let Component::Normal(name) = c { Some(name) } else { None })
        .collect();
    parts.map(|p| p.into_iter().collect())
}

/// Makes them.
pub(super) fn make(pod: &Pod, volume: &str, dir: &Path) -> Result<(), Problem> {
    for nested in needed(pod, volume) {
        let path = dir.join(nested);
        // It may also be one of the volume's own files, mounted over.
        if path.symlink_metadata().is_err() {
            make_open_dirs(&path).map_err(Problem::io("make a mount point", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::tests::pod;
    use serde_json::json;

    #[test]
    fn only_the_outermost_nested_mounts_count() {
        let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
        let table = [
            (vec![mount("v", "/etc/app"), mount("w", "/etc/app/cache")], vec!["cache"]),
            (vec![mount("v", "/etc/app"), mount("w", "/etc/app/a"), mount("x", "/etc/app/a/b")], vec!["a"]),
            (vec![mount("v", "/etc/app"), mount("w", "/etc/app2/a"), mount("x", "/etc")], vec![]),
            (vec![mount("v", "/d"), mount("w", "/d/nested-vol"), mount("x", "/d/nested/double")], vec!["nested-vol", "nested/double"]),
            (vec![mount("v", "/d/"), mount("v", "/d/again"), mount("w", "/d/again/x")], vec!["again", "x"]),
            (vec![mount("v", "/d"), mount("w", "/d/../etc"), mount("x", "../d")], vec![]),
            (vec![mount("w", "/d"), mount("x", "/d/e")], vec![]),
        ];
        for (mounts, want) in table {
            let pod = pod(json!({"containers": [{"name": "c", "image": "i", "volumeMounts": mounts}]}));
            let want: BTreeSet<PathBuf> = want.into_iter().map(PathBuf::from).collect();
            assert_eq!(needed(&pod, "v"), want, "{mounts:?}");
        }
    }
}
