//! The kernel's text files below `/proc` and `/sys`.

use std::fs;
use std::path::Path;
use std::str::FromStr;

/// The number that is all of a file.
pub fn number<T: FromStr>(file: &Path) -> Option<T> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number behind a name, in a text with a name and a number on each line such as `memory.stat`.
pub fn field<T: FromStr>(text: &str, name: &str) -> Option<T> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A line of `/proc/meminfo`, in bytes.
pub fn meminfo_bytes(meminfo: &str, field: &str) -> Option<i64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

/// How many processes and threads the kernel runs at most: the lesser of what it numbers and what it lets in (pkg/kubelet/stats/pidlimit).
/// `proc`: `/proc`.
pub fn process_limit(proc: &Path) -> Option<i64> {
    ["sys/kernel/pid_max", "sys/kernel/threads-max"].into_iter().filter_map(|file| number(&proc.join(file))).min()
}
