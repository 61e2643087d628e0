//! Container logs: the files that the runtime writes, read for people and kept from growing without end.
//!
//! In: the path of a container's log file and what was asked for ([`Options`]). Out: a stream of bytes with bounded memory.
//! Owns: the rotated files `<log>.<time>` beside each log. Survives a restart: the files.
//!
//! [`parse`] and [`filter`] are pure and know what a line means; [`read`] goes through files; [`follow`] waits for more;
//! [`rotate`] renames files that have grown too big.

pub mod filter;
pub mod follow;
pub mod parse;
pub mod read;
pub mod rotate;

pub use follow::stream;

use jiff::Timestamp;

/// What is wanted of a log, as in the API's PodLogOptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Only this many lines from the end, counted as the runtime wrote them.
    pub tail_lines: Option<u64>,
    /// No more than this many bytes.
    pub limit_bytes: Option<u64>,
    /// Only lines of this time or later.
    pub since: Option<Timestamp>,
    /// Go on when the end is reached, until the container has ended.
    pub follow: bool,
    /// Put its time in front of each line.
    pub timestamps: bool,
}
