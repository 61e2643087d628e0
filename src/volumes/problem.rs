//! What goes wrong with one volume.

use std::io;
use std::path::{Path, PathBuf};

use super::atomic::WriteError;
use super::layout::BadName;
use crate::api;
use crate::sys::blocking::BlockingError;

/// Why a volume can't be set up or torn down. Becomes a [`super::VolumeError`] with the volume's name.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// An object that the spec names does not exist. The first words are upstream's: people search for them.
    #[error("{kind} {name:?} not found; create it in namespace {namespace:?}, or mark the reference optional")]
    NotFound { kind: &'static str, namespace: String, name: String },
    /// The API server refused or gave no answer.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// No token, and the last one has run out.
    #[error("the service account token has expired and a new one can't be had: {0}")]
    TokenExpired(api::Error),
    /// The spec asks for something impossible.
    #[error("{0}")]
    Spec(String),
    /// The spec asks for something that does not exist here yet.
    #[error("volumes of type {0} are not supported yet by kubelet-rs")]
    Unsupported(String),
    /// A name that would lead out of the pod's directory.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Files could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The file system did not answer.
    #[error(transparent)]
    Blocked(#[from] BlockingError),
}

impl Problem {
    /// For `map_err` on file system calls.
    pub(super) fn io<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Self + use<'p> {
        move |source| Self::Io { action, path: path.into(), source }
    }

    /// Whether the API server just could not be asked: what the volume held so far is then good enough.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Api(e) if e.is_transient())
    }
}
