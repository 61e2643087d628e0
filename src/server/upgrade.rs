//! The byte proxy between a client's upgraded connection and the runtime's streaming server.
//!
//! exec, attach and port-forward speak SPDY/3.1 or WebSocket. The agent understands neither: it repeats the client's upgrade
//! request to the one-time URL that the runtime gave, and then moves bytes. The API server translates the newer protocols for
//! nodes that don't declare the feature ExtendWebSocketsToKubelet, and this one doesn't.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::relay::relay;
use super::response::{self, Body};

/// How long the runtime may take to answer: it has prepared the stream already.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the client's side may take to be ready after it was told of the upgrade.
const SWITCH: Duration = Duration::from_secs(10);
/// Bytes of an answer's head.
const HEAD: usize = 16 * 1024;
/// Bytes of an error's text.
const ERROR_BODY: usize = 64 * 1024;

/// Why the runtime's streaming server could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL makes no sense to us.
    #[error("the container runtime gave a streaming URL that this agent can't use: {0}")]
    Url(&'static str),
    /// Nobody listens, or the connection broke.
    #[error("can't reach the container runtime's streaming server at {address}: {why}")]
    Connection {
        /// Host and port. The path is a secret.
        address: String,
        /// What went wrong.
        why: String,
    },
    /// No answer.
    #[error("the container runtime's streaming server at {0} did not answer within {ANSWER:?}")]
    Deadline(String),
    /// An answer that is neither an upgrade nor an error.
    #[error("the container runtime's streaming server answered with status {0} instead of an upgrade")]
    Status(StatusCode),
}

/// Whether a request asks for an upgrade.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION);
    let mut tokens = connection.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    headers.contains_key(header::UPGRADE) && tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// A runtime's side that has agreed to switch protocols, waiting for the client's.
pub struct Relay {
    client: OnUpgrade,
    runtime: Upgraded,
    idle: Duration,
}

impl Relay {
    /// Moves bytes until either side has ended, or nothing has moved for the idle timeout.
    pub async fn run(self) {
        if let Ok(Ok(client)) = timeout(SWITCH, self.client).await {
            relay(TokioIo::new(client), TokioIo::new(self.runtime), self.idle).await;
        }
    }
}

/// What the client is to be told, and what follows if it was an upgrade.
pub struct Answer {
    /// Head and body for the client.
    pub response: Response<Body>,
    /// To be run when the response has been sent.
    pub relay: Option<Relay>,
}

/// Repeats the client's upgrade request at `url`.
pub async fn forward<B>(mut request: Request<B>, url: &str, client: IpAddr, idle: Duration) -> Result<Answer, Error> {
    let target = Target::parse(url)?;
    let on_upgrade = hyper::upgrade::on(&mut request);
    let request = target.request(request.method(), request.headers(), client)?;
    let response = match timeout(ANSWER, target.send(request)).await {
        Ok(sent) => sent.map_err(|why| Error::Connection { address: target.address.clone(), why })?,
        Err(_) => return Err(Error::Deadline(target.address)),
    };
    match response {
        Sent::Refused(response) if response.status().as_u16() < 400 => Err(Error::Status(response.status())),
        Sent::Refused(response) => Ok(Answer { response, relay: None }),
        Sent::Switched(response, runtime) => Ok(Answer { response, relay: Some(Relay { client: on_upgrade, runtime, idle }) }),
    }
}

enum Sent {
    Switched(Response<Body>, Upgraded),
    Refused(Response<Body>),
}

struct Target {
    /// `host:port`.
    address: String,
    path: Uri,
}

impl Target {
    fn parse(url: &str) -> Result<Self, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::Url("it is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(Error::Url("it wants TLS; turn off the runtime's TLS for streaming (stream_enable_tls)")),
            _ => return Err(Error::Url("it does not begin with http://")),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(Error::Url("it names no host"))?;
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).parse().map_err(|_| Error::Url("its path is broken"))?;
        Ok(Self { address, path })
    }

    /// The client's request with the path swapped.
    fn request(&self, method: &Method, headers: &HeaderMap, client: IpAddr) -> Result<Request<Empty<Bytes>>, Error> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = self.path.clone();
        let kept = |name: &HeaderName| {
            // The length is that of another body; the host is another; the runtime has no use for the client's credentials.
            ![header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST, header::AUTHORIZATION].contains(name)
        };
        *request.headers_mut() = headers.iter().filter(|(n, _)| kept(n)).map(|(n, v)| (n.clone(), v.clone())).collect();
        let host = HeaderValue::from_str(&self.address).map_err(|_| Error::Url("its host is broken"))?;
        request.headers_mut().insert(header::HOST, host);
        if let Ok(client) = HeaderValue::from_str(&client.to_string()) {
            request.headers_mut().append("x-forwarded-for", client);
        }
        Ok(request)
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Sent, String> {
        let tcp = TcpStream::connect(&self.address).await.map_err(|e| e.to_string())?;
        // Keystrokes must not wait for more.
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(tcp)).await.map_err(|e| e.to_string())?;
        // Ends by itself after an upgrade; otherwise with this call.
        let driver = EndOnDrop(tokio::spawn(connection.with_upgrades()));
        let mut response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let runtime = hyper::upgrade::on(&mut response).await.map_err(|e| e.to_string())?;
            return Ok(Sent::Switched(copy_head(&response, Bytes::new()), runtime));
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ERROR_BODY).collect().await.map_err(|e| e.to_string())?.to_bytes();
        drop(driver);
        Ok(Sent::Refused(copy_head(&Response::from_parts(head, ()), body)))
    }
}

fn copy_head<T>(from: &Response<T>, body: Bytes) -> Response<Body> {
    let mut to = Response::new(response::full(body));
    *to.status_mut() = from.status();
    let switching = from.status() == StatusCode::SWITCHING_PROTOCOLS;
    let kept = |name: &HeaderName| match name {
        &header::CONTENT_LENGTH | &header::TRANSFER_ENCODING | &header::DATE => false,
        &header::CONNECTION | &header::UPGRADE => switching,
        _ => true,
    };
    *to.headers_mut() = from.headers().iter().filter(|(n, _)| kept(n)).map(|(n, v)| (n.clone(), v.clone())).collect();
    to
}

struct EndOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for EndOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
