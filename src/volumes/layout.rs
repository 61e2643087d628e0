//! Where a pod's things are below the root directory. The names are upstream's, so that either agent finds what the other left.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::model::PodUid;

/// A name from the outside that can't be a file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't be used as a directory name")]
pub struct BadName(pub String);

/// Volume kinds that have a directory of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// emptyDir.
    EmptyDir,
    /// secret.
    Secret,
    /// configMap.
    ConfigMap,
    /// downwardAPI.
    DownwardApi,
    /// projected.
    Projected,
}

impl Plugin {
    /// The plugin's name with `/` written as `~`.
    fn dir(self) -> &'static str {
        match self {
            Self::EmptyDir => "kubernetes.io~empty-dir",
            Self::Secret => "kubernetes.io~secret",
            Self::ConfigMap => "kubernetes.io~configmap",
            Self::DownwardApi => "kubernetes.io~downward-api",
            Self::Projected => "kubernetes.io~projected",
        }
    }
}

/// Makes paths below the root directory, and none outside of it.
#[derive(Debug, Clone)]
pub struct Layout {
    pods: PathBuf,
}

impl Layout {
    /// For the root directory, `/var/lib/kubelet` unless configured otherwise.
    pub fn new(root: &Path) -> Self {
        Self { pods: root.join("pods") }
    }

    /// `<root>/pods`.
    pub fn pods(&self) -> &Path {
        &self.pods
    }

    /// `<root>/pods/<uid>`.
    pub fn pod(&self, uid: &PodUid) -> Result<PathBuf, BadName> {
        Ok(self.pods.join(file_name(uid.as_str())?))
    }

    /// `<root>/pods/<uid>/volumes/<plugin>/<volume>`.
    pub fn volume(&self, uid: &PodUid, plugin: Plugin, volume: &str) -> Result<PathBuf, BadName> {
        Ok(self.pod(uid)?.join("volumes").join(plugin.dir()).join(file_name(volume)?))
    }

    /// `<root>/pods/<uid>/volume-subpaths/<volume>/<container>/<index>`.
    pub fn sub_path(&self, uid: &PodUid, volume: &str, container: &str, index: usize) -> Result<PathBuf, BadName> {
        let dir = self.pod(uid)?.join("volume-subpaths");
        Ok(dir.join(file_name(volume)?).join(file_name(container)?).join(index.to_string()))
    }

    /// The file that says that an emptyDir is complete: `<root>/pods/<uid>/plugins/kubernetes.io~empty-dir/<volume>/ready`.
    pub fn ready(&self, uid: &PodUid, volume: &str) -> Result<PathBuf, BadName> {
        Ok(self.pod(uid)?.join("plugins").join(Plugin::EmptyDir.dir()).join(file_name(volume)?).join("ready"))
    }
}

/// The text itself, when it is a single file name.
fn file_name(name: &str) -> Result<&str, BadName> {
    let fine = !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && name.len() <= 255;
    if fine { Ok(name) } else { Err(BadName(name.to_owned())) }
}

/// Makes a directory and those above it, closed to other users.
pub fn make_dirs(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(dir)
}

/// Makes a directory inside a volume, with its parents: whoever the containers run as must get through
/// (`pkg/volume/util/nested_volumes.go`).
pub fn make_open_dirs(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_upstreams() {
        let (layout, uid) = (Layout::new(Path::new("/var/lib/kubelet")), PodUid::from("u-1"));
        let volume = layout.volume(&uid, Plugin::Projected, "kube-api-access-x").unwrap();
        assert_eq!(volume, Path::new("/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~projected/kube-api-access-x"));
        let ready = layout.ready(&uid, "tmp").unwrap();
        assert_eq!(ready, Path::new("/var/lib/kubelet/pods/u-1/plugins/kubernetes.io~empty-dir/tmp/ready"));
    }

    #[test]
    fn no_name_leads_outside() {
        let (layout, uid) = (Layout::new(Path::new("/k")), PodUid::from("u"));
        for bad in ["", ".", "..", "../x", "a/b", "/etc", "a\0b", &"x".repeat(256)] {
            assert_eq!(layout.pod(&PodUid::from(bad)), Err(BadName(bad.into())));
            assert_eq!(layout.volume(&uid, Plugin::EmptyDir, bad), Err(BadName(bad.into())));
            assert!(layout.ready(&uid, bad).is_err());
            assert!(layout.sub_path(&uid, bad, "c", 0).is_err() && layout.sub_path(&uid, "v", bad, 0).is_err());
        }
        assert!(layout.volume(&uid, Plugin::EmptyDir, "..data").is_ok());
    }
}
