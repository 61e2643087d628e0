//! One connection: TLS, then HTTP/1.1, then, after an upgrade, bytes.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client_cert::ClientCert;
use super::handler::{Client, Handler};
use super::reload::Acceptor;
use super::upgrade::Relay;

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take for a request's head, and may keep a connection without one (upstream's idle timeout).
const HEAD: Duration = Duration::from_secs(90);
/// A request's head in bytes: a command given to exec is part of it. Buffers begin at 8 KiB and grow only when needed.
const HEAD_BYTES: usize = 256 * 1024;

/// HTTP/1.1 with bounds.
pub fn http() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    builder
}

/// Serves one connection of the main listener to its end.
pub async fn serve(handler: Arc<Handler>, acceptor: Acceptor, tcp: TcpStream, address: IpAddr) {
    // Keystrokes must not wait for more.
    let _ = tcp.set_nodelay(true);
    let tls = match timeout(HANDSHAKE, acceptor.tls.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%address, "TLS handshake not done within {HANDSHAKE:?}"),
    };
    let chain = tls.get_ref().1.peer_certificates();
    let certificate = chain.zip(acceptor.clients).and_then(|(chain, verifier)| ClientCert::new(chain, verifier)).map(Arc::new);
    let client = Client { address, certificate, relay: Arc::new(Mutex::new(None)) };
    let relay = client.relay.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, client) = (handler.clone(), client.clone());
        async move { Ok::<_, Infallible>(handler.answer(request, &client).await) }
    });
    if let Err(error) = http().serve_connection(TokioIo::new(tls), service).with_upgrades().await {
        tracing::debug!(%address, %error, "connection broke");
    }
    let relay: Option<Relay> = relay.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(relay) = relay {
        relay.run().await;
    }
}
