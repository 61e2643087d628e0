//! One long-running part of the lab: started on a place, logged to a file, ended and started again at will.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::error::{Doing as _, Error, Result};
use crate::place::Place;

/// Where programs are found on a place.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How to start a part.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Short name: the log's file name, and what errors call it.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub env: Vec<(String, OsString)>,
}

impl Spec {
    /// A part without extra environment.
    pub fn new<S: Into<OsString>>(name: &str, program: impl Into<PathBuf>, args: impl IntoIterator<Item = S>) -> Self {
        Self { name: name.to_owned(), program: program.into(), args: args.into_iter().map(Into::into).collect(), env: Vec::new() }
    }

    /// Adds one environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }
}

/// A part that was started. Its place ends it at the latest.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a part; its output goes to `logs`/name.log, after what an earlier run left there.
    pub fn start(place: &Place, logs: &Path, spec: &Spec) -> Result<Self> {
        let log = logs.join(format!("{}.log", spec.name));
        let open = || OpenOptions::new().create(true).append(true).open(&log).doing(|| format!("opening {}", log.display()));
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            // A proxy or a Go setting of the person's shell is none of the lab's business.
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            // Ctrl-C is for the owner, which then ends its places.
            .process_group(0);
        Ok(Self { name: spec.name.clone(), child: place.spawn(&mut command)?, log })
    }

    /// Its process id, as seen from the host.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().doing(|| format!("asking for {}", self.name))
    }

    /// An error with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(Error::Ended { name: self.name.clone(), status, tail: tail(&self.log, 20) }),
        }
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(10)).await.map(drop)
    }

    /// Asks it to end, and insists after `patience`.
    pub async fn stop(mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        if self.wait(patience).await.is_ok() {
            return Ok(());
        }
        self.kill().await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).doing(|| format!("sending {signal} to {}", self.name))
    }

    /// Waits until it has ended.
    pub async fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(Error::Other(format!("{} has not ended after {patience:?}", self.name)));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that nobody waits for would keep its place from ending.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let content = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let all: Vec<&str> = content.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
