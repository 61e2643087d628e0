//! The lab keeps to itself: many run side by side, nothing outside is touched, and nothing is left of one, however it ended.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use integration::demo::UP;
use integration::error::Doing as _;
use integration::{Agent, Error, Lab, Result, leftovers};

/// What a lab must leave alone.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    interfaces: BTreeSet<String>,
    mounts: BTreeSet<String>,
    /// Settings of the whole machine that a kubelet writes.
    settings: Vec<(&'static str, String)>,
    nftables: String,
}

const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

fn host() -> Result<Host> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let rules = Command::new("nft").args(["list", "ruleset"]).output().doing(|| "running nft")?;
    Ok(Host {
        interfaces: read("/proc/self/net/dev").lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect(),
        mounts: read("/proc/self/mounts").lines().map(str::to_owned).collect(),
        settings: SETTINGS.iter().map(|name| (*name, read(&format!("/proc/sys/{name}")))).collect(),
        nftables: String::from_utf8_lossy(&[rules.stdout, rules.stderr].concat()).into_owned(),
    })
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

/// With upstream's agents on one, which change more of a machine than kubelet-rs does.
#[test]
fn two_labs_live_side_by_side_and_leave_nothing() -> Result<()> {
    let before = host()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().doing(|| "starting the runtime")?;
    let folders = runtime.block_on(async {
        let builder = || Lab::builder("side-by-side");
        let (one, two) = tokio::try_join!(builder().agent(Agent::Upstream).start(), builder().start())?;
        assert_ne!(one.folder(), two.folder());
        for (lab, name) in [(&one, "of-one"), (&two, "of-two")] {
            assert!(!processes(lab.folder()).is_empty() && !groups(&id(lab.folder())).is_empty());
            lab.kubectl(&["create", "namespace", name]).await?;
        }
        let seen = one.kubectl(&["get", "namespaces", "-o", "name"]).await?;
        assert!(seen.contains("of-one") && !seen.contains("of-two"), "{seen}");
        // A mount that hides the machine's settings from the node, and not a node that has found nothing to write by chance.
        let hidden = one.on_node(0, "grep", &["-c", " /proc/sys/kernel/panic ", "/proc/self/mounts"])?;
        assert_eq!(hidden.trim(), "1");
        assert_eq!(host()?, before, "something got out");
        Result::Ok([one.folder().to_owned(), two.folder().to_owned()])
    })?;
    for folder in folders {
        nothing_is_left(&folder)?;
    }
    assert_eq!(host()?, before);
    Ok(())
}

/// A process that ends with the test, also when the test fails or is killed.
struct Owner(Child);

impl Owner {
    fn start() -> Result<Self> {
        // setpriv asks the kernel for the signal and then becomes the program.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_lab"), "own", "upstream"]).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().doing(|| "starting an owner").map(Self)
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill().doing(|| "killing the owner")?;
        self.0.wait().doing(|| "waiting for the owner").map(drop)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.kill();
    }
}

#[test]
fn a_killed_owner_takes_its_lab_along() -> Result<()> {
    let mut owner = Owner::start()?;
    let lines: Vec<String> = owner
        .0
        .stdout
        .take()
        .into_iter()
        .flat_map(|stdout| BufReader::new(stdout).lines())
        .map_while(|line| line.ok().filter(|line| line != UP))
        .collect();
    let logs = lines.iter().find_map(|line| line.strip_prefix("Logs:")).map(|path| PathBuf::from(path.trim()));
    let folder = logs.as_deref().and_then(Path::parent).ok_or_else(|| Error::Other(format!("the demo did not come up: {lines:?}")))?;
    assert!(!processes(folder).is_empty() && !groups(&id(folder)).is_empty());
    owner.kill()?;
    nothing_is_left(folder)
}
