//! Keeps log files from growing without end: renames a file that is too big and makes the runtime begin a new one.
//!
//! Names are upstream's (`<log>.YYYYMMDD-HHMMSS`), and files that upstream has compressed (`.gz`) count as old ones. This
//! agent compresses none.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::ContainerId;
use crate::runtime::{self, Runtime};

/// When a log is rotated and what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// `containerLogMaxSize` in bytes.
    pub max_size: u64,
    /// `containerLogMaxFiles`: files a container, the one being written included.
    pub max_files: usize,
    /// `containerLogMonitorInterval`.
    pub interval: Duration,
}

/// A running container and where its log is.
pub type RunningLog = (ContainerId, PathBuf);

/// Why a log could not be rotated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files could not be listed, removed or renamed.
    #[error("rotate {}: {source}", log.display())]
    Files {
        /// The log.
        log: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The runtime did not open the new file.
    #[error("rotate {}: {source}", log.display())]
    Reopen {
        /// The log.
        log: PathBuf,
        /// The runtime's reason.
        source: runtime::Error,
    },
}

/// Rotates logs for ever. `running` is asked once an interval. At idle it costs one `stat` a container and interval.
pub async fn run(runtime: Arc<dyn Runtime>, policy: Policy, running: impl Fn() -> Vec<RunningLog> + Send) {
    // Said once and not every interval, for each log that fails.
    let mut said: HashMap<ContainerId, String> = HashMap::new();
    loop {
        tokio::time::sleep(policy.interval).await;
        let logs = running();
        said.retain(|id, _| logs.iter().any(|(running, _)| running == id));
        for (id, log, need) in look(logs, policy.max_size).await {
            match act(runtime.reopen_log(&id), &log, need, policy.max_files).await {
                Ok(()) => drop(said.remove(&id)),
                Err(error) => {
                    let error = error.to_string();
                    if said.get(&id) != Some(&error) {
                        tracing::warn!(container = %id, %error, "can't rotate a container's log, trying again");
                        said.insert(id, error);
                    }
                }
            }
        }
    }
}

/// What a log needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It has grown too big.
    Rotation,
    /// There is no file: the agent was killed after it had renamed it, and the runtime writes to the renamed one.
    NewFile,
}

async fn look(logs: Vec<RunningLog>, max_size: u64) -> Vec<(ContainerId, PathBuf, Need)> {
    let look = move || {
        let need = |log: &Path| match std::fs::metadata(log) {
            Ok(meta) => (meta.len() >= max_size).then_some(Need::Rotation),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some(Need::NewFile),
            Err(_) => None,
        };
        logs.into_iter().filter_map(|(id, log)| need(&log).map(|need| (id, log, need))).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

async fn act(reopen: impl Future<Output = runtime::Result<()>>, log: &Path, need: Need, max_files: usize) -> Result<(), Error> {
    let files = |source| Error::Files { log: log.into(), source };
    let renamed = match need {
        Need::NewFile => None,
        Need::Rotation => {
            let (log, now) = (log.to_owned(), Timestamp::now());
            let moved = tokio::task::spawn_blocking(move || move_away(&log, max_files, now)).await;
            Some(moved.map_err(io::Error::other).flatten().map_err(files)?)
        }
    };
    let Err(source) = reopen.await else {
        return Ok(());
    };
    // The runtime goes on writing to the renamed file: give it back its name, unless a new file was made all the same.
    if let Some(renamed) = renamed.filter(|_| !log.exists()) {
        std::fs::rename(renamed, log).map_err(files)?;
    }
    Err(Error::Reopen { log: log.into(), source })
}

fn move_away(log: &Path, max_files: usize, now: Timestamp) -> io::Result<PathBuf> {
    let plan = plan(siblings(log)?, log, max_files, now);
    for file in plan.remove {
        std::fs::remove_file(file)?;
    }
    if plan.rename_to.exists() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it was rotated less than a second ago"));
    }
    std::fs::rename(log, &plan.rename_to)?;
    Ok(plan.rename_to)
}

/// The files that `log` was rotated to, oldest first.
pub fn rotated_from(log: &Path) -> io::Result<Vec<PathBuf>> {
    let siblings = siblings(log)?;
    Ok(siblings.iter().filter(|f| in_use(f, &siblings)).cloned().collect())
}

/// Everything named `<log>.…`, sorted: the names hold the time.
fn siblings(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else {
        return Ok(Vec::new());
    };
    let mut prefix = name.as_encoded_bytes().to_vec();
    prefix.push(b'.');
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file is not a left-over of a compression that was cut short: unfinished, or finished but not yet cleaned up after.
fn in_use(file: &Path, siblings: &[PathBuf]) -> bool {
    let mut compressed = file.as_os_str().to_owned();
    compressed.push(".gz");
    match file.extension() {
        Some(e) if e == "tmp" => false,
        Some(e) if e == "gz" => true,
        _ => !siblings.iter().any(|s| s.as_os_str() == compressed),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    remove: Vec<PathBuf>,
    rename_to: PathBuf,
}

/// Left-overs go, and the oldest files, until with the renamed and the new file there are `max_files`.
fn plan(siblings: Vec<PathBuf>, log: &Path, max_files: usize, now: Timestamp) -> Plan {
    let (used, mut remove): (Vec<_>, Vec<_>) = siblings.iter().cloned().partition(|f| in_use(f, &siblings));
    let excess = used.len().saturating_sub(max_files.saturating_sub(2));
    remove.extend(used.into_iter().take(excess));
    let mut rename_to = log.as_os_str().to_owned();
    rename_to.push(format!(".{}", now.strftime("%Y%m%d-%H%M%S")));
    Plan { remove, rename_to: rename_to.into() }
}

#[cfg(test)]
mod tests;
