//! Manifests in a folder, or one file (upstream: `config/file.go`, `file_linux.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Source, manifest};
use crate::sys::inotify::{Change, DirWatch};

/// Greater files are no manifests.
const GREATEST: u64 = 10 << 20;
/// How long a folder must be quiet before it is read: editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// Looks, tells what is there, and looks again after each change, and at intervals. Ends when nobody listens.
pub async fn run(path: PathBuf, node: String, every: Duration, pods: mpsc::Sender<Vec<Pod>>) {
    let mut good = Good::default();
    let mut told: Option<Vec<String>> = None;
    loop {
        // The watch first, so that nothing happens between it and the look.
        let mut watch = watch(&path);
        let (dir, name) = (path.clone(), node.clone());
        let read = tokio::task::spawn_blocking(move || {
            good.read(&dir, &name);
            good
        });
        good = match read.await {
            Ok(good) => good,
            Err(error) => {
                tracing::error!(%error, "Reading static pods ended by a fault of its own");
                Good::default()
            }
        };
        if tell(&good, &mut told, &pods).await.is_err() {
            return;
        }
        let mut unlinked = BTreeSet::new();
        tokio::select! {
            () = sleep(every) => {}
            names = changed(watch.as_mut()) => {
                unlinked.extend(names);
                while let Ok(names) = tokio::time::timeout(QUIET, changed(watch.as_mut())).await {
                    unlinked.extend(names);
                }
            }
        }
        good.forget(&unlinked);
        if tell(&good, &mut told, &pods).await.is_err() {
            return;
        }
    }
}

/// Tells what there is, if it is not what was told last. An error: nobody listens.
async fn tell(good: &Good, told: &mut Option<Vec<String>>, pods: &mpsc::Sender<Vec<Pod>>) -> Result<(), ()> {
    let found = good.pods();
    let uids: Vec<String> = found.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
    if told.as_ref() == Some(&uids) {
        return Ok(());
    }
    *told = Some(uids);
    pods.send(found).await.map_err(drop)
}

fn watch(path: &Path) -> Option<DirWatch> {
    let dir = if path.is_dir() { path } else { path.parent()? };
    let changes = Change::IN_CREATE | Change::IN_CLOSE_WRITE | Change::IN_MODIFY | Change::IN_ATTRIB | Change::IN_MOVE | Change::IN_DELETE;
    // A folder that is not there yet is looked for at intervals.
    DirWatch::new(dir, changes | Change::IN_DELETE_SELF | Change::IN_MOVE_SELF).ok()
}

/// Waits for a change, and gives the names of files that were unlinked. One that was renamed is not: so editors put the old version aside.
async fn changed(watch: Option<&mut DirWatch>) -> Vec<OsString> {
    let Some(watch) = watch else { return std::future::pending().await };
    match watch.next().await {
        Ok(events) => events.into_iter().filter(|event| event.change.contains(Change::IN_DELETE)).filter_map(|event| event.name).collect(),
        // What can't be watched is looked at at intervals.
        Err(_) => std::future::pending().await,
    }
}

/// The last good content of each file. One that can't be read any more, such as in the middle of an edit, keeps its pod until the file is
/// gone or says something else.
#[derive(Default)]
struct Good {
    files: BTreeMap<PathBuf, Vec<Pod>>,
    complaints: BTreeMap<PathBuf, String>,
}

impl Good {
    fn read(&mut self, path: &Path, node: &str) {
        let files = match list(path) {
            Ok(files) => files,
            Err(error) => return self.complain(path, format!("can't be listed: {error}")),
        };
        self.files.retain(|file, _| files.contains(file));
        self.complaints.retain(|file, _| files.contains(file));
        for file in files {
            match content(&file).and_then(|text| manifest::read(&text, Source::File, &file.to_string_lossy(), node)) {
                Ok(pods) => {
                    self.complaints.remove(&file);
                    self.files.insert(file, pods);
                }
                Err(error) => self.complain(&file, error),
            }
        }
    }

    /// A manifest that was unlinked was taken away, also if there is one of its name again by now: its pod ends first, and starts anew.
    fn forget(&mut self, unlinked: &BTreeSet<OsString>) {
        self.files.retain(|file, _| file.file_name().is_none_or(|name| !unlinked.contains(name)));
    }

    /// Once for each new complaint.
    fn complain(&mut self, file: &Path, error: String) {
        if self.complaints.get(file) != Some(&error) {
            tracing::error!(file = %file.display(), %error, "Can't use this manifest of a static pod; what it said before stays");
            self.complaints.insert(file.to_owned(), error);
        }
    }

    fn pods(&self) -> Vec<Pod> {
        self.files.values().flatten().cloned().collect()
    }
}

/// The files that may be manifests, in order. A path that is not there holds none.
fn list(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let hidden = |path: &PathBuf| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| !hidden(path) && path.is_file()).collect();
    files.sort();
    Ok(files)
}

fn content(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = file.take(GREATEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > GREATEST { Err("it is greater than 10 MB".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(image: &str) -> String {
        format!("kind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: a, image: '{image}'}}]}}\n")
    }

    async fn images(deliveries: &mut mpsc::Receiver<Vec<Pod>>) -> Vec<String> {
        let pods = tokio::time::timeout(Duration::from_secs(5), deliveries.recv()).await.unwrap().unwrap();
        pods.iter().filter_map(|p| p.spec.as_ref()?.containers[0].image.clone()).collect()
    }

    #[tokio::test]
    async fn a_folder_is_followed_and_a_broken_file_keeps_its_pod() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifests");
        let (sender, mut deliveries) = mpsc::channel(1);
        tokio::spawn(run(path.clone(), "n".into(), Duration::from_millis(200), sender));
        assert_eq!(images(&mut deliveries).await, [""; 0], "a folder that is not there holds nothing");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(".hidden"), manifest("h:1")).unwrap();
        std::fs::write(path.join("web.yaml"), manifest("a:1")).unwrap();
        assert_eq!(images(&mut deliveries).await, ["a:1"]);
        std::fs::write(path.join("web.yaml"), "kind: [").unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // As editors save: beside, then renamed.
        std::fs::write(path.join(".web.yaml.swp"), manifest("a:2")).unwrap();
        std::fs::rename(path.join(".web.yaml.swp"), path.join("web.yaml")).unwrap();
        assert_eq!(images(&mut deliveries).await, ["a:2"], "nothing was told in between");
        // Others put the old version aside, and unlink it at last.
        std::fs::rename(path.join("web.yaml"), path.join("web.yaml~")).unwrap();
        std::fs::write(path.join("web.yaml"), manifest("a:3")).unwrap();
        std::fs::remove_file(path.join("web.yaml~")).unwrap();
        assert_eq!(images(&mut deliveries).await, ["a:3"], "nothing was told in between");
        // Who unlinks a manifest wants its pod to end, even if the same one is there again at once.
        std::fs::remove_file(path.join("web.yaml")).unwrap();
        std::fs::write(path.join("web.yaml"), manifest("a:3")).unwrap();
        assert_eq!(images(&mut deliveries).await, [""; 0]);
        assert_eq!(images(&mut deliveries).await, ["a:3"]);
        std::fs::remove_file(path.join("web.yaml")).unwrap();
        assert_eq!(images(&mut deliveries).await, [""; 0]);
    }
}
