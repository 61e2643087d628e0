//! Going through log files, from the line that was asked for to the end. Blocking: call it from a thread that may wait.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::filter::{Filter, Wanted};
use super::{Options, rotate};

/// How much is read from a file at once, and about how much a chunk holds.
const BLOCK: usize = 32 * 1024;
/// Longer lines are left out. Runtimes cut lines at 16 KiB; escaped as JSON that may become six times as much.
const MAX_LINE: usize = 256 * 1024;

/// Reads a container's log. Holds no more than one unfinished line between calls.
pub struct Reader {
    path: PathBuf,
    /// The first one is being read. Only the last one can still grow.
    files: VecDeque<Segment>,
    filter: Filter,
    follow: bool,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    /// Within a line that is too long.
    skipping: bool,
    enough: bool,
}

struct Segment {
    file: File,
    /// Bytes still to be read: a log that is not followed ends where it ended when it was opened.
    left: u64,
    inode: u64,
}

impl Reader {
    /// Opens the log at `path`. Where `tail_lines` asks for more than this file holds, the files that it was rotated from are
    /// read first, unless they are compressed.
    pub fn open(path: &Path, options: &Options) -> io::Result<Self> {
        // Docker's log paths are symbolic links to where the file is rotated.
        let path = path.canonicalize()?;
        let mut reader = Self {
            filter: Filter::new(options),
            follow: options.follow,
            files: VecDeque::new(),
            rest: Vec::new(),
            skipping: false,
            enough: options.tail_lines == Some(0) && !options.follow,
            path,
        };
        let (newest, mut missing) = Segment::open(&reader.path, options.tail_lines, options.follow)?;
        reader.files.push_back(newest);
        if missing > 0 {
            for older in rotate::rotated_from(&reader.path)?.iter().rev().take_while(|p| p.extension().is_none_or(|e| e != "gz")) {
                let (segment, still) = Segment::open(older, Some(missing), false)?;
                reader.files.push_front(segment);
                missing = still;
                if missing == 0 {
                    break;
                }
            }
        }
        Ok(reader)
    }

    /// Where the log is, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is to be followed.
    pub fn follows(&self) -> bool {
        self.follow
    }

    /// If another file has come to be at the path, queues that to be read next, and says so.
    pub fn take_up_rotation(&mut self) -> io::Result<bool> {
        let inode = match std::fs::metadata(&self.path) {
            Ok(meta) => meta.ino(),
            // Between being renamed and being made anew.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        if self.files.back().is_some_and(|f| f.inode == inode) {
            return Ok(false);
        }
        let (segment, _) = Segment::open(&self.path, None, true)?;
        self.files.push_back(segment);
        Ok(true)
    }

    /// The next part, or `None` when there is nothing more for now.
    pub fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = Vec::new();
        let mut block = [0; BLOCK];
        while out.len() < BLOCK && !self.enough {
            let Some(segment) = self.files.front_mut() else { break };
            let most = usize::try_from(segment.left).unwrap_or(BLOCK).min(BLOCK);
            let n = segment.file.read(&mut block[..most])?;
            segment.left -= n as u64;
            if n > 0 {
                self.push(&block[..n], &mut out);
            } else if self.files.len() > 1 {
                self.files.pop_front();
                self.push_rest(&mut out);
            } else {
                if !self.follow {
                    self.push_rest(&mut out);
                }
                break;
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// What remains once nobody writes any more: a last line without its newline.
    pub fn finish(mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        self.push_rest(&mut out);
        (!out.is_empty()).then(|| out.into())
    }

    fn push(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        for piece in raw.split_inclusive(|b| *b == b'\n') {
            let complete = piece.ends_with(b"\n");
            if !self.skipping && complete && self.rest.is_empty() {
                self.show(piece, out);
                continue;
            }
            if !self.skipping {
                self.rest.extend_from_slice(piece);
                self.skipping = self.rest.len() > MAX_LINE;
            }
            if complete && !std::mem::take(&mut self.skipping) {
                self.push_rest(out);
            } else if complete || self.skipping {
                self.rest = Vec::new();
            }
        }
    }

    fn push_rest(&mut self, out: &mut Vec<u8>) {
        // Taken and not cleared: a follower that waits for hours keeps no buffer.
        let rest = std::mem::take(&mut self.rest);
        self.show(&rest, out);
    }

    fn show(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        if !self.enough {
            self.enough = self.filter.push(raw, out) == Wanted::Enough;
        }
    }

    /// Whether everything that was asked for has been read.
    pub fn has_enough(&self) -> bool {
        self.enough
    }
}

impl Segment {
    /// Opens a file at its last `tail` lines, and says how many of them it does not hold.
    fn open(path: &Path, tail: Option<u64>, follow: bool) -> io::Result<(Self, u64)> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let mut range = Range { start: 0, end: meta.len(), missing: 0 };
        if let Some(lines) = tail {
            range = last_lines(&file, meta.len(), lines)?;
        }
        file.seek(SeekFrom::Start(range.start))?;
        let left = if follow { u64::MAX } else { range.end - range.start };
        Ok((Self { file, left, inode: meta.ino() }, range.missing))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
    missing: u64,
}

/// Where the last `wanted` complete lines are, found from the end backwards.
fn last_lines(file: &File, size: u64, wanted: u64) -> io::Result<Range> {
    let mut block = [0; BLOCK];
    let (mut newlines, mut last) = (0, 0);
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        for (i, _) in part.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let after = start + i as u64 + 1;
            if newlines == 0 {
                last = after;
            }
            if newlines == wanted {
                return Ok(Range { start: after, end: last, missing: 0 });
            }
            newlines += 1;
        }
        end = start;
    }
    Ok(Range { start: 0, end: last, missing: wanted.saturating_sub(newlines) })
}

#[cfg(test)]
mod tests;
