//! One request to the API server: deadline, credentials, and what a failure means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, HeaderValue, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use kube::client::Body;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::connect::{ConnectError, Connector, Credentials, chain};
use super::kubeconfig::{Access, Token};
use super::{Error, ErrorKind, Result};

/// For a call from sending to the end of its answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Larger answers than any single object (etcd holds 1.5 MiB at most) are refused.
const LARGEST_OBJECT: usize = 8 << 20;
/// Ordinary calls at a time: each takes a connection of its own, and a new one costs a TLS handshake.
const IN_FLIGHT: usize = 8;
/// The same for reviews of tokens and rights.
const REVIEWS_IN_FLIGHT: usize = 4;
/// Connections kept open for the next call.
const IDLE_CONNECTIONS: usize = 4;
const IDLE_FOR: Duration = Duration::from_secs(45);
/// After the client certificate was renewed, connections are closed for so long: by then each has been used once more or was idle for
/// too long.
const CLOSE_AFTER_RENEWAL: Duration = Duration::from_secs(60);
/// hyper's read buffer grows up to this; its own default is 400 KiB for each connection.
const READ_BUFFER: usize = 64 << 10;

/// Which calls wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// At most a few at a time.
    Ordinary,
    /// Who asks this node, and what they may: people wait for these, so they don't wait behind a crowd of starting pods.
    Review,
    /// Leases and node status: never waits behind other calls.
    Heartbeat,
}

/// Sends requests. Clones share one pool of connections.
#[derive(Clone)]
pub struct Transport {
    client: Client,
    base: Arc<Base>,
    slots: Arc<Semaphore>,
    reviews: Arc<Semaphore>,
    /// Whether the last request got an answer from the server.
    reachable: watch::Sender<bool>,
}

struct Base {
    server: Uri,
    token: Option<Token>,
    user_agent: HeaderValue,
    credentials: Arc<Credentials>,
}

impl Transport {
    /// Opens no connection yet.
    pub fn new(access: Access, user_agent: &str) -> std::result::Result<Self, ConnectError> {
        let (server, token) = (access.server.clone(), access.token.clone());
        let connector = Connector::new(access)?;
        let base = Base {
            server,
            token,
            credentials: connector.credentials(),
            user_agent: HeaderValue::from_str(user_agent).unwrap_or(HeaderValue::from_static("kubelet")),
        };
        let pool: Pool<_, Body> = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(READ_BUFFER)
            .build(connector);
        Ok(Self {
            client: Client::new(pool, "default"),
            base: Arc::new(base),
            slots: Arc::new(Semaphore::new(IN_FLIGHT)),
            reviews: Arc::new(Semaphore::new(REVIEWS_IN_FLIGHT)),
            reachable: watch::Sender::new(true),
        })
    }

    /// Makes a call and decodes its JSON answer. Waiting for its turn is part of the call's deadline.
    pub async fn call<T: DeserializeOwned>(&self, lane: Lane, action: impl Fn() -> String, request: Request<Vec<u8>>) -> Result<T> {
        let fail = |kind| Error { action: action(), kind };
        let exchange = async {
            let _slot = match lane {
                Lane::Ordinary => self.slots.acquire().await.ok(), // it is never closed
                Lane::Review => self.reviews.acquire().await.ok(),
                Lane::Heartbeat => None,
            };
            let response = self.open(request, "application/json").await?;
            let body = Limited::new(response.into_body(), LARGEST_OBJECT).collect().await;
            body.map(|body| body.to_bytes()).map_err(|e| ErrorKind::Unavailable(format!("the answer broke off: {}", chain(e.as_ref()))))
        };
        let body = timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(no_answer(DEADLINE))).map_err(fail)?;
        serde_json::from_slice(&body).map_err(|e| fail(ErrorKind::Unavailable(format!("the answer makes no sense: {e}"))))
    }

    /// Sends a request and waits, without a deadline, for the head of a successful answer.
    pub async fn open(&self, request: Request<Vec<u8>>, accept: &'static str) -> std::result::Result<Response<Body>, ErrorKind> {
        let request = self.base.complete(request, accept).await?;
        let response = match self.client.send(request).await {
            Ok(response) => response,
            Err(error) => {
                self.note(false);
                return Err(transport_error(&error));
            }
        };
        let status = response.status();
        // A gateway in front of the API server may answer for one that is gone.
        self.note(!matches!(status.as_u16(), 502..=504));
        if status.is_success() {
            return Ok(response);
        }
        let body = timeout(DEADLINE, Limited::new(response.into_body(), LARGEST_OBJECT).collect()).await;
        let body = body.ok().and_then(|read| read.ok()).map(|read| read.to_bytes()).unwrap_or_default();
        Err(refusal(status, &body))
    }

    /// Waits until the server answers again after it did not.
    pub async fn recovered(&self) {
        let mut reachable = self.reachable.subscribe();
        loop {
            if reachable.changed().await.is_err() || *reachable.borrow_and_update() {
                return;
            }
        }
    }

    fn note(&self, reachable: bool) {
        self.reachable.send_if_modified(|now| std::mem::replace(now, reachable) != reachable);
    }
}

