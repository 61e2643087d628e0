//! The system calls that need more than safe wrappers: the only room where `unsafe` is allowed.

pub mod netns;
