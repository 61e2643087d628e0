//! Where `setup.sh` put what the lab runs.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const KUBERNETES_MODULE: &str = include_str!("../tools/kubernetes/go.mod");
const CONTAINERD_MODULE: &str = include_str!("../tools/containerd/go.mod");

/// The programs and images that the lab needs, each seen to be there.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Folder of kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, kubelet and kube-proxy.
    pub kubernetes: PathBuf,
    /// Folder of containerd, its shim and ctr.
    pub containerd: PathBuf,
    /// Debian's etcd.
    pub etcd: PathBuf,
    /// Image archives.
    pub images: Vec<PathBuf>,
}

impl Tools {
    /// Finds them, or names the first that is missing.
    pub fn find() -> Result<Self> {
        let cache = cache_dir()?;
        let bin = cache.join("bin");
        let kubernetes = bin.join(format!("kubernetes-{}", kubernetes_version()));
        let containerd = bin.join(format!("containerd-{}", version_in(CONTAINERD_MODULE, "github.com/containerd/containerd/v2")));
        let images = cache.join("images/current");
        let tools = Self {
            etcd: bin.join("etcd/etcd"),
            images: ["pause", "busybox", "whoami"].map(|name| images.join(format!("{name}.tar"))).to_vec(),
            kubernetes,
            containerd,
        };
        let programs = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet", "kube-proxy"];
        let needed = programs
            .map(|name| tools.kubernetes.join(name))
            .into_iter()
            .chain(["containerd", "containerd-shim-runc-v2", "ctr"].map(|name| tools.containerd.join(name)))
            .chain([tools.etcd.clone()])
            .chain(tools.images.clone());
        match needed.into_iter().find(|path| !path.exists()) {
            Some(path) => Err(Error::Missing(path)),
            None => Ok(tools),
        }
    }

    /// One of Kubernetes' programs.
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }
}

/// The version of the control plane and of the upstream agents, as `v1.2.3`.
pub fn kubernetes_version() -> &'static str {
    version_in(KUBERNETES_MODULE, "k8s.io/kubernetes")
}

/// The kubelet-rs that the tests and the demo run: `KUBELET_RS_BIN`, or the one that `cargo build --profile lab` made.
pub fn kubelet_rs() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KUBELET_RS_BIN") {
        return Ok(PathBuf::from(path));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).join("target"), PathBuf::from);
    let binary = target.join("lab/kubelet-rs");
    if binary.exists() {
        Ok(binary)
    } else {
        Err(Error::Other(format!("{} is missing: build it with `cargo build --profile lab`", binary.display())))
    }
}

/// The folder of all that was built once.
pub fn cache_dir() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    base.map(|base| base.join("kubelet-rs")).ok_or_else(|| Error::Other("neither XDG_CACHE_HOME nor HOME is set".into()))
}

/// The version of `module` that a go.mod requires; empty if it names none.
fn version_in<'a>(go_mod: &'a str, module: &str) -> &'a str {
    go_mod
        .lines()
        .map(|line| line.trim().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix(module)?.strip_prefix(' ')?.split_whitespace().next())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_both_forms_of_require() {
        assert_eq!(version_in("require k8s.io/kubernetes v1.36.3\n", "k8s.io/kubernetes"), "v1.36.3");
        assert_eq!(version_in("require (\n\ta/b v1.0.0\n\ta/b/v2 v2.4.2 // indirect\n)\n", "a/b/v2"), "v2.4.2");
        assert_eq!(version_in("require a/bc v1.0.0\n", "a/b"), "");
    }

    #[test]
    fn our_modules_name_their_versions() {
        assert!(kubernetes_version().starts_with("v1."));
        assert!(version_in(CONTAINERD_MODULE, "github.com/containerd/containerd/v2").starts_with("v2."));
    }
}
