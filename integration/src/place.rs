//! A place: one machine of the lab, made of namespaces (network, mount, process ids, host name, IPC).
//!
//! Everything that runs on a place lives in its process-id namespace, so the kernel itself ends all of it (agents, containerd,
//! shims, containers) when the first process of the place ends. That first process reads a pipe whose other end the owner
//! holds: when the owner goes, in whatever way, the place goes too.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Doing as _, Error, Result};

/// Namespaces that a thread can enter while its process has other threads.
const THREAD_NAMESPACES: [(&str, CloneFlags); 4] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
];

/// One machine of the lab. Dropped, it ends with everything on it.
#[derive(Debug)]
pub struct Place {
    name: String,
    /// `unshare`, whose only child is the place's first process.
    keeper: Child,
    hold: Option<ChildStdin>,
    first: Pid,
    namespaces: Arc<Namespaces>,
}

#[derive(Debug)]
struct Namespaces {
    thread: Vec<(File, CloneFlags)>,
    pid: File,
}

/// How much of a place a job enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Its network alone: files and process ids are those of the host.
    Network,
    /// All namespaces that hold files and names.
    Files,
    /// Also process ids: what is started belongs to the place and ends with it.
    Processes,
}

impl Place {
    /// Makes the namespaces and the first process in them. `name` becomes the host name.
    pub fn new(name: &str) -> Result<Self> {
        // SIGCHLD ignored by the first process means that the kernel reaps what is orphaned in the place.
        let first_process = "trap '' CHLD; exec cat";
        let mut keeper = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"])
            .args(["sh", "-c", first_process])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .doing(|| "starting unshare")?;
        let hold = keeper.stdin.take();
        let first = first_child(&mut keeper)?;
        let open = |kind: &str| File::open(format!("/proc/{first}/ns/{kind}")).doing(|| format!("opening the {kind} namespace of {name}"));
        let thread = THREAD_NAMESPACES.iter().map(|(kind, flag)| Ok((open(kind)?, *flag))).collect::<Result<Vec<_>>>()?;
        let namespaces = Arc::new(Namespaces { thread, pid: open("pid")? });
        let place = Self { name: name.to_owned(), keeper, hold, first, namespaces };
        let host_name = name.to_owned();
        place.enter(Scope::Files, move || -> Result<()> {
            nix::unistd::sethostname(&host_name).doing(|| "setting the host name")?;
            // As systemd does it on a real host: what a container mounts "bidirectionally" must reach the others.
            nix::mount::mount(None::<&str>, "/", None::<&str>, nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SHARED, None::<&str>)
                .doing(|| "sharing the mounts of the place")
        })??;
        Ok(place)
    }

    /// The place's name, which is also its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first process, as seen from the host: `nsenter -t` takes it.
    pub fn first_pid(&self) -> i32 {
        self.first.as_raw()
    }

    /// Runs a job on a thread of its own inside the place and waits for it.
    pub fn enter<T: Send>(&self, scope: Scope, job: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|threads| {
            let thread = threads.spawn(|| self.namespaces.enter(scope).map(|()| job()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .doing(|| format!("entering {}", self.name))
    }

    /// As [`Place::enter`], for jobs that may block: the caller's task waits, its thread does not.
    pub async fn enter_async<T: Send + 'static>(&self, scope: Scope, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, result) = tokio::sync::oneshot::channel();
        let namespaces = Arc::clone(&self.namespaces);
        std::thread::spawn(move || answer.send(namespaces.enter(scope).map(|()| job())));
        result.await.map_err(|_| Error::Other(format!("a job on {} panicked", self.name)))?.doing(|| format!("entering {}", self.name))
    }

    /// Starts a program on the place. The caller waits for the child.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let shown = format!("starting {} on {}", command.get_program().display(), self.name);
        self.enter(Scope::Processes, || command.spawn())?.doing(|| shown)
    }

    /// Runs a program to its end and gives what it printed on stdout; a failure is an error with both streams.
    /// Under [`Scope::Network`] it sees the host's files and processes.
    pub fn run(&self, scope: Scope, program: &str, args: &[&str], input: &str) -> Result<String> {
        let shown = format!("{program} {} on {}", args.join(" "), self.name);
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.enter(scope, || command.spawn())?.doing(|| shown.clone())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).doing(|| shown.clone())?;
        }
        let output = child.wait_with_output().doing(|| shown.clone())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let both = [output.stdout, output.stderr].concat();
        Err(Error::Program { program: shown, status: output.status, output: String::from_utf8_lossy(&both).trim().to_owned() })
    }

    /// A handle that connects to addresses as seen from the place.
    pub fn connector(&self) -> crate::net::Connector {
        let namespaces = Arc::clone(&self.namespaces);
        crate::net::Connector::new(self.name.clone(), Arc::new(move || namespaces.enter(Scope::Network)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.hold.take());
        let _ = kill(self.first, Signal::SIGKILL);
        let _ = self.keeper.wait();
    }
}

impl Namespaces {
    /// Moves the calling thread; the thread must end afterwards.
    fn enter(&self, scope: Scope) -> std::io::Result<()> {
        if scope != Scope::Network {
            // Threads share root and working directory until they say otherwise; a mount namespace needs its own.
            unshare(CloneFlags::CLONE_FS)?;
        }
        for (file, flag) in &self.thread {
            if scope != Scope::Network || *flag == CloneFlags::CLONE_NEWNET {
                setns(file, *flag)?;
            }
        }
        if scope == Scope::Processes {
            setns(&self.pid, CloneFlags::CLONE_NEWPID)?;
        }
        Ok(())
    }
}

/// Waits until `unshare` has its child and the child is the one that stays (`cat`, not the shell before it).
fn first_child(keeper: &mut Child) -> Result<Pid> {
    let pid = keeper.id();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = keeper.try_wait().doing(|| "waiting for unshare")? {
            let mut output = String::new();
            if let Some(mut stderr) = keeper.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut stderr, &mut output);
            }
            return Err(Error::Program { program: "unshare".into(), status, output });
        }
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let child = children.split_whitespace().next().and_then(|child| child.parse::<i32>().ok());
        if let Some(child) = child
            && std::fs::read_to_string(Path::new("/proc").join(child.to_string()).join("comm")).is_ok_and(|comm| comm.trim() == "cat")
        {
            return Ok(Pid::from_raw(child));
        }
        if Instant::now() > deadline {
            return Err(Error::Other("unshare made no namespaces within 10 s".into()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
