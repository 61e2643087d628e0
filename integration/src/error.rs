//! What can go wrong in the lab: each says what was being done, so that a failed run can be read from its last line.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Result of everything the lab does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the lab could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something that `make` would have set up.
    #[error("{0} is missing: run `make setup` as root")]
    Missing(PathBuf),
    /// A system call or file operation failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, to what.
        doing: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A program that should succeed did not.
    #[error("{program} ended with {status}: {output}")]
    Program {
        /// The program and its arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed, both streams.
        output: String,
    },
    /// A long-running part of the lab ended by itself.
    #[error("{name} ended with {status}; the end of its log:\n{tail}")]
    Ended {
        /// The part.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        tail: String,
    },
    /// Something expected did not come.
    #[error("waited {waited:?} for {what}; last seen: {last}\n{diagnosis}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// What was seen last.
        last: String,
        /// Events, pods, the end of the agent's log.
        diagnosis: String,
    },
    /// The API server refused or could not be asked.
    #[error("{doing}: {source}")]
    Api {
        /// What was being asked.
        doing: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// A certificate could not be made.
    #[error("making the certificate of {name}: {source}")]
    Certificate {
        /// Whose.
        name: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Adds what was being done to an I/O error.
pub trait Doing<T> {
    /// `doing` is only evaluated on failure: "making the folder /x".
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing().into(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::Io { doing: doing().into(), source: errno.into() })
    }
}

impl<T> Doing<T> for kube::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Api { doing: doing().into(), source: Box::new(source) })
    }
}
