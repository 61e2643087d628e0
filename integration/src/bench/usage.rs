//! What processes take: memory and CPU, from /proc.

use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string};
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::error::{Doing as _, Error, Result};

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// VmRSS.
    pub resident: u64,
    /// VmHWM.
    pub peak: u64,
    /// Pss of smaps_rollup.
    pub share: u64,
}

impl Memory {
    /// Of one process, now.
    pub fn of(pid: u32) -> Result<Self> {
        let status = read(&format!("/proc/{pid}/status"))?;
        let rollup = read(&format!("/proc/{pid}/smaps_rollup"))?;
        let field = |text: &str, name: &str| {
            kilobytes(text, name)
                .ok_or_else(|| Error::Other(format!("process {pid} has no {name}: it has ended, or is no process of its own")))
        };
        Ok(Self { resident: field(&status, "VmRSS")?, peak: field(&status, "VmHWM")?, share: field(&rollup, "Pss")? })
    }
}

/// The CPU time that processes take, to the nanosecond: what the scheduler counted for each of their threads. Children that they
/// have waited for are in it too, to a hundredth of a second. What a thread takes between the last look and its end is lost.
#[derive(Debug)]
pub struct CpuMeter {
    pids: Vec<u32>,
    threads: BTreeMap<(u32, u32), Duration>,
    ended: Duration,
}

impl CpuMeter {
    /// A meter of these processes.
    pub fn new(pids: Vec<u32>) -> Self {
        Self { pids, threads: BTreeMap::new(), ended: Duration::ZERO }
    }

    /// What they have taken so far: only differences count.
    pub fn read(&mut self) -> Result<Duration> {
        let mut threads = BTreeMap::new();
        let mut children = Duration::ZERO;
        for pid in &self.pids {
            let tasks = format!("/proc/{pid}/task");
            for entry in read_dir(&tasks).doing(|| format!("reading {tasks}"))?.flatten() {
                let thread = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
                // A thread may end between the listing and this line.
                let text = read_to_string(entry.path().join("schedstat")).unwrap_or_default();
                if let (Some(thread), Some(taken)) = (thread, on_cpu(&text)) {
                    threads.insert((*pid, thread), taken);
                }
            }
            let ticks = children_ticks(&read(&format!("/proc/{pid}/stat"))?)
                .ok_or_else(|| Error::Other(format!("/proc/{pid}/stat has no times of children")))?;
            children += Duration::from_secs_f64(ticks as f64 / ticks_per_second());
        }
        self.ended += self.threads.iter().filter(|(thread, _)| !threads.contains_key(thread)).map(|(_, taken)| *taken).sum::<Duration>();
        self.threads = threads;
        Ok(self.threads.values().sum::<Duration>() + self.ended + children)
    }

    /// What they take while `window` passes.
    pub async fn during(&mut self, window: Duration) -> Result<Duration> {
        let before = self.read()?;
        let end = tokio::time::Instant::now() + window;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep_until(end.min(tokio::time::Instant::now() + Duration::from_secs(2))).await;
            self.read()?;
        }
        Ok(self.read()?.saturating_sub(before))
    }
}

fn read(path: &str) -> Result<String> {
    read_to_string(path).doing(|| format!("reading {path}"))
}

fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

/// `Name:   1234 kB` in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The first number of schedstat: nanoseconds on a CPU.
fn on_cpu(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// cutime and cstime of `/proc/PID/stat`, fields 16 and 17. The second field, the name, may hold anything.
fn children_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 100 200 30 4 20 0 1 0 5 6";
        assert_eq!(children_ticks(stat), Some(34));
        assert_eq!(children_ticks("12 (a) S 1"), None);
    }

    #[test]
    fn sizes_are_bytes() {
        assert_eq!(kilobytes("VmHWM:\t  300 kB\nVmRSS:\t    128 kB\n", "VmRSS"), Some(128 * 1024));
        assert_eq!(kilobytes("VmRSSx: 1 kB\n", "VmRSS"), None);
    }

    #[tokio::test]
    async fn this_process_takes_memory_and_cpu() {
        let pid = std::process::id();
        assert!(Memory::of(pid).unwrap().resident > 100_000);
        let mut meter = CpuMeter::new(vec![pid]);
        let before = meter.read().unwrap();
        let start = tokio::time::Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(meter.read().unwrap() - before > Duration::from_millis(5), "a busy loop of 50 ms takes CPU");
    }
}
