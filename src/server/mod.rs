//! The agent's own listeners: what the API server asks the node for (10250, TLS), and the plain health check (10248).
//!
//! In: requests of the API server, of monitoring and of people. Out: answers from the other rooms, and bytes of containers.
//! Owns: the two sockets, the serving certificate where none is given, short-lived caches of who may do what.
//! Survives a restart: the certificate.
//!
//! A request goes `listen` → `connection` (TLS) → `handler`: `authn` → `authz` → `routes` → `logs`, `node_logs`, `pods`, `streams`.

pub mod authn;
pub mod authz;
mod cache;
mod client_cert;
mod connection;
mod handler;
pub mod health;
mod listen;
mod logs;
pub mod node_logs;
mod pods;
mod query;
mod relay;
mod reload;
mod response;
mod routes;
mod self_signed;
pub mod services;
mod streams;
pub mod tls;
mod upgrade;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::api::Api;
use crate::pods::PodLookup;
use crate::runtime::Runtime;

/// Connections of the main listener. Followed logs and open shells count.
const CONNECTIONS: usize = 512;
/// Connections of the plain health listener.
const HEALTH_CONNECTIONS: usize = 16;

/// What the configuration says about the main listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// `address`.
    pub address: IpAddr,
    /// `port`.
    pub port: u16,
    /// The Node object's name.
    pub node_name: String,
    /// Certificates.
    pub tls: tls::TlsSettings,
    /// `authentication`.
    pub authentication: authn::AuthnSettings,
    /// `authorization`.
    pub authorization: authz::AuthzSettings,
    /// The directory behind `/logs/`, if `enableSystemLogHandler`.
    pub system_logs: Option<PathBuf>,
    /// `enableDebuggingHandlers`.
    pub debugging_handlers: bool,
    /// `streamingConnectionIdleTimeout`.
    pub streaming_idle_timeout: Duration,
}

/// The rest of the agent, as the server needs it.
#[derive(Clone)]
pub struct Parts {
    /// Asked about tokens and rights.
    pub api: Arc<dyn Api>,
    /// Asked for streams.
    pub runtime: Arc<dyn Runtime>,
    /// Asked about pods.
    pub pods: Arc<dyn PodLookup>,
    /// Gives `{"kubeletconfig": …}` with the whole effective configuration.
    pub configz: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Fails when the agent has not looked at its pods for too long.
    pub sync_loop: health::Check,
}

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The socket.
    #[error("can't listen on {address}: {source}; if another kubelet runs on this host, stop it first")]
    Bind {
        /// Address and port.
        address: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
}

fn bind(address: IpAddr, port: u16) -> Result<TcpListener, Error> {
    listen::bind(address, port).map_err(|source| Error::Bind { address: SocketAddr::new(address, port), source })
}

/// The main listener.
pub struct Server {
    listener: TcpListener,
    certificates: reload::Certificates,
    handler: handler::Handler,
}

impl Server {
    /// Reads or makes certificates and opens the socket: everything that can go wrong at the start.
    pub fn bind(settings: ServerSettings, parts: Parts) -> Result<Self, Error> {
        let certificates = reload::Certificates::load(settings.tls.clone())?;
        let listener = bind(settings.address, settings.port)?;
        Ok(Self { listener, certificates, handler: handler::Handler::new(settings, parts) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever. Dropping the future closes all connections.
    pub async fn run(self) {
        let Self { listener, mut certificates, handler } = self;
        let handler = Arc::new(handler);
        listen::serve(listener, CONNECTIONS, |tcp, address| connection::serve(handler.clone(), certificates.acceptor(), tcp, address))
            .await;
    }
}

/// The plain health listener (`healthzBindAddress`, `healthzPort`). kubeadm waits for it before there is a certificate.
pub struct HealthzServer(TcpListener);

impl HealthzServer {
    /// Opens the socket.
    pub fn bind(address: IpAddr, port: u16) -> Result<Self, Error> {
        bind(address, port).map(Self)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves for ever.
    pub async fn run(self) {
        listen::serve(self.0, HEALTH_CONNECTIONS, |tcp, _| async {
            let answer = |request: Request<Incoming>| async move { Ok::<_, Infallible>(healthz(&request)) };
            let _ = connection::http().serve_connection(TokioIo::new(tcp), service_fn(answer)).await;
        })
        .await;
    }
}

fn healthz(request: &Request<Incoming>) -> http::Response<response::Body> {
    let path = query::path(request.uri().path()).unwrap_or_default();
    let query = query::Query::parse(request.uri().query()).unwrap_or_default();
    match routes::find(request.method(), &path, true) {
        Ok(routes::Route::Health(check)) => health::Checks::ping().answer(check.as_deref(), &query),
        _ => response::text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

#[cfg(test)]
mod tests;
