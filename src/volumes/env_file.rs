//! A file of variables in a volume: containers write it, other containers' environments are made from it (KEP-3721).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Greater files are not read: upstream stops at lines of 64 KiB.
const GREATEST: u64 = 1 << 20;

/// Reads a file of a volume. Whoever wrote the volume may have put anything there: links lead to files of the volume alone, and what is
/// no plain file is not read (a pipe would have us wait).
pub fn read(volume: &Path, path: &str) -> io::Result<String> {
    let dir = File::open(volume)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let file = File::from(openat2(&dir, path, OpenHow::new().flags(flags).resolve(resolve))?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut text = String::new();
    if file.take(GREATEST + 1).read_to_string(&mut text)? as u64 > GREATEST {
        return Err(io::Error::other("it is greater than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_dots_lead_to_files_of_the_volume_alone() {
        let (outside, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "A='1'").unwrap();
        std::fs::write(volume.path().join("own"), "B='2'").unwrap();
        symlink(outside.path().join("secret"), volume.path().join("link")).unwrap();
        symlink("/own", volume.path().join("inner")).unwrap();
        nix::unistd::mkfifo(&volume.path().join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let climb = format!("../{}/secret", outside.path().file_name().unwrap().to_string_lossy());
        assert!(read(volume.path(), "link").is_err() && read(volume.path(), &climb).is_err());
        assert!(read(volume.path(), "pipe").is_err() && read(volume.path(), ".").is_err());
        assert_eq!(read(volume.path(), "own").unwrap(), "B='2'");
        assert_eq!(read(volume.path(), "inner").unwrap(), "B='2'", "absolute links start at the volume");
    }
}
