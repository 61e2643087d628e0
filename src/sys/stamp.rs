//! Whether a file is still the one that was read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What tells that a file is another one: device, inode, length, and time of the last change of content or place.
pub type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The stamp of a file, or of what a link leads to; `None` when there is nothing.
pub fn of(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()))
}
