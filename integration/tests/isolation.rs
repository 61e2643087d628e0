//! The lab keeps to itself: many run side by side, nothing outside is touched, and nothing is left of one, however it ended.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use integration::demo::UP;
use integration::error::Doing as _;
use integration::{Agent, Error, Lab, Result, leftovers};

/// The host's interfaces and mounts, where those of a lab must not be.
fn host() -> (BTreeSet<String>, BTreeSet<String>) {
    let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    (
        devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect(),
        mounts.lines().map(str::to_owned).collect(),
    )
}

/// Processes that have to do with a lab: its folder is in their command line.
fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(&folder)).collect()
}

/// Control groups of a lab, in all hierarchies.
fn groups(id: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    all.map(|hierarchy| hierarchy.join("kubelet-rs-lab").join(id)).filter(|group| group.exists()).collect()
}

fn id(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn nothing_is_left(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        leftovers::sweep()?;
        let left = (processes(folder), groups(&id(folder)), folder.join("pki").exists() || folder.join("node-1").exists());
        match left {
            (processes, groups, false) if processes.is_empty() && groups.is_empty() => return Ok(()),
            left if Instant::now() > deadline => return Err(Error::Other(format!("left of {}: {left:?}", folder.display()))),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[test]
fn two_labs_live_side_by_side_and_leave_nothing() -> Result<()> {
    let before = host();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().doing(|| "starting the runtime")?;
    let folders = runtime.block_on(async {
        let builder = || Lab::builder("side-by-side").agent(Agent::Upstream).without_agents();
        let (one, two) = tokio::try_join!(builder().start(), builder().start())?;
        assert_ne!(one.folder(), two.folder());
        for (lab, name) in [(&one, "of-one"), (&two, "of-two")] {
            assert!(!processes(lab.folder()).is_empty() && !groups(&id(lab.folder())).is_empty());
            lab.kubectl(&["create", "namespace", name]).await?;
        }
        let seen = one.kubectl(&["get", "namespaces", "-o", "name"]).await?;
        assert!(seen.contains("of-one") && !seen.contains("of-two"), "{seen}");
        assert_eq!(host(), before, "an interface or a mount got out");
        Result::Ok([one.folder().to_owned(), two.folder().to_owned()])
    })?;
    for folder in folders {
        nothing_is_left(&folder)?;
    }
    assert_eq!(host(), before);
    Ok(())
}

#[test]
fn a_killed_owner_takes_its_lab_along() -> Result<()> {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_lab"));
    let mut owner = owner.args(["own", "upstream"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().doing(|| "starting an owner")?;
    let lines: Vec<String> = owner
        .stdout
        .take()
        .into_iter()
        .flat_map(|stdout| BufReader::new(stdout).lines())
        .map_while(|line| line.ok().filter(|line| line != UP))
        .collect();
    let logs = lines.iter().find_map(|line| line.strip_prefix("Logs:")).map(|path| PathBuf::from(path.trim()));
    let folder = logs.as_deref().and_then(Path::parent).ok_or_else(|| Error::Other(format!("the demo did not come up: {lines:?}")))?;
    assert!(!processes(folder).is_empty() && !groups(&id(folder)).is_empty());
    owner.kill().doing(|| "killing the owner")?;
    owner.wait().doing(|| "waiting for the owner")?;
    nothing_is_left(folder)
}
