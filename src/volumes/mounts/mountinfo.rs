//! Reading `/proc/thread-self/mountinfo` (proc_pid_mountinfo(5)). Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it is mounted.
    pub(super) target: PathBuf,
    /// Member of a peer group: mounts below it propagate.
    pub(super) shared: bool,
}

/// All lines, in the kernel's order: a mount comes after the one it lies on. Lines that make no sense are left out.
pub(super) fn parse(text: &[u8]) -> Vec<Line> {
    text.split(|b| *b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|b| *b == b' ');
    let target = unescape(fields.nth(4)?);
    let optional = fields.skip(1).take_while(|f| *f != b"-");
    let shared = optional.into_iter().any(|f| f.starts_with(b"shared:"));
    Some(Line { target, shared })
}

/// Blanks and the like come as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| byte == b'\\').and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}

/// Mount points at or below `dir`, the last mounted first: that order never leaves one under another.
pub(super) fn below(lines: &[Line], dir: &Path) -> Vec<PathBuf> {
    lines.iter().rev().filter(|l| l.target.starts_with(dir)).map(|l| l.target.clone()).collect()
}

/// Whether the mount that holds `dir` is shared.
pub(super) fn is_shared(lines: &[Line], dir: &Path) -> bool {
    // Of those mounted over each other at one place, the last one is what a path leads to.
    let holding = lines.iter().filter(|l| dir.starts_with(&l.target));
    holding.max_by_key(|l| l.target.components().count()).is_some_and(|l| l.shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 22 0:5 / /proc rw - proc proc rw\n\
        40 22 0:50 / /k/pods/a/volumes/x rw shared:9 master:3 - tmpfs tmpfs rw\n\
        41 22 0:51 / /k/pods/ab rw - tmpfs tmpfs rw\n\
        42 40 0:52 /sub /k/pods/a/volumes/x/my\\040dir\\134 rw - tmpfs tmpfs rw\n\
        43 40 0:53 / /k/pods/a/volumes/x rw - tmpfs tmpfs rw\n\
        garbage\n\n";

    #[test]
    fn mounts_below_a_directory_come_last_mounted_first() {
        let lines = parse(TABLE);
        assert_eq!(lines.len(), 6);
        let want = ["/k/pods/a/volumes/x", "/k/pods/a/volumes/x/my dir\\", "/k/pods/a/volumes/x"].map(PathBuf::from);
        assert_eq!(below(&lines, Path::new("/k/pods/a")), want);
        assert_eq!(below(&lines, Path::new("/k/pods/ab")), [PathBuf::from("/k/pods/ab")]);
        assert!(below(&lines, Path::new("/k/pods/b")).is_empty());
    }

    #[test]
    fn the_innermost_and_last_mount_decides_about_sharing() {
        let lines = parse(TABLE);
        for (dir, want) in [("/var", true), ("/proc/1", false), ("/k/pods/a/volumes", true), ("/k/pods/a/volumes/x/y", false)] {
            assert_eq!(is_shared(&lines, Path::new(dir)), want, "{dir}");
        }
    }
}
