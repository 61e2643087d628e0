//! One node: a place with its own containerd and an agent, and folders of its own where a real host has `/run`, `/var/lib` and `/var/log`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use tokio::time::{Instant, sleep};

use crate::agent::{self, Agent, NodeFacts, RUNTIME_SOCKET};
use crate::cgroups;
use crate::error::{Doing as _, Error, Result};
use crate::network::NodeNet;
use crate::pki::Pki;
use crate::place::{Place, Scope};
use crate::process::{PATH, Process, Spec};
use crate::tools::Tools;

/// A node of the lab.
#[derive(Debug)]
pub struct Node {
    name: String,
    net: NodeNet,
    folder: PathBuf,
    logs: PathBuf,
    /// Before `place`: processes end before the place does.
    agent: tokio::sync::Mutex<Vec<Process>>,
    agent_specs: std::sync::Mutex<Vec<Spec>>,
    lab: String,
    ca: PathBuf,
    kubeconfig: PathBuf,
    containerd: tokio::sync::Mutex<Option<Process>>,
    containerd_spec: Spec,
    place: Place,
}

/// What all nodes of a lab stand on.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The lab's name.
    pub lab: &'a str,
    /// The lab's folder.
    pub folder: &'a Path,
    /// Where logs go.
    pub logs: &'a Path,
    /// The programs.
    pub tools: &'a Tools,
    /// Who signs.
    pub pki: &'a Pki,
    /// What the nodes run.
    pub agent: &'a Agent,
}

impl Node {
    /// Makes the node's folders, mounts and control groups on a place that is joined to the network already. Starts nothing.
    pub fn new(place: Place, net: NodeNet, ground: &Ground<'_>) -> Result<Self> {
        let Ground { lab, logs, tools, pki, agent, .. } = *ground;
        let name = place.name().to_owned();
        let folder = ground.folder.join(&name);
        for part in ["var-lib/kubelet", "var-log", "cni", "manifests"] {
            let path = folder.join(part);
            std::fs::create_dir_all(&path).doing(|| format!("making {}", path.display()))?;
        }
        cgroups::create(lab, &name)?;
        // No name server answers in the lab, and this one says so at once.
        write(&folder.join("resolv.conf.node"), "nameserver 127.0.0.1\n")?;
        place.enter(Scope::Files, || mounts(&folder))??;
        place.enter(Scope::Files, || settings(&folder))??;
        write(&folder.join("cni/10-lab.conflist"), &net.cni_conflist().to_string())?;
        let containerd_spec = containerd(&name, tools, &folder)?;
        let kubeconfig = pki.kubeconfig(&name, &format!("system:node:{name}"), Some("system:nodes"))?;
        let node = Self {
            name,
            net,
            folder,
            logs: logs.to_owned(),
            agent: Vec::new().into(),
            agent_specs: Vec::new().into(),
            lab: lab.to_owned(),
            ca: pki.path("ca.crt"),
            kubeconfig,
            containerd: None.into(),
            containerd_spec,
            place,
        };
        node.use_agent(agent, tools)?;
        Ok(node)
    }

