//! Log files of containers on the host: the directory of a pod, and the links by container that log agents read.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::{ContainerId, PodRef};
use crate::runtime::names::pod_log_dir;

/// Longest name of a link (`kuberuntime/legacy.go`: 255, less 4 for the suffix).
const MAX_LINK_NAME: usize = 251;

/// `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`, beside the root of the pods' logs.
fn link_path(root: &Path, pod: &PodRef, container: &str, id: &ContainerId) -> PathBuf {
    let mut name = format!("{}_{}_{container}-{id}", pod.name, pod.namespace);
    let mut end = name.len().min(MAX_LINK_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    root.with_file_name("containers").join(name + ".log")
}

/// Makes the link for log agents. Best effort: nothing that runs depends on it.
pub fn link(root: &Path, pod: &PodRef, container: &str, id: &ContainerId, log: &str) {
    let path = link_path(root, pod, container, id);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::os::unix::fs::symlink(log, &path));
    match made {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => tracing::debug!(pod = %pod, path = %path.display(), %error, "Can't link the container's log"),
    }
}

/// Removes a container's log, its rotated parts and its link.
pub fn unlink(root: &Path, pod: &PodRef, container: &str, id: &ContainerId, log: &str) {
    let _ = std::fs::remove_file(link_path(root, pod, container, id));
    let log = Path::new(log);
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str())) else { return };
    // The path comes from the runtime: only what lies in the pod's own directory may go.
    if !dir.starts_with(pod_log_dir(root, pod)) {
        return;
    }
    let rotated = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    for path in rotated.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(name))) {
        let _ = std::fs::remove_file(path);
    }
}

/// Removes all logs of a pod that is gone.
pub fn remove_pod(root: &Path, pod: &PodRef) {
    if pod.name.is_empty() {
        return;
    }
    let dir = pod_log_dir(root, pod);
    match std::fs::remove_dir_all(&dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(pod = %pod, dir = %dir.display(), %error, "Can't remove the pod's logs"),
    }
    // Links of containers that the runtime has forgotten.
    let name = format!("{}_{}_", pod.name, pod.namespace);
    let entries = std::fs::read_dir(root.with_file_name("containers")).into_iter().flatten().flatten();
    for link in entries.filter(|e| e.file_name().to_str().is_some_and(|n| n.starts_with(&name))).map(|e| e.path()) {
        if std::fs::read_link(&link).is_ok_and(|target| target.starts_with(&dir)) {
            let _ = std::fs::remove_file(&link);
        }
    }
}

/// Pods that have a directory. What doesn't look like a pod's is not told.
pub fn pods_on_disk(root: &Path) -> Vec<PodRef> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| owner(entry.file_name().to_str()?)).collect()
}

/// Whose directory has this name. Namespaces and names hold no underscores.
fn owner(dir: &str) -> Option<PodRef> {
    let mut parts = dir.splitn(3, '_').filter(|part| !part.is_empty());
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    Some(PodRef { namespace: namespace.into(), name: name.into(), uid: uid.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (PodRef, ContainerId) {
        (PodRef { namespace: "ns".into(), name: "web".into(), uid: "u".into() }, "abc".into())
    }

    #[test]
    fn a_log_is_removed_with_its_rotated_parts_and_its_link_only() {
        let tmp = tempfile::tempdir().expect("a directory");
        let root = tmp.path().join("pods");
        let (pod, id) = names();
        let dir = pod_log_dir(&root, &pod).join("c");
        std::fs::create_dir_all(&dir).expect("made");
        for name in ["0.log", "0.log.20260101-000000", "1.log"] {
            std::fs::write(dir.join(name), "x").expect("written");
        }
        let log = dir.join("0.log").display().to_string();
        link(&root, &pod, "c", &id, &log);
        let linked = tmp.path().join("containers/web_ns_c-abc.log");
        assert_eq!(std::fs::read_to_string(&linked).expect("a link that leads to the log"), "x");
        unlink(&root, &pod, "c", &id, &log);
        let left: Vec<_> = std::fs::read_dir(&dir).expect("there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["1.log"]);
        assert!(linked.symlink_metadata().is_err());
        unlink(&root, &pod, "c", &id, "/etc/hostname");
        assert!(Path::new("/etc/hostname").exists());
        link(&root, &pod, "c", &id, &log);
        let other = PodRef { uid: "v".into(), ..pod.clone() };
        link(&root, &other, "c", &"def".into(), &pod_log_dir(&root, &other).join("c/0.log").display().to_string());
        remove_pod(&root, &pod);
        assert!(!pod_log_dir(&root, &pod).exists());
        let left: Vec<_> = std::fs::read_dir(tmp.path().join("containers")).expect("there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["web_ns_c-def.log"], "a namesake's stays");
    }

    #[test]
    fn directories_tell_whose_they_are() {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["ns_web_u", "ns_web", "ns__u", "lost+found"] {
            std::fs::create_dir(root.path().join(name)).expect("made");
        }
        assert_eq!(pods_on_disk(root.path()), [names().0]);
        assert!(pods_on_disk(&root.path().join("none")).is_empty());
    }

    #[test]
    fn link_names_fit_a_file_system() {
        let (mut pod, id) = names();
        pod.name = "ä".repeat(200).into();
        let name = link_path(Path::new("/var/log/pods"), &pod, "c", &id);
        assert!(name.file_name().expect("a name").len() <= 255);
        assert!(name.starts_with("/var/log/containers"));
    }
}
