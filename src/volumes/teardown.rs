//! Unmounting all of a pod's volumes and removing its directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::VolumeError;
use super::mounts::Mounts;
use super::problem::Problem;
use super::remove;
use crate::sys::blocking::Blocking;

/// How long one unmount may take before the mount is hidden instead.
const UNMOUNT: Duration = Duration::from_secs(5);
/// Pauses before another try while something still uses the mount.
const BUSY: [Duration; 4] = [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];
/// How long to wait for files to be deleted. The work goes on behind; the next call sees how far it got.
const DELETE: Duration = Duration::from_secs(120);
/// How long the mount table may take.
const LOOK: Duration = Duration::from_secs(10);

/// Unmounts everything at and below `dir`, then deletes it. Fine when it is gone already. Goes on after errors, but deletes nothing while
/// something is still mounted there.
pub(super) async fn tear_down(dir: &Path, mounts: &Arc<dyn Mounts>, blocking: &Blocking) -> Result<(), Vec<VolumeError>> {
    if dir.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    let named = |path: &Path, problem: Problem| {
        let volume = path.strip_prefix(dir).unwrap_or(path).display().to_string();
        VolumeError { volume, message: problem.to_string() }
    };
    let mut errors = Vec::new();
    for target in mounted(dir, mounts, blocking).await.map_err(|p| vec![named(dir, p)])? {
        if let Err(problem) = unmount(&target, mounts, blocking).await {
            errors.push(named(&target, problem));
        }
    }
    let left = mounted(dir, mounts, blocking).await.map_err(|p| vec![named(dir, p)])?;
    if let (Some(first), true) = (left.first(), errors.is_empty()) {
        errors.push(named(first, Problem::Spec("something mounted it again while the pod was being removed".into())));
    }
    if errors.is_empty() {
        let owned = dir.to_owned();
        match blocking.run(dir, DELETE, move || remove::tree(&owned)).await {
            Ok(left) => errors.extend(left.into_iter().map(|(path, e)| named(&path, Problem::io("remove", &path)(e)))),
            Err(blocked) => errors.push(named(dir, blocked.into())),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

async fn mounted(dir: &Path, mounts: &Arc<dyn Mounts>, blocking: &Blocking) -> Result<Vec<PathBuf>, Problem> {
    let (mounts, owned) = (mounts.clone(), dir.to_owned());
    let found = blocking.run(dir, LOOK, move || mounts.below(&owned)).await?;
    found.map_err(Problem::io("list what is mounted below", dir))
}

/// Unmounts one mount. One that stays busy or does not answer is hidden: nobody can reach it by its path any more, and the kernel lets
/// it go with its last user.
async fn unmount(target: &Path, mounts: &Arc<dyn Mounts>, blocking: &Blocking) -> Result<(), Problem> {
    let call = |lazy: bool| {
        let (mounts, owned) = (mounts.clone(), target.to_owned());
        // A lazy unmount must not wait for one that hangs: it is another piece of work.
        let key = if lazy { target.join("lazy") } else { target.to_owned() };
        async move { blocking.run(&key, UNMOUNT, move || mounts.unmount(&owned, lazy)).await }
    };
    for pause in BUSY {
        match call(false).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::ResourceBusy => tokio::time::sleep(pause).await,
            Ok(Err(e)) => return Err(Problem::io("unmount", target)(e)),
            Err(_) => break,
        }
    }
    tracing::warn!(mount = %target.display(), "unmounting lazily: something still uses it");
    call(true).await?.map_err(Problem::io("unmount lazily", target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::mounts::fake::FakeMounts;
    use std::fs;

    async fn run(dir: &Path, mounts: &Arc<FakeMounts>) -> Result<(), Vec<VolumeError>> {
        let mounts: Arc<dyn Mounts> = mounts.clone();
        tear_down(dir, &mounts, &Blocking::default()).await
    }

    #[tokio::test(start_paused = true)]
    async fn mounts_go_before_files_and_busy_ones_lazily() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("u1");
        fs::create_dir_all(dir.join("volumes/x/v")).unwrap();
        let mounts = Arc::new(FakeMounts::default());
        mounts.add(&dir.join("volumes/x/v"), false);
        mounts.add(&dir.join("volumes/x/v"), false);
        mounts.add(&dir.join("volumes/x/v/inner"), true);
        mounts.add(&root.path().join("u2"), false);
        run(&dir, &mounts).await.unwrap();
        assert_eq!(mounts.all().len(), 1, "the other pod's");
        assert!(!dir.exists());
        run(&dir, &mounts).await.expect("a second time");
    }

    struct Stubborn;
    impl Mounts for Stubborn {
        fn tmpfs(&self, _: &Path, _: Option<u64>) -> std::io::Result<()> {
            Ok(())
        }
        fn is_tmpfs(&self, _: &Path) -> std::io::Result<bool> {
            Ok(true)
        }
        fn bind(&self, _: &Path, _: &Path) -> std::io::Result<()> {
            Ok(())
        }
        fn unmount(&self, _: &Path, _: bool) -> std::io::Result<()> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
        fn below(&self, dir: &Path) -> std::io::Result<Vec<PathBuf>> {
            Ok(vec![dir.join("a"), dir.join("b")])
        }
        fn share(&self, _: &Path) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_deleted_while_something_is_mounted() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        let mounts: Arc<dyn Mounts> = Arc::new(Stubborn);
        let errors = tear_down(root.path(), &mounts, &Blocking::default()).await.unwrap_err();
        assert_eq!(errors.iter().map(|e| e.volume.as_str()).collect::<Vec<_>>(), ["a", "b"], "it goes on after the first");
        assert!(errors.iter().all(|e| e.message.starts_with("unmount /")), "{errors:?}");
        assert!(root.path().join("a").exists());
    }
}
