//! How much of everything the node has left, read from the kernel. Blocks.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::judge::{Level, Levels};
use super::signal::Signal;
use super::usage::number;
use crate::sys::procfs;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Places {
    /// `/`, but for tests.
    pub host: PathBuf,
    /// The agent's root directory.
    pub root_dir: PathBuf,
    /// A path on the file system of images, once known.
    pub images: Option<PathBuf>,
}

/// Reads all levels but that of the pods' cgroup. What can't be read is left out.
pub fn read(places: &Places) -> Levels {
    let mut levels = Levels::new();
    let mut put = |signal, level: Option<Level>| {
        if let Some(level) = level {
            levels.insert(signal, level);
        }
    };
    put(Signal::Memory, memory(&places.host));
    put(Signal::Pid, pids(&places.host.join("proc")));
    for (path, bytes, inodes) in
        [(Some(&places.root_dir), Signal::NodeFs, Signal::NodeFsInodes), (places.images.as_ref(), Signal::ImageFs, Signal::ImageFsInodes)]
    {
        let disk = path.and_then(|path| statvfs(path.as_path()).ok());
        put(
            bytes,
            disk.map(|disk| Level {
                available: number(disk.blocks_available().saturating_mul(disk.fragment_size())),
                capacity: number(disk.blocks().saturating_mul(disk.fragment_size())),
            }),
        );
        put(inodes, disk.map(|disk| Level { available: number(disk.files_free()), capacity: number(disk.files()) }));
    }
    levels
}

/// All memory, less what processes work with: what is in use, without file pages that nothing has touched for a while.
fn memory(host: &Path) -> Option<Level> {
    let info = fs::read_to_string(host.join("proc/meminfo")).ok()?;
    let total = procfs::meminfo_bytes(&info, "MemTotal")?;
    let cgroup = host.join("sys/fs/cgroup");
    let number = |file: &str| procfs::number(&cgroup.join(file));
    let (in_use, stat, key): (i64, _, _) = match number("memory/memory.usage_in_bytes") {
        Some(in_use) => (in_use, "memory/memory.stat", "total_inactive_file"),
        // The root of version 2 doesn't count; inside of a container there is a file that does.
        None => (
            number("memory.current").or_else(|| total.checked_sub(procfs::meminfo_bytes(&info, "MemFree")?))?,
            "memory.stat",
            "inactive_file",
        ),
    };
    let stat = fs::read_to_string(cgroup.join(stat)).unwrap_or_default();
    let idle: i64 = procfs::field(&stat, key).unwrap_or(0);
    Some(Level { available: total - (in_use - idle).max(0), capacity: total })
}

/// Process ids: what the kernel runs at most, less what runs.
fn pids(proc: &Path) -> Option<Level> {
    let capacity = procfs::process_limit(proc)?;
    let load = fs::read_to_string(proc.join("loadavg")).ok()?;
    let (_, all) = load.split_whitespace().nth(3)?.split_once('/')?;
    Some(Level { available: capacity - all.parse::<i64>().ok()?, capacity })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1000 kB\nMemFree:          400 kB\n");

    #[test]
    fn memory_of_each_hierarchy() {
        let level = |files: &[(&str, &str)]| memory(host(files).path()).unwrap();
        let stat = "anon 5\nactive_file 7\ninactive_file 102400\n";
        let root = level(&[MEMINFO, ("sys/fs/cgroup/memory.stat", stat)]);
        assert_eq!(root, Level { available: 500 << 10, capacity: 1000 << 10 }, "600 KiB in use, 100 of them idle");
        let nested = level(&[MEMINFO, ("sys/fs/cgroup/memory.stat", stat), ("sys/fs/cgroup/memory.current", "204800\n")]);
        assert_eq!(nested.available, 900 << 10);
        let v1 = level(&[
            MEMINFO,
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 1024\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "3072\n"),
        ]);
        assert_eq!(v1.available, 998 << 10);
        assert_eq!(memory(host(&[]).path()), None);
    }

    #[test]
    fn process_ids_and_disks() {
        let root = host(&[
            ("proc/loadavg", "0.1 0.2 0.3 2/345 999\n"),
            ("proc/sys/kernel/pid_max", "4194304\n"),
            ("proc/sys/kernel/threads-max", "1345\n"),
        ]);
        assert_eq!(pids(&root.path().join("proc")), Some(Level { available: 1000, capacity: 1345 }));
        let here = Places { host: root.path().into(), root_dir: root.path().into(), images: None };
        let levels = read(&here);
        assert_eq!(levels.keys().copied().collect::<Vec<_>>(), [Signal::NodeFs, Signal::NodeFsInodes, Signal::Pid]);
        assert!(levels[&Signal::NodeFs].capacity > levels[&Signal::NodeFs].available);
    }
}
