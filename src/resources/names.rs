//! Names of the agent's cgroups. They are upstream's, so that a node can be switched over with its pods running
//! (pkg/kubelet/cm/cgroup_manager_linux.go, CgroupName).

use crate::model::PodUid;
use crate::model::qos::QosClass;
use crate::runtime::CgroupDriver;

/// Where each cgroup is: below `<cgroupRoot>/kubepods`, spelled as the driver wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: Vec<String>,
    driver: CgroupDriver,
    per_qos: bool,
}

/// A cgroup: its parts from the hierarchy's root on, as the file system shows them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CgroupPath(Vec<String>);

impl CgroupPath {
    /// Takes a path such as `/system.slice` apart.
    pub fn parse(path: &str) -> Self {
        Self(parts(path).map(str::to_owned).collect())
    }

    /// The directories from the hierarchy's root down to this cgroup.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The last part; empty for the root.
    pub fn name(&self) -> &str {
        self.0.last().map(String::as_str).unwrap_or_default()
    }
}

impl std::fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", self.0.join("/"))
    }
}

impl Layout {
    /// `root` is the config's `cgroupRoot`; without `per_qos` there is no cgroup besides it.
    pub fn new(root: &str, driver: CgroupDriver, per_qos: bool) -> Self {
        Self { root: parts(root).map(str::to_owned).collect(), driver, per_qos }
    }

    /// Whether QoS and pod cgroups are made at all.
    pub fn per_qos(&self) -> bool {
        self.per_qos
    }

    /// Who makes directories.
    pub fn driver(&self) -> CgroupDriver {
        self.driver
    }

    /// The cgroup of all pods.
    pub fn kubepods(&self) -> CgroupPath {
        self.path(&["kubepods"])
    }

    /// The cgroup that holds the pods of a class: Guaranteed ones have none of their own.
    pub fn tier(&self, class: QosClass) -> CgroupPath {
        match class {
            QosClass::Guaranteed => self.kubepods(),
            QosClass::Burstable => self.path(&["kubepods", "burstable"]),
            QosClass::BestEffort => self.path(&["kubepods", "besteffort"]),
        }
    }

    /// A pod's cgroup; `None` when its UID can't be part of a path.
    pub fn pod(&self, class: QosClass, uid: &PodUid) -> Option<CgroupPath> {
        let uid = uid.as_str();
        let plain = !uid.is_empty() && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let own = format!("pod{uid}");
        plain.then(|| match class {
            QosClass::Guaranteed => self.path(&["kubepods", &own]),
            QosClass::Burstable => self.path(&["kubepods", "burstable", &own]),
            QosClass::BestEffort => self.path(&["kubepods", "besteffort", &own]),
        })
    }

    /// What `cgroup_parent` of a sandbox is: a path for cgroupfs; for systemd the slice's own name, which says where it is.
    pub fn cgroup_parent(&self, pod: &CgroupPath) -> String {
        match self.driver {
            CgroupDriver::Cgroupfs => pod.to_string(),
            CgroupDriver::Systemd => pod.name().to_owned(),
        }
    }

    /// The same where there are no pod cgroups: the root, or nothing.
    pub fn shared_parent(&self) -> String {
        let root = self.path(&[]);
        if root.name().is_empty() { String::new() } else { self.cgroup_parent(&root) }
    }

    /// The pod that a directory of a class's cgroup belongs to.
    pub fn pod_uid(&self, class: QosClass, directory: &str) -> Option<PodUid> {
        let uid = match self.driver {
            CgroupDriver::Cgroupfs => directory.strip_prefix("pod")?.to_owned(),
            CgroupDriver::Systemd => {
                let tier = self.tier(class);
                let prefix = tier.name().strip_suffix(".slice")?;
                let own = directory.strip_prefix(prefix)?.strip_prefix("-pod")?.strip_suffix(".slice")?;
                own.replace('_', "-")
            }
        };
        (!uid.is_empty()).then(|| uid.into())
    }

