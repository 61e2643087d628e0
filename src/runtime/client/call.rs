//! One call: its deadline, and what its failure means.

use std::error::Error as _;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tonic::{Code, Request, Response, Status};

use crate::runtime::{Error, ErrorKind, Result};

/// The longest deadline that the runtime is told.
const LONGEST: Duration = Duration::from_secs(99_999_999);

/// Runs a call that must end before `deadline`. The runtime is told the deadline too, so that it doesn't work on for nobody.
pub(super) async fn within<M, T, F>(action: impl Display, deadline: Duration, message: M, send: impl FnOnce(Request<M>) -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<Response<T>, Status>>,
{
    let mut request = Request::new(message);
    // tonic panics at deadlines beyond what gRPC's eight digits can say.
    request.set_timeout(deadline.min(LONGEST));
    let kind = match tokio::time::timeout(deadline, send(request)).await {
        Ok(Ok(answer)) => return Ok(answer.into_inner()),
        Ok(Err(status)) => kind_of(&status, deadline),
        Err(_) => ErrorKind::Deadline(deadline),
    };
    Err(Error { action: action.to_string(), kind })
}

/// Runs a call that takes as long as it takes.
pub(super) async fn unbounded<M, T, F>(action: impl Display, message: M, send: impl FnOnce(Request<M>) -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<Response<T>, Status>>,
{
    let answer = send(Request::new(message)).await;
    answer.map(Response::into_inner).map_err(|s| Error { action: action.to_string(), kind: kind_of(&s, Duration::ZERO) })
}

/// Success for calls that want an object gone, when it is gone already.
pub(super) fn fine_when_gone<T>(result: Result<T>) -> Result<()> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// An answer that makes no sense.
pub(super) fn garbage(action: impl Display, what: impl Display) -> Error {
    Error { action: action.to_string(), kind: ErrorKind::Garbage(what.to_string()) }
}

/// An id or URL that must not be empty.
pub(super) fn filled(action: impl Display, name: &str, value: String) -> Result<String> {
    if value.is_empty() { Err(garbage(action, format!("an empty {name}"))) } else { Ok(value) }
}

pub(super) fn kind_of(status: &Status, deadline: Duration) -> ErrorKind {
    let words = status.message().to_owned();
    match status.code() {
        Code::NotFound => ErrorKind::NotFound(words),
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::DeadlineExceeded if !deadline.is_zero() => ErrorKind::Deadline(deadline),
        _ if caused_by::<tonic::TimeoutExpired>(status).is_some() => ErrorKind::Deadline(deadline),
        // A source means that the status was made on this side: the connection could not be made, or it broke.
        code if code == Code::Unavailable || status.source().is_some() => ErrorKind::Unavailable(advice(status)),
        _ => ErrorKind::Failed(words),
    }
}

/// What a person should look at when the socket does not answer.
fn advice(status: &Status) -> String {
    use std::io::ErrorKind as Io;
    let Some(io) = caused_by::<std::io::Error>(status) else { return innermost(status) };
    match io.kind() {
        Io::NotFound => "there is no socket; start the container runtime (systemctl start containerd), or set containerRuntimeEndpoint to \
                         its socket"
            .into(),
        Io::ConnectionRefused => {
            "nobody listens on the socket; start the container runtime (systemctl start containerd) or look at its logs".into()
        }
        Io::PermissionDenied => "the socket may not be opened; run the agent as root".into(),
        _ => io.to_string(),
    }
}

/// The chain of errors behind a status.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = status.source();
    std::iter::from_fn(move || {
        let this = next?;
        next = this.source();
        Some(this)
    })
}

fn caused_by<T: std::error::Error + 'static>(status: &Status) -> Option<&T> {
    causes(status).find_map(|e| e.downcast_ref())
}

fn innermost(status: &Status) -> String {
    causes(status).last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}
