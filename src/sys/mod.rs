//! The system calls that need more than safe wrappers: the only room where `unsafe` is allowed.
//!
//! In: plain values. Out: plain values and `io::Error`. Owns: nothing. Survives a restart: nothing.

pub mod blocking;
pub mod command;
pub mod disk;
pub mod inotify;
pub mod netns;
pub mod notify;
pub mod process;
pub mod procfs;
pub mod readable;
pub mod stamp;
