//! The pod's `fsGroup`: files of its volumes belong to that group and are open to it.
//!
//! Bits from pkg/volume/volume_linux.go of Kubernetes.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

/// Gives everything at and below `root` to `group`. Children come first, so that a finished root means that all is done.
///
/// Call it only while no container can change the tree.
pub(super) fn apply(root: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let kind = fs::symlink_metadata(root)?.file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(root)? {
            apply(&entry?.path(), group, read_only)?;
        }
    }
    lchown(root, None, Some(group))?;
    if kind.is_symlink() {
        // A chmod would go to what it points at.
        return Ok(());
    }
    // Read anew: chown takes setuid and setgid away.
    let mode = fs::symlink_metadata(root)?.permissions().mode() & 0o7777;
    let wanted = mode | bits(kind.is_dir(), read_only);
    if wanted != mode {
        fs::set_permissions(root, fs::Permissions::from_mode(wanted))?;
    }
    Ok(())
}

/// What the group needs: to read, to write where that is possible at all, to enter directories, and to inherit the group in them.
fn bits(dir: bool, read_only: bool) -> u32 {
    let access = if read_only { 0o440 } else { 0o660 };
    if dir { access | 0o2110 } else { access }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn the_group_gets_in_and_symlinks_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        for (read_only, dir_mode, file_mode) in [(false, 0o2770, 0o660), (true, 0o2750, 0o640)] {
            let root = tempfile::tempdir().unwrap();
            fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
            let file = root.path().join("f");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            symlink(&secret, root.path().join("link")).unwrap();
            // The test's own group: giving files to another one takes root.
            let group = fs::metadata(root.path()).unwrap().gid();
            apply(root.path(), group, read_only).unwrap();
            apply(root.path(), group, read_only).expect("a second time");

            let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o7777;
            assert_eq!((mode(root.path()), mode(&file), mode(&secret)), (dir_mode, file_mode, 0o600));
        }
    }
}
