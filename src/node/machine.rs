//! What this machine is, from /proc, /sys and /etc. Read once at start.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use crate::model::node::{NodeFacts, Totals};
use crate::sys::procfs::meminfo_bytes;

/// A fact about the machine that can't be had, and without which it can't be a node.
#[derive(Debug, thiserror::Error)]
#[error("{what} can't be read from {}: {reason}", path.display())]
pub struct MachineError {
    /// What was looked for.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// The host's name, as the kernel has it.
    pub hostname: String,
    /// CPUs that are online.
    pub cpus: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of swap.
    pub swap: i64,
    /// Bytes of the file system that holds the root directory.
    pub ephemeral_storage: i64,
    /// Bytes set aside for huge pages, by page size in bytes.
    pub hugepages: BTreeMap<i64, i64>,
    /// /etc/machine-id.
    pub machine_id: String,
    /// The firmware's UUID; the machine id where there is none.
    pub system_uuid: String,
    /// Another one after each boot.
    pub boot_id: String,
    /// `6.1.0-25-amd64`.
    pub kernel_version: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// Go's name for it: `amd64`, `arm64`.
    pub architecture: &'static str,
    /// Whether the unified cgroup hierarchy is mounted at /sys/fs/cgroup.
    pub cgroup_v2: bool,
}

impl Machine {
    /// Reads the host that is mounted at `host` (`/`). `root_dir` is the agent's root directory, which must exist.
    pub fn read(host: &Path, root_dir: &Path) -> Result<Self, MachineError> {
        let text = |path: &str| fs::read_to_string(host.join(path)).unwrap_or_default().trim().to_owned();
        let first = |paths: &[&str]| paths.iter().map(|path| text(path)).find(|text| !text.is_empty()).unwrap_or_default();
        let need = |what, path: &str, value: Option<i64>| {
            let fail = || MachineError { what, path: host.join(path), reason: "it is missing or makes no sense; is it mounted?".into() };
            value.filter(|value| *value > 0).ok_or_else(fail)
        };
        let meminfo = text("proc/meminfo");
        let disk = statvfs(root_dir).map_err(|errno| MachineError {
            what: "the size of the file system",
            path: root_dir.to_owned(),
            reason: format!("{errno}; the root directory must exist"),
        })?;
        let machine_id = first(&["etc/machine-id", "var/lib/dbus/machine-id"]);
        let uuid = first(&["sys/class/dmi/id/product_uuid", "proc/device-tree/system-id", "proc/device-tree/vm,uuid"]);
        let cgroup_v2 = statfs(&host.join("sys/fs/cgroup")).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
        Ok(Self {
            hostname: text("proc/sys/kernel/hostname"),
            cpus: need("the number of CPUs", "sys/devices/system/cpu/online", count_list(&text("sys/devices/system/cpu/online")))?,
            memory: need("the size of the memory", "proc/meminfo", meminfo_bytes(&meminfo, "MemTotal"))?,
            swap: meminfo_bytes(&meminfo, "SwapTotal").unwrap_or(0),
            ephemeral_storage: i64::try_from(disk.blocks().saturating_mul(disk.fragment_size())).unwrap_or(i64::MAX),
            hugepages: hugepages(&host.join("sys/kernel/mm/hugepages")),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid.trim_end_matches('\0').to_owned() },
            machine_id,
            boot_id: text("proc/sys/kernel/random/boot_id"),
            kernel_version: text("proc/sys/kernel/osrelease"),
            os_image: os_image(&first(&["etc/os-release", "usr/lib/os-release"])),
            architecture: go_architecture(std::env::consts::ARCH),
            cgroup_v2,
        })
    }

    /// Capacity for pods: at most `max_pods`, and `pods_per_core` for each CPU where that is not 0.
    pub fn capacity(&self, max_pods: u32, pods_per_core: u32) -> Totals {
        let by_cores = i64::from(pods_per_core).saturating_mul(self.cpus);
        let pods = i64::from(max_pods);
        Totals {
            milli_cpu: self.cpus.saturating_mul(1000),
            memory: self.memory,
            ephemeral_storage: self.ephemeral_storage,
            pods: if pods_per_core > 0 { pods.min(by_cores) } else { pods },
        }
    }

    /// What other rooms need to know. `withheld` is what pods don't get: reservations and hard eviction thresholds.
    pub fn facts(&self, name: String, ips: Vec<IpAddr>, capacity: Totals, withheld: Totals) -> NodeFacts {
        let left = |of: i64, less: i64| of.saturating_sub(less).max(0);
        let huge = self.hugepages.values().fold(0i64, |sum, bytes| sum.saturating_add(*bytes));
        let allocatable = Totals {
            milli_cpu: left(capacity.milli_cpu, withheld.milli_cpu),
            memory: left(left(capacity.memory, withheld.memory), huge),
            ephemeral_storage: left(capacity.ephemeral_storage, withheld.ephemeral_storage),
            pods: left(capacity.pods, withheld.pods),
        };
        NodeFacts { name, ips, capacity, allocatable, cgroup_v2: self.cgroup_v2 }
    }
}

