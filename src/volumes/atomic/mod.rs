//! Writes all files of a volume at once: a reader sees the old set or the new one, never a mixture.
//!
//! In: a [`Payload`]. Out: the directory's new state. Layout, which other agents and programs know:
//! `..2026_01_31_12_00_00.123456789/` holds the files, `..data` is a symlink to it, and each visible name is a symlink to
//! `..data/NAME`. A change is a new directory and one rename of `..data`. Survives a kill at any step: the next write looks at what is
//! there and does the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::fs_group;
use super::payload::{File, Payload};

mod plan;
#[cfg(test)]
mod tests;

use plan::{Entry, Observed, Step};

/// The symlink that names the current set.
pub(super) const DATA: &str = "..data";
/// Its successor, for as long as a change takes.
const DATA_TMP: &str = "..data_tmp";

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}")]
pub(super) struct WriteError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Makes the directory hold the payload and nothing else; does nothing when it does already. Files of the pod's own group are given
/// to `fs_group`.
pub(super) fn write(dir: &Path, payload: &Payload<'_>, fs_group: Option<u32>) -> Result<(), WriteError> {
    let observed = observe(dir, payload).map_err(|source| WriteError { action: "read", path: dir.into(), source })?;
    plan::steps(&observed, payload, fs_group, jiff::Timestamp::now()).iter().try_for_each(|step| run(dir, step))
}

/// Whether a write has succeeded here before.
pub(super) fn is_written(dir: &Path) -> bool {
    fs::metadata(dir.join(DATA)).is_ok()
}

fn observe(dir: &Path, payload: &Payload<'_>) -> io::Result<Observed> {
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A name that is no text is none of ours.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type()?;
        let seen = if kind.is_symlink() {
            Entry::Link(fs::read_link(entry.path())?)
        } else if kind.is_dir() {
            Entry::Dir
        } else {
            Entry::Other
        };
        entries.insert(name, seen);
    }
    let current = plan::current(&entries);
    let equal = current.is_some_and(|set| holds(&dir.join(set), payload).unwrap_or(false));
    Ok(Observed { entries, equal })
}

/// Whether a directory holds exactly these files. Modes and owners follow from the pod's spec, which can't change.
fn holds(set: &Path, payload: &Payload<'_>) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    let mut open = vec![String::new()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(set.join(&dir))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { return Ok(false) };
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            if entry.file_type()?.is_dir() {
                open.push(path);
                continue;
            }
            let Some(file) = payload.get(&path) else { return Ok(false) };
            let same_size = entry.metadata()?.len() == file.data.len() as u64;
            if !same_size || fs::read(entry.path())? != *file.data {
                return Ok(false);
            }
            found.insert(path);
        }
    }
    Ok(found.len() == payload.files().count())
}

fn run(dir: &Path, step: &Step<'_>) -> Result<(), WriteError> {
    let (action, path, result) = match step {
        Step::MakeDir { path } => ("make directory", path.as_str(), make_dir(&dir.join(path))),
        Step::WriteFile { path, file } => ("write", path.as_str(), write_file(&dir.join(path), file)),
        Step::Own { group } => ("give to the pod's fsGroup", "", fs_group::apply(dir, *group, true)),
        Step::Link { name, target } => ("make symlink", name.as_str(), symlink(target, dir.join(name))),
        Step::Switch => ("switch", DATA, fs::rename(dir.join(DATA_TMP), dir.join(DATA))),
        Step::Unlink { name } => ("remove", name.as_str(), fs::remove_file(dir.join(name))),
        Step::RemoveDir { name } => ("remove", name.as_str(), fs::remove_dir_all(dir.join(name))),
    };
    result.map_err(|source| WriteError { action, path: dir.join(path), source })
}

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    // Whatever the agent's umask is, other users must get through.
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn write_file(path: &Path, file: &File<'_>) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    out.write_all(&file.data)?;
    if let Some(owner) = file.owner {
        chown(path, Some(owner), None)?;
    }
    out.set_permissions(Permissions::from_mode(file.mode))
}
