//! Which cgroup hierarchy has the resource controllers.

use std::path::Path;

/// Version of the cgroup interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy a controller. Hybrid hosts, whose unified hierarchy has next to no controllers, count as this.
    V1,
    /// One unified hierarchy (kernel: Documentation/admin-guide/cgroup-v2.rst).
    V2,
}

/// Looks at the mount point, normally `/sys/fs/cgroup`. Only a cgroup v2 file system has `cgroup.controllers` at its root; on hybrid
/// hosts it is mounted one level below.
pub fn detect(mount_point: &Path) -> CgroupVersion {
    if mount_point.join("cgroup.controllers").exists() { CgroupVersion::V2 } else { CgroupVersion::V1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_count_as_v1() {
        let mount = tempfile::tempdir().expect("a directory");
        assert_eq!(detect(mount.path()), CgroupVersion::V1);
        std::fs::create_dir(mount.path().join("unified")).expect("made");
        std::fs::write(mount.path().join("unified/cgroup.controllers"), "hugetlb\n").expect("written");
        assert_eq!(detect(mount.path()), CgroupVersion::V1);
        std::fs::write(mount.path().join("cgroup.controllers"), "cpu memory\n").expect("written");
        assert_eq!(detect(mount.path()), CgroupVersion::V2);
    }
}
