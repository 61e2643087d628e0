//! Which steps lead from what is in the directory to the payload. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{DATA, DATA_TMP};
use crate::volumes::payload::{File, Payload};

/// What a name in the directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A symlink with its target.
    Link(PathBuf),
    /// A directory.
    Dir,
    /// Anything else.
    Other,
}

/// What is in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    /// All names in it.
    pub(super) entries: BTreeMap<String, Entry>,
    /// The current set holds exactly the payload.
    pub(super) equal: bool,
}

/// One thing to do. Paths are relative to the volume's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step<'p> {
    /// Makes a directory, mode 0755.
    MakeDir { path: String },
    /// Writes a file that is not there yet.
    WriteFile { path: String, file: &'p File<'p> },
    /// Gives everything to the group, before anybody can see it.
    Own { group: u32 },
    /// Makes a symlink.
    Link { name: String, target: PathBuf },
    /// Renames the new symlink over the current one: the one step that readers notice.
    Switch,
    /// Removes a file or symlink.
    Unlink { name: String },
    /// Removes a directory with all in it.
    RemoveDir { name: String },
}

/// The directory that `..data` names.
pub(super) fn current(entries: &BTreeMap<String, Entry>) -> Option<&str> {
    let Some(Entry::Link(target)) = entries.get(DATA) else { return None };
    let name = target.to_str().filter(|t| is_set(t))?;
    entries.get(name).filter(|e| **e == Entry::Dir).map(|_| name)
}

/// The steps, in order. Ending after any of them leaves a state from which this function finds the rest.
pub(super) fn steps<'p>(observed: &Observed, payload: &'p Payload<'p>, fs_group: Option<u32>, now: jiff::Timestamp) -> Vec<Step<'p>> {
    let mut steps = Vec::new();
    if observed.entries.contains_key(DATA_TMP) {
        steps.push(Step::Unlink { name: DATA_TMP.to_owned() });
    }
    let kept = if observed.equal { current(&observed.entries).map(str::to_owned) } else { None };
    if kept.is_none() {
        let set = fresh_name(&observed.entries, now);
        write_set(&mut steps, &set, payload);
        steps.extend(fs_group.map(|group| Step::Own { group }));
        steps.push(Step::Link { name: DATA_TMP.to_owned(), target: PathBuf::from(set) });
        steps.push(Step::Switch);
    }
    visible_names(&mut steps, observed, payload);
    let old = observed.entries.iter().filter(|(name, e)| **e == Entry::Dir && is_set(name) && Some(*name) != kept.as_ref());
    steps.extend(old.map(|(name, _)| Step::RemoveDir { name: name.clone() }));
    steps
}

fn write_set<'p>(steps: &mut Vec<Step<'p>>, set: &str, payload: &'p Payload<'p>) {
    steps.push(Step::MakeDir { path: set.to_owned() });
    let mut made = BTreeSet::new();
    for (path, file) in payload.files() {
        let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        for parent in parents.filter(|p| made.insert((*p).to_owned())) {
            steps.push(Step::MakeDir { path: format!("{set}/{parent}") });
        }
        steps.push(Step::WriteFile { path: format!("{set}/{path}"), file });
    }
}

/// Symlinks for new names, and an end to those whose files are gone. What is no symlink of ours (the mount point of another volume,
/// say) stays.
fn visible_names(steps: &mut Vec<Step<'_>>, observed: &Observed, payload: &Payload<'_>) {
    let wanted: BTreeSet<&str> = payload.files().filter_map(|(path, _)| path.split('/').next()).collect();
    let target = |name: &str| Path::new(DATA).join(name);
    for name in wanted.iter().filter(|n| !observed.entries.contains_key(**n)) {
        steps.push(Step::Link { name: (*name).to_owned(), target: target(name) });
    }
    for (name, entry) in &observed.entries {
        if *entry == Entry::Link(target(name)) && !wanted.contains(name.as_str()) {
            steps.push(Step::Unlink { name: name.clone() });
        }
    }
}

/// Whether a name is one that [`fresh_name`] makes, or another agent's function like it.
fn is_set(name: &str) -> bool {
    let digits_at = |range: std::ops::Range<usize>| name.get(range).is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
    name.starts_with("..") && digits_at(2..6) && !name.contains('/')
}

/// `..YYYY_MM_DD_HH_MM_SS.NNN`: a name that sorts by time and is not taken.
fn fresh_name(taken: &BTreeMap<String, Entry>, now: jiff::Timestamp) -> String {
    let time = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let names = (now.subsec_nanosecond().unsigned_abs()..).map(|n| format!("{time}.{n}"));
    let mut free = names.filter(|n| !taken.contains_key(n));
    free.next().unwrap_or(time)
}
