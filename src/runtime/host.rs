//! What the host's /sys tells that container configs depend on. Read once, at start.

use std::path::Path;

/// Traits of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTraits {
    /// Directories of CPUs that tell how often they were too hot. Containers don't see them, because they show one pod what its
    /// neighbours do; the list of other masked paths is in `translate::security`.
    pub thermal_throttle: Vec<String>,
    /// Sizes of huge pages that the kernel offers, in bytes.
    pub huge_page_sizes: Vec<u64>,
    /// Whether the kernel limits swap per cgroup.
    pub swap_controller: bool,
}

impl HostTraits {
    /// Reads them. What can't be read is taken as not there.
    pub fn read(root: &Path, cgroup_v2: bool) -> Self {
        let names = |dir: &str| -> Vec<String> {
            let entries = std::fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
            let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
            names.sort_unstable();
            names
        };
        let is_cpu = |n: &String| n.strip_prefix("cpu").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let throttle = |cpu: String| format!("/sys/devices/system/cpu/{cpu}/thermal_throttle");
        let exists = |path: &String| root.join(path.trim_start_matches('/')).exists();
        let kilobytes = |n: String| n.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?.checked_mul(1024);
        let swap = if cgroup_v2 { own_cgroup_swap(root) } else { "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes".into() };
        Self {
            thermal_throttle: names("sys/devices/system/cpu").into_iter().filter(is_cpu).map(throttle).filter(exists).collect(),
            huge_page_sizes: names("sys/kernel/mm/hugepages").into_iter().filter_map(kilobytes).collect(),
            swap_controller: root.join(swap).exists(),
        }
    }
}

/// The root cgroup has no `memory.swap.max`, so the agent's own cgroup is looked at.
fn own_cgroup_swap(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let own = text.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or_default();
    format!("sys/fs/cgroup/{}/memory.swap.max", own.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traits_of_a_made_up_host() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "0::/system.slice/agent.service\n").unwrap();
        };
        file("sys/devices/system/cpu/cpu0/thermal_throttle/count");
        file("sys/devices/system/cpu/cpu1/online");
        file("sys/devices/system/cpu/cpufreq/thermal_throttle/count");
        file("sys/kernel/mm/hugepages/hugepages-2048kB/free");
        file("sys/kernel/mm/hugepages/hugepages-xkB/free");
        file("proc/self/cgroup");
        file("sys/fs/cgroup/system.slice/agent.service/memory.swap.max");
        let want = HostTraits {
            thermal_throttle: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
            huge_page_sizes: vec![2 << 20],
            swap_controller: true,
        };
        assert_eq!(HostTraits::read(root.path(), true), want);
        assert_eq!(HostTraits::read(root.path(), false), HostTraits { swap_controller: false, ..want });
        assert_eq!(HostTraits::read(&root.path().join("none"), true), HostTraits::default());
    }
}