/// How many numbers a kernel list such as `0-3,8` has.
fn count_list(list: &str) -> Option<i64> {
    let mut count = 0i64;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (i64, i64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1).filter(|n| *n > 0)?)?;
    }
    Some(count)
}

/// Directories are named `hugepages-2048kB`; `nr_hugepages` is how many pages are set aside.
fn hugepages(dir: &Path) -> BTreeMap<i64, i64> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<i64>().ok()?.checked_mul(1024)?;
        let pages = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse::<i64>().ok()?;
        Some((size, size.checked_mul(pages)?))
    });
    sizes.collect()
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim().trim_matches(['"', '\''])).to_owned()
}

/// Rust's name for an architecture → Go's, which labels and images use.
fn go_architecture(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        same => same, // arm, riscv64, s390x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        for (list, want) in [("0", Some(1)), ("0-3", Some(4)), ("0-1,4,6-7", Some(5)), ("", None), ("3-1", None), ("x", None)] {
            assert_eq!(count_list(list), want, "{list}");
        }
    }

    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = [
            ("proc/sys/kernel/hostname", "Pi-4\n"),
            ("proc/meminfo", "MemTotal:        2000 kB\nMemFree: 5 kB\nSwapTotal:       100 kB\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "2\n"),
            ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
            ("etc/machine-id", "abc\n"),
            ("etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
        ];
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        }
        dir
    }

    #[test]
    fn a_machine_without_firmware_tables_is_read() {
        let dir = host();
        let machine = Machine::read(dir.path(), dir.path()).expect("readable");
        assert_eq!((machine.hostname.as_str(), machine.cpus, machine.memory, machine.swap), ("Pi-4", 4, 2_048_000, 102_400));
        assert_eq!((machine.machine_id.as_str(), machine.system_uuid.as_str()), ("abc", "abc"));
        assert_eq!(machine.os_image, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(machine.hugepages, BTreeMap::from([(2 << 20, 4 << 20), (1 << 30, 0)]));
        assert!(machine.ephemeral_storage > 0 && !machine.cgroup_v2);
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = host();
        fs::write(dir.path().join("proc/meminfo"), "nonsense").expect("file");
        let error = Machine::read(dir.path(), dir.path()).expect_err("no memory").to_string();
        assert!(error.starts_with("the size of the memory can't be read from ") && error.contains("proc/meminfo"), "{error}");
        let error = Machine::read(&host().keep(), Path::new("/nowhere/kubelet")).expect_err("no root directory").to_string();
        assert!(error.contains("/nowhere/kubelet") && error.contains("must exist"), "{error}");
    }

    #[test]
    fn pods_get_what_is_left() {
        let machine = Machine { cpus: 2, memory: 1000, ephemeral_storage: 50, hugepages: BTreeMap::from([(1, 300)]), ..Machine::default() };
        assert_eq!(machine.capacity(110, 0).pods, 110);
        assert_eq!(machine.capacity(110, 10).pods, 20);
        let withheld = Totals { milli_cpu: 500, memory: 100, ephemeral_storage: 60, pods: 0 };
        let facts = machine.facts("n".into(), vec![], machine.capacity(110, 0), withheld);
        assert_eq!(facts.allocatable, Totals { milli_cpu: 1500, memory: 600, ephemeral_storage: 0, pods: 110 });
    }
}