impl Base {
    async fn complete(&self, request: Request<Vec<u8>>, accept: &'static str) -> std::result::Result<Request<Body>, ErrorKind> {
        let (mut parts, body) = request.into_parts();
        let prefix = self.server.path().trim_end_matches('/');
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let mut uri = self.server.clone().into_parts();
        let bad = |e: http::Error| ErrorKind::Refused(400, format!("the request can't be made: {e}"));
        uri.path_and_query = Some(format!("{prefix}{path}").parse().map_err(|e: http::uri::InvalidUri| bad(e.into()))?);
        parts.uri = Uri::from_parts(uri).map_err(|e| bad(e.into()))?;
        parts.headers.insert(ACCEPT, HeaderValue::from_static(accept));
        parts.headers.insert(USER_AGENT, self.user_agent.clone());
        if self.credentials.renewed_within(CLOSE_AFTER_RENEWAL) {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(token) = &self.token {
            let text = match token {
                Token::Fixed(text) => text.clone(),
                Token::File(path) => tokio::fs::read_to_string(path)
                    .await
                    .map_err(|e| ErrorKind::Unauthorized(format!("token file {} can't be read: {e}", path.display())))?,
            };
            let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim())).map_err(|e| bad(e.into()))?;
            value.set_sensitive(true);
            parts.headers.insert(AUTHORIZATION, value);
        }
        Ok(Request::from_parts(parts, Body::from(Bytes::from(body))))
    }
}

/// What it means that no answer came in time.
pub fn no_answer(after: Duration) -> ErrorKind {
    ErrorKind::Unavailable(format!("no answer within {after:?}"))
}

fn transport_error(error: &kube::Error) -> ErrorKind {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(own) = cause.downcast_ref::<ConnectError>() {
            return ErrorKind::Unavailable(own.to_string());
        }
        next = cause.source();
    }
    ErrorKind::Unavailable(chain(error))
}

/// What an answer that is not a success means.
pub fn refusal(status: StatusCode, body: &[u8]) -> ErrorKind {
    let said: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = said.message.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        let line: String = text.trim().lines().next().unwrap_or_default().chars().take(200).collect();
        if line.is_empty() { status.to_string() } else { line }
    });
    refused_with(status.as_u16(), said.reason.as_deref().unwrap_or_default(), message)
}

/// What a status code and reason mean.
pub fn refused_with(code: u16, reason: &str, message: String) -> ErrorKind {
    match code {
        401 => ErrorKind::Unauthorized(message),
        403 => ErrorKind::Forbidden(message),
        404 => ErrorKind::NotFound(message),
        409 if reason == "AlreadyExists" => ErrorKind::AlreadyExists,
        409 => ErrorKind::Conflict(message),
        429 | 500.. => ErrorKind::Unavailable(message),
        _ => ErrorKind::Refused(code, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_the_kinds_that_callers_tell_apart() {
        let status =
            |reason: &str| format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"m","reason":"{reason}"}}"#);
        let table = [
            (404, status("NotFound"), ErrorKind::NotFound("m".into())),
            (409, status("AlreadyExists"), ErrorKind::AlreadyExists),
            (409, status("Conflict"), ErrorKind::Conflict("m".into())),
            (403, status("Forbidden"), ErrorKind::Forbidden("m".into())),
            (401, status("Unauthorized"), ErrorKind::Unauthorized("m".into())),
            (422, status("Invalid"), ErrorKind::Refused(422, "m".into())),
            (410, status("Expired"), ErrorKind::Refused(410, "m".into())),
            (429, status("TooManyRequests"), ErrorKind::Unavailable("m".into())),
            (503, "service unavailable\nmore".into(), ErrorKind::Unavailable("service unavailable".into())),
            (502, String::new(), ErrorKind::Unavailable("502 Bad Gateway".into())),
            (400, "\u{fffd}garbage".into(), ErrorKind::Refused(400, "\u{fffd}garbage".into())),
        ];
        for (code, body, want) in table {
            assert_eq!(refusal(StatusCode::from_u16(code).expect("code"), body.as_bytes()), want);
        }
    }
}