    fn path(&self, below: &[&str]) -> CgroupPath {
        let names = self.root.iter().map(String::as_str).chain(below.iter().copied());
        match self.driver {
            CgroupDriver::Cgroupfs => CgroupPath(names.map(str::to_owned).collect()),
            // A slice's name holds those of all slices above it, joined by '-' (systemd.slice(5)); so '-' itself becomes '_'.
            CgroupDriver::Systemd => {
                let mut joined = String::new();
                let slice = |name: &str| {
                    if !joined.is_empty() {
                        joined.push('-');
                    }
                    joined.push_str(&name.replace('-', "_"));
                    format!("{joined}.slice")
                };
                CgroupPath(names.map(slice).collect())
            }
        }
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "1234-abcd";

    #[test]
    fn names_and_parents() {
        use QosClass::{BestEffort, Burstable, Guaranteed};
        let (fs, systemd) = (CgroupDriver::Cgroupfs, CgroupDriver::Systemd);
        let table = [
            ("", fs, Guaranteed, "/kubepods/pod1234-abcd", "/kubepods/pod1234-abcd"),
            ("/", fs, Burstable, "/kubepods/burstable/pod1234-abcd", "/kubepods/burstable/pod1234-abcd"),
            ("/a/b-c/", fs, BestEffort, "/a/b-c/kubepods/besteffort/pod1234-abcd", "/a/b-c/kubepods/besteffort/pod1234-abcd"),
            ("/", systemd, Guaranteed, "/kubepods.slice/kubepods-pod1234_abcd.slice", "kubepods-pod1234_abcd.slice"),
            (
                "",
                systemd,
                Burstable,
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234_abcd.slice",
                "kubepods-burstable-pod1234_abcd.slice",
            ),
            (
                "/a/b-c",
                systemd,
                BestEffort,
                "/a.slice/a-b_c.slice/a-b_c-kubepods.slice/a-b_c-kubepods-besteffort.slice/a-b_c-kubepods-besteffort-pod1234_abcd.slice",
                "a-b_c-kubepods-besteffort-pod1234_abcd.slice",
            ),
        ];
        for (root, driver, class, path, parent) in table {
            let layout = Layout::new(root, driver, true);
            let pod = layout.pod(class, &UID.into()).expect("a path");
            assert_eq!((pod.to_string().as_str(), layout.cgroup_parent(&pod).as_str()), (path, parent), "{root} {driver:?}");
            assert_eq!(layout.pod_uid(class, pod.name()), Some(UID.into()), "{path}");
        }
    }

    #[test]
    fn only_pods_are_taken_for_pods() {
        let layout = Layout::new("", CgroupDriver::Systemd, true);
        for name in ["kubepods-burstable.slice", "kubepods-pod.slice", "kubepods-pod1.scope", "x"] {
            assert_eq!(layout.pod_uid(QosClass::Guaranteed, name), None, "{name}");
        }
        let layout = Layout::new("", CgroupDriver::Cgroupfs, true);
        for name in ["burstable", "pod", "x"] {
            assert_eq!(layout.pod_uid(QosClass::Guaranteed, name), None, "{name}");
        }
    }

    #[test]
    fn uids_that_would_leave_the_tree_are_refused() {
        let layout = Layout::new("", CgroupDriver::Cgroupfs, true);
        for uid in ["", "../x", "a/b", "a.b", "a b"] {
            assert_eq!(layout.pod(QosClass::Burstable, &uid.into()), None, "{uid}");
        }
    }

    #[test]
    fn without_pod_cgroups_all_share_the_root() {
        assert_eq!(Layout::new("/", CgroupDriver::Cgroupfs, false).shared_parent(), "");
        assert_eq!(Layout::new("/a/b", CgroupDriver::Cgroupfs, false).shared_parent(), "/a/b");
        assert_eq!(Layout::new("/a/b", CgroupDriver::Systemd, false).shared_parent(), "a-b.slice");
    }
}
