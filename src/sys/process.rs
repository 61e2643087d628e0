//! What the agent asks of the kernel and of the allocator for its own process.

#![allow(unsafe_code)]

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Makes glibc's allocator use one arena, so that memory freed by one thread is found by the next. Call before threads start.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers and reports failure by its result; there is nothing to keep valid.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free heap pages back to the kernel: worth a call after work that needed much memory for a moment.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether the process runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Sets how likely the kernel is to kill this process when memory runs out: -1000 (never) to 1000 (first).
///
/// Without the right to lower the value the agent goes on with a warning, as in a container of its own.
pub fn set_oom_score_adj(score: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(score, %error, "can't set the agent's own oom_score_adj; under memory pressure the kernel may kill it first");
    }
}

/// Raises the limit of open files to `wanted`, or as near to it as the process may.
pub fn raise_open_files(wanted: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return Ok(());
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_files_limit_never_falls() {
        let (before, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        raise_open_files(1).unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, before);
        raise_open_files(before + 1).unwrap();
        assert!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0 >= before);
    }

    #[test]
    fn the_allocator_takes_the_hints() {
        use_one_arena();
        trim_heap();
    }
}
