//! The machine that the figures are of, and how busy others keep it.

use std::process::Command;
use std::time::Duration;

use crate::tools::Tools;

/// What a reader must know about the machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// Processor, as /proc/cpuinfo calls it.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: f64,
    /// containerd and its version.
    pub containerd: String,
    /// runc and its version.
    pub runc: String,
    /// First line that `kubelet --version` prints.
    pub kubelet: String,
}

impl Host {
    /// Looks around.
    pub fn look(tools: &Tools) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory.unwrap_or_default() * 1024.0,
            containerd: format!("containerd {}", version(&first_line(tools.containerd.join("containerd").to_str().unwrap_or_default()))),
            runc: format!("runc {}", version(&first_line("runc"))),
            kubelet: first_line(tools.kubernetes("kubelet").to_str().unwrap_or_default()),
        }
    }
}

fn first_line(program: &str) -> String {
    let output = Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}

/// The first word with a number in front, whatever else the line names: `containerd github.com/containerd/containerd/v2 v2.4.2 …`.
fn version(line: &str) -> &str {
    let is_version = |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
    line.split_whitespace().find(is_version).unwrap_or("of an unknown version")
}

/// The share of all processors that is in use during a window, from 0 to 1.
pub async fn busy(window: Duration) -> f64 {
    let read = || times(&std::fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default();
    let (idle, total) = read();
    tokio::time::sleep(window).await;
    let (idle_after, total_after) = read();
    let passed = total_after.saturating_sub(total);
    if passed == 0 { 0.0 } else { 1.0 - idle_after.saturating_sub(idle) as f64 / passed as f64 }
}

/// Idle ticks (idle and iowait) and all ticks of `/proc/stat`.
fn times(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // Guest time, fields 9 and 10, is part of user time already.
    Some((fields.get(3)? + fields.get(4)?, fields.iter().take(8).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say_of_themselves() {
        assert_eq!(version("containerd github.com/containerd/containerd/v2 v2.4.2 "), "v2.4.2");
        assert_eq!(version("runc version 1.1.5+ds1"), "1.1.5+ds1");
        assert_eq!(version(""), "of an unknown version");
    }

    #[test]
    fn waiting_for_disks_is_idle_and_guests_are_not_counted_twice() {
        assert_eq!(times("cpu  1 2 3 40 5 6 7 8 100 100\ncpu0 1\n"), Some((45, 72)));
        assert_eq!(times("intr 5"), None);
    }
}