    /// Chooses the agent that [`Node::start_agent`] starts from now on.
    pub fn use_agent(&self, agent: &Agent, tools: &Tools) -> Result<()> {
        let facts =
            NodeFacts { lab: &self.lab, node: &self.name, net: self.net, folder: &self.folder, ca: &self.ca, kubeconfig: &self.kubeconfig };
        *self.agent_specs.lock().unwrap_or_else(PoisonError::into_inner) = agent::specs(agent, tools, &facts)?;
        Ok(())
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its InternalIPs, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.net.v4().into(), self.net.v6().into()]
    }

    /// The node's folder: configuration files, and `var-lib`, `var-log` as the node sees them at `/var/lib` and `/var/log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the agent's processes are started: a test may start them in another way.
    pub fn agent_specs(&self) -> Vec<Spec> {
        self.agent_specs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The agent's configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.join(agent::CONFIG)
    }

    /// `staticPodPath`.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// Starts containerd and waits until it answers.
    pub async fn start_containerd(&self) -> Result<()> {
        let mut slot = self.containerd.lock().await;
        let process = slot.insert(Process::start(&self.place, &self.logs, &self.containerd_spec)?);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.containerd_answers()? {
            process.check()?;
            if Instant::now() > deadline {
                return Err(Error::Other(format!("containerd on {} did not answer within 30 s", self.name)));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Whether containerd was started and has not ended.
    pub async fn containerd_runs(&self) -> Result<bool> {
        match self.containerd.lock().await.as_mut() {
            Some(process) => Ok(process.ended()?.is_none()),
            None => Ok(false),
        }
    }

    fn containerd_answers(&self) -> Result<bool> {
        self.place.enter(Scope::Files, || std::os::unix::net::UnixStream::connect(RUNTIME_SOCKET).is_ok())
    }

    /// Imports the tests' images.
    pub fn import_images(&self, tools: &Tools) -> Result<()> {
        for image in &tools.images {
            let ctr = tools.containerd.join("ctr");
            let (ctr, image) = (ctr.display().to_string(), image.display().to_string());
            self.place.run(Scope::Processes, &ctr, &["-n", "k8s.io", "images", "import", "--local", &image], "")?;
        }
        Ok(())
    }

    /// Ends containerd as a crash would. Containers and their shims go on.
    pub async fn kill_containerd(&self) -> Result<()> {
        match self.containerd.lock().await.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Starts the agent's processes.
    pub async fn start_agent(&self) -> Result<()> {
        let mut running = self.agent.lock().await;
        for spec in self.agent_specs() {
            running.push(Process::start(&self.place, &self.logs, &spec)?);
        }
        Ok(())
    }

    /// Ends the agent as a crash would.
    pub async fn kill_agent(&self) -> Result<()> {
        for process in self.agent.lock().await.drain(..) {
            process.kill().await?;
        }
        Ok(())
    }

    /// Asks the agent to end.
    pub async fn stop_agent(&self) -> Result<()> {
        for process in self.agent.lock().await.drain(..) {
            process.stop(Duration::from_secs(30)).await?;
        }
        Ok(())
    }

    /// Process ids of the agent, as the host sees them.
    pub async fn agent_pids(&self) -> Vec<u32> {
        self.agent.lock().await.iter().map(Process::pid).collect()
    }

    /// containerd's process id, as the host sees it.
    pub async fn containerd_pid(&self) -> Option<u32> {
        self.containerd.lock().await.as_ref().map(Process::pid)
    }

    /// Ids of containers that containerd knows, sandboxes among them; `filter` is one of ctr's, or empty.
    pub fn containers(&self, tools: &Tools, filter: &str) -> Result<Vec<String>> {
        self.ctr(tools, &["containers", "list", "-q", filter])
    }

    /// Ids of those that live: containerd forgets the task of one that has ended.
    pub fn tasks(&self, tools: &Tools) -> Result<Vec<String>> {
        self.ctr(tools, &["tasks", "list", "-q"])
    }

    /// The words that containerd's own client answers with.
    fn ctr(&self, tools: &Tools, args: &[&str]) -> Result<Vec<String>> {
        let ctr = tools.containerd.join("ctr").display().to_string();
        let args: Vec<&str> = ["-n", "k8s.io"].iter().chain(args).copied().filter(|arg| !arg.is_empty()).collect();
        Ok(self.place.run(Scope::Processes, &ctr, &args, "")?.split_whitespace().map(str::to_owned).collect())
    }

    /// How many processes are in one of the node's control groups, such as `/kubepods/burstable/pod…`, and below it.
    pub fn processes_in(&self, group: &str) -> usize {
        cgroups::processes(&self.lab, &self.name, group)
    }

    /// An error with the end of the log if a part of the node has ended by itself.
    pub async fn check(&self) -> Result<()> {
        self.containerd.lock().await.as_mut().map_or(Ok(()), Process::check)?;
        self.agent.lock().await.iter_mut().try_for_each(Process::check)
    }

    /// The file of containerd's log.
    pub fn containerd_log(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.containerd_spec.name))
    }

    /// The last lines of the agent's log.
    pub fn agent_log(&self, lines: usize) -> String {
        crate::process::tail(&self.logs.join(format!("{}.log", self.name)), lines)
    }
}

/// The node's own `/run`, `/var/lib` and `/var/log`, in its mount namespace only.
fn mounts(folder: &Path) -> Result<()> {
    let none = None::<&str>;
    // The file may be a link to somewhere below /run.
    if let Ok(resolv_conf) = std::fs::canonicalize("/etc/resolv.conf") {
        mount(Some(&folder.join("resolv.conf.node")), &resolv_conf, none, MsFlags::MS_BIND, none).doing(|| "mounting /etc/resolv.conf")?;
    }
    let run = "mode=755".to_owned();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some(run.as_str())).doing(|| "mounting /run")?;
    for (source, target) in [("var-lib", "/var/lib"), ("var-log", "/var/log")] {
        let doing = || format!("mounting {target}");
        mount(Some(&folder.join(source)), target, none, MsFlags::MS_BIND, none).doing(doing)?;
        // A peer group of its own: else each pod's mounts would appear below the folder as well.
        mount(none, target, none, MsFlags::MS_PRIVATE, none).doing(doing)?;
        mount(none, target, none, MsFlags::MS_SHARED, none).doing(doing)?;
    }
    Ok(())
}

