//! Paths of the host, and what they must be.
//!
//! Types from pkg/volume/hostpath of Kubernetes. Everything here may block: the path can lie on a network file system.

use std::fs::{self, DirBuilder, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path};

use super::problem::Problem;

/// Whether the type asks for a look at the path at all.
pub(super) fn needs_check(kind: &str) -> bool {
    !kind.is_empty()
}

/// Refuses paths that climb or start nowhere.
pub(super) fn check_path(path: &Path) -> Result<(), Problem> {
    if !path.is_absolute() {
        return Err(Problem::Spec(format!("invalid HostPath {path:?}: must be absolute")));
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(Problem::Spec(format!("invalid HostPath {path:?}: must not contain '..'")));
    }
    Ok(())
}

/// Checks that the path is what the type says, and makes it where the type allows that.
pub(super) fn check(path: &Path, kind: &str) -> Result<(), Problem> {
    let found = match fs::metadata(path) {
        Ok(meta) => Some(meta.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Problem::io("look at", path)(error)),
    };
    let is = |test: fn(&FileType) -> bool, what: &str| {
        if found.as_ref().is_some_and(test) {
            return Ok(());
        }
        // Upstream's words: people search for them.
        Err(Problem::Spec(format!("hostPath type check failed: {} is not a {what}", path.display())))
    };
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_none() => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Problem::io("make directory", path))
        }
        "FileOrCreate" if found.is_none() => {
            let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path);
            made.map(drop).map_err(Problem::io("make file", path))
        }
        "Directory" | "DirectoryOrCreate" => is(FileType::is_dir, "directory"),
        "File" | "FileOrCreate" => is(FileType::is_file, "file"),
        "Socket" => is(FileType::is_socket, "socket file"),
        "CharDevice" => is(FileType::is_char_device, "character device"),
        "BlockDevice" => is(FileType::is_block_device, "block device"),
        other => Err(Problem::Spec(format!("{other} is an invalid volume type; see hostPath types in the Kubernetes documentation"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn types_match_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (file, socket) = (dir.path().join("file"), dir.path().join("socket"));
        fs::write(&file, "").unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        let char_device = Path::new("/dev/null");
        let there = [("directory", dir.path()), ("file", &file), ("socket file", &socket), ("character device", char_device)];
        let kinds = [
            ("Directory", "directory"),
            ("DirectoryOrCreate", "directory"),
            ("File", "file"),
            ("FileOrCreate", "file"),
            ("Socket", "socket file"),
            ("CharDevice", "character device"),
            ("BlockDevice", "block device"),
        ];
        for (kind, wanted) in kinds {
            for (is, path) in there {
                let result = check(path, kind).map_err(|e| e.to_string());
                let refusal = format!("hostPath type check failed: {} is not a {wanted}", path.display());
                assert_eq!(result, if is == wanted { Ok(()) } else { Err(refusal) }, "{kind}");
            }
        }
        assert!(check(&file, "Fifo").unwrap_err().to_string().contains("Fifo is an invalid volume type"));
        assert!(check(Path::new("/nonexistent"), "").is_ok());
    }

    #[test]
    fn what_is_missing_is_made_where_the_type_says_so() {
        let dir = tempfile::tempdir().unwrap();
        for kind in ["Directory", "File", "Socket", "CharDevice", "BlockDevice"] {
            let error = check(&dir.path().join("none"), kind).unwrap_err().to_string();
            assert!(error.starts_with("hostPath type check failed: "), "{error}");
        }
        let (made, file) = (dir.path().join("a/b"), dir.path().join("f"));
        check(&made, "DirectoryOrCreate").unwrap();
        check(&file, "FileOrCreate").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&made), mode(&file)), (0o755, 0o644));
        check(&made, "Directory").unwrap();
        check(&file, "File").unwrap();
        assert!(check(&dir.path().join("x/y"), "FileOrCreate").is_err(), "upstream makes no parents of files");
    }

    #[test]
    fn paths_that_climb_are_refused() {
        assert!(check_path(Path::new("/var/../etc")).is_err());
        assert!(check_path(Path::new("var")).is_err());
        assert!(check_path(Path::new("")).is_err());
        assert!(check_path(Path::new("/var/..lib")).is_ok());
    }
}
