//! What processes use: memory and CPU, as the kernel counts them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::bench::report::Figures;
use crate::error::{Doing as _, Error, Result};
use crate::node::Node;

/// Resident memory of the agent's processes together, under the name of a scene.
pub async fn memory(node: &Node, scene: &str, figures: &mut Figures) -> Result<()> {
    let (mut rss, mut hwm, mut pss) = (0, 0, 0);
    for pid in node.agent_pids().await {
        let process = PathBuf::from(format!("/proc/{pid}"));
        rss += kilobytes(&process.join("status"), "VmRSS:")?;
        hwm += kilobytes(&process.join("status"), "VmHWM:")?;
        pss += kilobytes(&process.join("smaps_rollup"), "Pss:")?;
    }
    figures.bytes(&format!("rss_{scene}"), rss * 1024);
    figures.bytes(&format!("hwm_{scene}"), hwm * 1024);
    figures.bytes(&format!("pss_{scene}"), pss * 1024);
    Ok(())
}

/// CPU time of the agent and of containerd while nothing happens, as seconds in 60.
pub async fn at_rest(node: &Node, time: Duration, figures: &mut Figures) -> Result<()> {
    let containerd: Vec<u32> = node.containerd_pid().await.into_iter().collect();
    let agent = node.agent_pids().await;
    let before = (cpu(&agent)?, cpu(&containerd)?);
    sleep(time).await;
    let in_a_minute = |used: Duration| used.mul_f64(60.0 / time.as_secs_f64());
    figures.time("cpu_agent", in_a_minute(cpu(&agent)?.saturating_sub(before.0)));
    figures.time("cpu_containerd", in_a_minute(cpu(&containerd)?.saturating_sub(before.1)));
    Ok(())
}

/// CPU time of processes since they started, with that of children they have waited for. Exact to the microsecond for the
/// processes themselves; children are counted in ticks of 10 ms.
pub fn cpu(pids: &[u32]) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in pids {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).doing(|| format!("reading the threads of {pid}"))?;
        // A thread that ends takes its count along, but Go keeps its threads and the agent has few.
        for task in tasks.flatten() {
            let line = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            total += Duration::from_nanos(line.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0));
        }
        total += children(*pid);
    }
    Ok(total)
}

/// `cutime` and `cstime` of proc(5).
fn children(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields.get(13..15).unwrap_or_default().iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn kilobytes(file: &Path, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).doing(|| format!("reading {}", file.display()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| Error::Other(format!("{} has no {name}", file.display())))
}
