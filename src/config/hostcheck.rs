//! Start-up checks of the host: may the agent run here at all?
//!
//! [`read`] gathers facts, [`check`] decides, so that each refusal can be tested on any machine.

use std::path::Path;

use super::KubeletConfiguration;
use crate::resources::{CgroupVersion, detect};

/// Facts about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Effective user id of this process.
    pub uid: u32,
    /// Version of the cgroup hierarchy that has the resource controllers.
    pub cgroup: CgroupVersion,
    /// Names of the controllers that are switched on.
    pub controllers: Vec<String>,
    /// Devices and files that are swapped to.
    pub swaps: Vec<String>,
}

/// Reads the facts. What can't be read counts as absent.
pub fn read() -> Host {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cgroup = detect(Path::new("/sys/fs/cgroup"));
    let controllers = match cgroup {
        CgroupVersion::V2 => words(&file("/sys/fs/cgroup/cgroup.controllers")),
        CgroupVersion::V1 => v1_controllers(&file("/proc/cgroups")),
    };
    Host { uid: nix::unistd::geteuid().as_raw(), cgroup, controllers, swaps: swaps(&file("/proc/swaps")) }
}

/// Decides. `Err` holds everything that forbids to start, `Ok` what should be said in the log; each line says what to do.
pub fn check(host: &Host, config: &KubeletConfiguration) -> Result<Vec<String>, Vec<String>> {
    let mut refusals = Vec::new();
    let mut warnings = Vec::new();
    if host.uid != 0 {
        refusals.push(format!("must run as root, runs as user {}; start it with sudo or as a systemd service", host.uid));
    }
    if host.cgroup == CgroupVersion::V1 {
        let fact =
            "this host uses cgroup v1, which upstream no longer supports; boot with systemd.unified_cgroup_hierarchy=1 to get cgroup v2";
        if config.fail_cgroup_v1 {
            refusals.push(format!("{fact}, or set failCgroupV1: false to run all the same"));
        } else {
            warnings.push(fact.to_owned());
        }
        if config.single_process_oom_kill == Some(false) {
            refusals.push("singleProcessOOMKill: false needs cgroup v2; leave it out on this host".to_owned());
        }
    }
    if !host.swaps.is_empty() {
        let list = host.swaps.join(", ");
        if config.fail_swap_on {
            refusals.push(format!("swap is on ({list}); switch it off with swapoff -a, or set failSwapOn: false to run with it"));
        } else {
            warnings.push(format!("swap is on ({list}); secrets in memory-backed volumes may reach the disk"));
        }
    }
    for controller in ["memory", "cpu", "cpuset"] {
        if !host.controllers.iter().any(|name| name == controller) {
            let hint =
                if controller == "memory" { "; add cgroup_enable=memory to the kernel command line" } else { "; use a kernel that has it" };
            refusals.push(format!("the kernel's {controller} cgroup controller is off{hint}"));
        }
    }
    if refusals.is_empty() { Ok(warnings) } else { Err(refusals) }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Controllers of `/proc/cgroups` whose last column is 1.
fn v1_controllers(text: &str) -> Vec<String> {
    let enabled = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        matches!(columns.as_slice(), [_, _, _, "1"]).then(|| columns.first().map(ToString::to_string)).flatten()
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(enabled).collect()
}

/// First column of `/proc/swaps` below its header.
fn swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn good() -> Host {
        Host { uid: 0, cgroup: CgroupVersion::V2, controllers: words("cpuset cpu io memory pids"), swaps: vec![] }
    }

    #[test]
    fn a_good_host_is_accepted_in_silence() {
        assert_eq!(check(&good(), &Config::default().kubelet), Ok(vec![]));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let host = Host { uid: 1000, cgroup: CgroupVersion::V1, controllers: words("cpu cpuset"), swaps: words("/dev/zram0") };
        let refusals = check(&host, &Config::default().kubelet).expect_err("refused");
        let all = refusals.join("\n");
        for hint in ["sudo", "failCgroupV1: false", "failSwapOn: false", "cgroup_enable=memory"] {
            assert!(all.contains(hint), "{hint} in {all}");
        }
        assert_eq!(refusals.len(), 4);
    }

    #[test]
    fn what_is_allowed_only_warns() {
        let mut config = Config::default().kubelet;
        config.fail_cgroup_v1 = false;
        config.fail_swap_on = false;
        let host = Host { cgroup: CgroupVersion::V1, swaps: words("/swapfile"), ..good() };
        assert_eq!(check(&host, &config).map(|warnings| warnings.len()), Ok(2));
        config.single_process_oom_kill = Some(false);
        assert!(check(&host, &config).is_err());
    }

    #[test]
    fn proc_files() {
        assert_eq!(v1_controllers("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t10\t1\nmemory\t0\t1\t0\nbad line\n"), ["cpu"]);
        assert_eq!(swaps("Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1 0 100\n"), ["/dev/zram0"]);
        assert!(swaps("Filename\tType\n").is_empty());
        assert!(swaps("").is_empty());
    }
}
