//! Ordinary directories in place of the kernel's: shows what is made and written. `act/tests.rs` uses the real ones.

use super::*;

fn file(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, text).expect("written");
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
}

fn write(controller: &'static str, file: &str, value: &str) -> Write {
    Write { controller, file: file.into(), value: value.into() }
}

fn hybrid() -> tempfile::TempDir {
    let mount = tempfile::tempdir().expect("a directory");
    for name in ["cpu,cpuacct", "memory", "systemd", "unified"] {
        fs::create_dir(mount.path().join(name)).expect("made");
    }
    std::os::unix::fs::symlink("cpu,cpuacct", mount.path().join("cpu")).expect("linked");
    file(mount.path(), "cpuset/cpuset.cpus", "0-1\n");
    file(mount.path(), "cpuset/cpuset.mems", "0\n");
    mount
}

#[test]
fn v1_makes_a_directory_in_each_hierarchy_with_controllers() {
    let mount = hybrid();
    let tree = Tree::open(mount.path(), CgroupVersion::V1).expect("opened");
    let path = CgroupPath::parse("/mine/kubepods");
    assert!(!tree.exists(&path));
    tree.create(&path).expect("made");
    tree.create(&path).expect("again");
    for hierarchy in ["cpu,cpuacct", "memory", "cpuset"] {
        assert!(mount.path().join(hierarchy).join("mine/kubepods").is_dir(), "{hierarchy}");
    }
    for hierarchy in ["systemd", "unified"] {
        assert!(!mount.path().join(hierarchy).join("mine").exists(), "{hierarchy}");
    }
    assert_eq!(read(mount.path(), "cpuset/mine/cpuset.cpus"), "0-1");
    assert_eq!(read(mount.path(), "cpuset/mine/kubepods/cpuset.mems"), "0");
    assert_eq!(tree.children(&CgroupPath::parse("mine")).expect("read"), ["kubepods".to_owned()].into());
}

#[test]
fn v1_keeps_a_cpuset_that_somebody_chose() {
    let mount = hybrid();
    file(mount.path(), "cpuset/mine/cpuset.cpus", "1\n");
    file(mount.path(), "cpuset/mine/cpuset.mems", "0\n");
    let tree = Tree::open(mount.path(), CgroupVersion::V1).expect("opened");
    tree.create(&CgroupPath::parse("/mine/kubepods")).expect("made");
    assert_eq!(read(mount.path(), "cpuset/mine/cpuset.cpus"), "1\n");
    assert_eq!(read(mount.path(), "cpuset/mine/kubepods/cpuset.cpus"), "1");
}

#[test]
fn v1_writes_to_the_controllers_hierarchy_and_passes_over_missing_ones() {
    let mount = hybrid();
    let tree = Tree::open(mount.path(), CgroupVersion::V1).expect("opened");
    let path = CgroupPath::parse("/kubepods");
    tree.create(&path).expect("made");
    let writes = [write("cpu", "cpu.shares", "7"), write("memory", "memory.limit_in_bytes", "8"), write("hugetlb", "x", "9")];
    tree.apply(&path, &writes).expect("written");
    assert_eq!(read(mount.path(), "cpu,cpuacct/kubepods/cpu.shares"), "7");
    assert_eq!(read(mount.path(), "memory/kubepods/memory.limit_in_bytes"), "8");
    assert_eq!(tree.read_number(&path, "cpu", "cpu.shares"), Some(7));
    assert_eq!(tree.read_number(&path, "cpu", "cpu.weight"), None);
}

#[test]
fn failures_name_the_file_and_do_not_stop_the_rest() {
    let mount = hybrid();
    let tree = Tree::open(mount.path(), CgroupVersion::V1).expect("opened");
    let path = CgroupPath::parse("/kubepods");
    file(mount.path(), "memory/kubepods/other", "");
    let writes = [write("cpu", "cpu.shares", "7"), write("memory", "memory.limit_in_bytes", "8")];
    let error = tree.apply(&path, &writes).expect_err("cpu has no such directory");
    assert!(error.message.contains("can't write 7 to") && error.message.contains("cpu.shares"), "{error}");
    assert_eq!(read(mount.path(), "memory/kubepods/memory.limit_in_bytes"), "8");
}

#[test]
fn v2_switches_controllers_on_from_the_root_down() {
    let mount = tempfile::tempdir().expect("a directory");
    for directory in ["", "mine/"] {
        file(mount.path(), &format!("{directory}cgroup.controllers"), "cpuset cpu misc memory\n");
        file(mount.path(), &format!("{directory}cgroup.subtree_control"), "cpu cpuset\n");
    }
    let tree = Tree::open(mount.path(), CgroupVersion::V2).expect("opened");
    let path = CgroupPath::parse("/mine/kubepods");
    tree.create(&path).expect("made");
    // Ordinary files keep the last word only.
    assert_eq!(read(mount.path(), "cgroup.subtree_control"), "+memory");
    assert_eq!(read(mount.path(), "mine/cgroup.subtree_control"), "+memory");
    file(mount.path(), "mine/kubepods/cgroup.controllers", "cpu\n");
    tree.apply(&path, &[write("cpu", "cpu.weight", "7"), write("hugetlb", "hugetlb.2MB.max", "0")]).expect("written");
    assert_eq!(read(mount.path(), "mine/kubepods/cpu.weight"), "7");
    assert!(!mount.path().join("mine/kubepods/hugetlb.2MB.max").exists(), "the controller is off");
}

#[test]
fn a_missing_mount_says_what_to_do() {
    let error = Tree::open(Path::new("/no/such/mount"), CgroupVersion::V1).expect_err("refused");
    assert!(error.to_string().contains("mount the cgroup file systems there"), "{error}");
}
