//! How soon a pod's events are acted on: from bound to the first call to the runtime, and from a container's end to the status that says so.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Bench;
use super::figures::Series;
use super::pods::Pods;
use crate::error::{Doing as _, Error, Result};
use crate::fixture::pod_is_ready;

/// A program whose process is not named as the sandbox's is.
const IMAGE: &str = "kubelet-rs.io/whoami:1";
/// What its process is called.
const PROCESS: &str = "whoami";

/// Measures one contender.
pub async fn measure(bench: &mut Bench, index: usize, round: usize) -> Result<()> {
    let who = bench.contenders[index].who;
    bench.say(format!("  {}: starting", who.name()));
    bench.contenders[index].start(&bench.lab).await?;
    let mut pods = Pods::open(bench, index).await?;
    // The first pod after an agent's start finds nothing prepared.
    pods.create(&["first".to_owned()]).await?;
    pods.delete(&["first".to_owned()]).await?;
    for n in 0..bench.options.counts.pods {
        let name = format!("life-{round}-{n}");
        let (bound, uid) = bind(&mut pods, &name).await?;
        pods.until(&name, "to be Ready", pod_is_ready).await?;
        let called = first_call(bench, index, &name)?;
        bench.add(Series::FirstCall, who, seconds_between(bound, called));
        // Whatever the start has left to do is not measured.
        sleep(Duration::from_millis(500)).await;
        let process = process_of(&uid)?;
        let killed = Instant::now();
        kill(process, Signal::SIGKILL).doing(|| format!("ending the container of {name}"))?;
        let seen = pods.until(&name, "to show that its container has ended", has_ended).await?;
        bench.add(Series::ExitSeen, who, (seen - killed).as_secs_f64());
        pods.delete(&[name]).await?;
    }
    bench.contenders[index].stop().await
}

/// Creates a pod that restarts nothing; gives when a watching client saw it, and its UID.
async fn bind(pods: &mut Pods, name: &str) -> Result<(SystemTime, String)> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "nodeName": pods.node(),
            "restartPolicy": "Never",
            "containers": [{ "name": "main", "image": IMAGE }],
            "tolerations": [{ "operator": "Exists" }],
        },
    }))
    .map_err(|error| Error::Other(format!("the pod's manifest: {error}")))?;
    let made = pods.api().create(&PostParams::default(), &pod).await.doing(|| "creating a pod")?;
    let seen = pods.until(name, "to be seen", |_| true).await?;
    let bound = SystemTime::now() - seen.elapsed();
    Ok((bound, made.metadata.uid.unwrap_or_default()))
}

fn has_ended(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.flat_map(|status| &status.state).any(|state| state.terminated.is_some())
}

/// When containerd was first asked for the pod's sandbox, by its log.
fn first_call(bench: &Bench, index: usize, name: &str) -> Result<SystemTime> {
    let log = bench.contenders[index].node(&bench.lab).containerd_log();
    let text = std::fs::read_to_string(&log).doing(|| format!("reading {}", log.display()))?;
    let time = text.lines().find(|line| line.contains("RunPodSandbox for") && line.contains(name)).and_then(logged_at);
    time.ok_or_else(|| Error::Other(format!("containerd's log says nothing of a sandbox for {name}")))
}

/// The time of a log line, `time="2026-01-31T10:11:12.123456789Z" level=…`.
fn logged_at(line: &str) -> Option<SystemTime> {
    let (_, rest) = line.split_once("time=\"")?;
    let (text, _) = rest.split_once('"')?;
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

/// Seconds from one to the other, below zero if they are the other way round.
fn seconds_between(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).map_or_else(|before| -before.duration().as_secs_f64(), |after| after.as_secs_f64())
}

/// The process of the pod's container: it is in a control group that carries the pod's UID.
fn process_of(uid: &str) -> Result<Pid> {
    let entries = std::fs::read_dir("/proc").doing(|| "reading /proc")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // Processes come and go while one reads: those that can't be read are not it.
    let text = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let mut found = pids.filter(|pid| text(*pid, "comm").trim() == PROCESS && text(*pid, "cgroup").contains(uid));
    found.next().map(Pid::from_raw).ok_or_else(|| Error::Other(format!("no process {PROCESS} belongs to the pod with UID {uid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_log_line_is_read_to_the_nanosecond() {
        let line = r#"time="1970-01-01T00:00:01.000000005Z" level=info msg="RunPodSandbox for name:\"life-0-1\"""#;
        assert_eq!(logged_at(line), Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_000_005)));
        assert_eq!(logged_at("level=info"), None);
    }

    #[test]
    fn a_time_before_the_other_is_below_zero() {
        let (early, late) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(2));
        assert!((seconds_between(early, late) - 2.0).abs() < 1e-9 && (seconds_between(late, early) + 2.0).abs() < 1e-9);
    }
}