/// Settings of the whole machine that upstream's kubelet writes where they differ from what it wants, and the values that it wants.
const KUBELET_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Files of the node's own over these settings: they look right already, and whoever writes them changes nothing outside.
fn settings(folder: &Path) -> Result<()> {
    let own = folder.join("settings");
    std::fs::create_dir_all(&own).doing(|| format!("making {}", own.display()))?;
    for (name, value) in KUBELET_SETTINGS {
        let target = Path::new("/proc/sys").join(name);
        // A kernel may lack one; then there is nothing to write either.
        if target.exists() {
            let file = own.join(name.replace('/', "."));
            write(&file, &format!("{value}\n"))?;
            mount(Some(&file), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).doing(|| format!("mounting {}", target.display()))?;
        }
    }
    Ok(())
}

fn containerd(node: &str, tools: &Tools, folder: &Path) -> Result<Spec> {
    let config = folder.join("containerd.toml");
    let text = format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.differ.v1.erofs"]
[grpc]
  address = "{RUNTIME_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{certs}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "registry.k8s.io/pause:3.10.2"
[plugins."io.containerd.cri.v1.runtime"]
  # Hosts without CAP_SYS_RESOURCE can't lower a score, and runc dies trying.
  restrict_oom_score_adj = true
  # containerd's own sampling of each container's CPU, every second unless told otherwise: by itself 4.7 CPU seconds a minute with 110
  # pods, whatever the agent does. Every ten is what a kubelet's housekeeping (--housekeeping-interval) takes.
  stats_collect_period = "10s"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    # What upstream's suite expects of a cluster that has RuntimeClasses.
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.test-handler]
      runtime_type = "io.containerd.runc.v2"
"#,
        certs = folder.join("certs.d").display(),
        cni = folder.join("cni").display()
    );
    write(&config, &text)?;
    let path = format!("{}:{PATH}", tools.containerd.display());
    Ok(Spec::new(&format!("{node}-containerd"), tools.containerd.join("containerd"), ["-c".into(), config.into_os_string()])
        .env("PATH", path))
}

fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).doing(|| format!("writing {}", path.display()))
}
