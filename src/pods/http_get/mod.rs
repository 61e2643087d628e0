//! One HTTP GET to a container, for probes and lifecycle hooks: a connection of its own, no proxy, no verified certificate, and
//! redirects only to the same host (upstream: `pkg/probe/http`).

mod action;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use action::{Get, join, port, user_agent};

/// Most redirects that are followed.
const REDIRECTS: usize = 10;
/// Most of a body that is read.
const LONGEST_BODY: usize = 10 * 1024;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Of the last answer: a redirect that leads to another host is not followed.
    pub status: u16,
    /// Its first 10 KiB.
    pub body: Vec<u8>,
}

/// Why nothing came back. The texts are those of Go's client, which tools and people know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// TLS was spoken to a server that answers in plain HTTP.
    #[error("Get {0:?}: http: server gave HTTP response to HTTPS client")]
    PlainServer(String),
    /// No whole answer in time.
    #[error("Get {0:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Timeout(String),
    /// Anything else.
    #[error("Get {url:?}: {reason}")]
    Failed {
        /// What was asked for.
        url: String,
        /// Why there is no answer.
        reason: String,
    },
}

/// Asks once, redirects included, within `limit`.
pub async fn get(request: &Get, limit: Duration) -> Result<Answer, Error> {
    get_up_to(LONGEST_BODY, request, limit).await
}

/// The same, and so many bytes of the body are read.
pub async fn get_up_to(bytes: usize, request: &Get, limit: Duration) -> Result<Answer, Error> {
    timeout(limit, follow(request, bytes)).await.unwrap_or_else(|_| Err(Error::Timeout(request.url())))
}

async fn follow(first: &Get, bytes: usize) -> Result<Answer, Error> {
    let mut request = first.clone();
    for _ in 0..REDIRECTS {
        let response = once(&request, bytes).await?;
        match next(&request, &response.head) {
            Some(next) => request = next,
            None => return Ok(Answer { status: response.head.status().as_u16(), body: response.body }),
        }
    }
    Err(Error::Failed { url: request.url(), reason: "stopped after 10 redirects".to_owned() })
}

/// Where a redirect on the same host leads; `None` if the answer stands as it is.
fn next(request: &Get, head: &Response<()>) -> Option<Get> {
    if !matches!(head.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location: Uri = head.headers().get(LOCATION)?.to_str().ok()?.parse().ok()?;
    let mut next = request.clone();
    if let Some(host) = location.host() {
        if host.trim_matches(['[', ']']) != request.host {
            return None;
        }
        next.https = location.scheme_str().map_or(request.https, |scheme| scheme == "https");
        next.port = location.port_u16().unwrap_or(if next.https { 443 } else { 80 });
        // A Host header of the first request is for the first address only.
        next.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(HOST.as_str()));
    }
    next.path = location.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    Some(next)
}

struct Raw {
    head: Response<()>,
    body: Vec<u8>,
}

async fn once(get: &Get, bytes: usize) -> Result<Raw, Error> {
    let failed = |reason: String| Error::Failed { url: get.url(), reason };
    let request = get.request().map_err(failed)?;
    let tcp = connect(&get.host, get.port).await.map_err(failed)?;
    if !get.https {
        return exchange(tcp, request, bytes).await.map_err(|error| failed(reason_of(&error)));
    }
    let name = ServerName::try_from(get.host.clone()).map_err(|error| failed(error.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(tls::config().map_err(|error| failed(error.to_string()))?);
    match connector.connect(name, tcp).await {
        Ok(stream) => exchange(stream, request, bytes).await.map_err(|error| failed(reason_of(&error))),
        Err(error) if is_plain(&error) => Err(Error::PlainServer(get.url())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Opens a connection; the error is worded as Go does it.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let opened = TcpStream::connect((host, port)).await;
    opened.map_err(|error| format!("dial tcp {}: {}", join(host, port), io_reason("connect", &error)))
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, request: Request<Empty<Bytes>>, bytes: usize) -> Result<Raw, hyper::Error> {
    let (mut sender, connection) = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        Ok(Raw { head: Response::from_parts(parts, ()), body: read(body, bytes).await? })
    };
    let (mut connection, mut answer) = (pin!(connection), pin!(answer));
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            // What it failed at reaches the request too.
            _ = &mut connection, if open => open = false,
        }
    }
}

async fn read(mut body: Incoming, most: usize) -> Result<Vec<u8>, hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        bytes.extend(frame?.into_data().unwrap_or_default());
        if bytes.len() >= most {
            bytes.truncate(most);
            break;
        }
    }
    Ok(bytes)
}

/// The record that came is no TLS at all: most often the first bytes of `HTTP/1.1 400`.
fn is_plain(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

fn reason_of(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return io_reason("read", io);
        }
        source = inner.source();
    }
    error.to_string()
}

/// `connect: connection refused`.
fn io_reason(call: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("{call}: {}", Errno::from_raw(code).desc().to_lowercase()),
        None => error.to_string(),
    }
}
