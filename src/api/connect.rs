//! Connections to the API server: TCP without Nagle's delay, then TLS with the cluster's CA and the node's certificate.

mod credentials;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::kubeconfig::Access;

pub use credentials::Credentials;

/// For TCP and TLS together: a server that is there answers in milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// The kernel asks a silent peer after this time, so that a vanished API server is noticed without any work here.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why no connection was made. One line for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig's certificates don't work together.
    #[error("the kubeconfig's credentials can't be used: {0}")]
    Credentials(String),
    /// No TCP connection.
    #[error("no connection to {server}: {reason}")]
    Tcp {
        /// Host and port.
        server: String,
        /// The system's words.
        reason: String,
    },
    /// The server's certificate is not to be trusted.
    #[error(
        "the certificate of API server {server} can't be verified with {ca}: {reason}; \
         put the CA that signed it into the kubeconfig, or correct the server's name there"
    )]
    Certificate {
        /// Host and port.
        server: String,
        /// Where the CA certificates came from.
        ca: String,
        /// What is wrong.
        reason: String,
    },
    /// TLS failed otherwise.
    #[error("no TLS connection to {server}: {reason}")]
    Tls {
        /// Host and port.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// Nothing happened for too long.
    #[error("no connection to {0} within {DEADLINE:?}")]
    Deadline(String),
}

/// Makes connections for the client's pool.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    credentials: Arc<Credentials>,
    name: ServerName<'static>,
    server: Arc<str>,
    ca: Arc<str>,
}

impl Connector {
    /// Takes the certificates over.
    pub fn new(access: Access) -> Result<Self, ConnectError> {
        let bad = |error: &dyn std::error::Error| ConnectError::Credentials(error.to_string());
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(access.ca);
        if usable == 0 {
            return Err(ConnectError::Credentials(format!("no usable CA certificate in {}", access.ca_source)));
        }
        let host = access.server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = access.server_name.as_deref().unwrap_or(host).to_owned();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
        tcp.set_keepalive_retries(Some(3));
        tcp.set_tcp_user_timeout(Some(KEEPALIVE * 2));
        Ok(Self {
            tcp,
            credentials: Arc::new(Credentials::new(roots, access.identity)?),
            name: ServerName::try_from(name).map_err(|e| bad(&e))?,
            server: format!("{host}:{}", access.server.port_u16().unwrap_or(443)).into(),
            ca: access.ca_source.into(),
        })
    }

    /// What connections are made with.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }

    fn tls_error(&self, error: &io::Error) -> ConnectError {
        let server = self.server.to_string();
        match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                let reason = match reason {
                    // Every kubeadm cluster's CA has the same name: the wrong one shows as a bad signature.
                    CertificateError::UnknownIssuer | CertificateError::BadSignature => "it was signed by another authority".to_owned(),
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        format!("it is not made out to {:?}", self.name.to_str())
                    }
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                        "it has expired (is the clock right?)".to_owned()
                    }
                    other => other.to_string(),
                };
                ConnectError::Certificate { server, ca: self.ca.to_string(), reason }
            }
            _ => ConnectError::Tls { server, reason: error.to_string() },
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Tls;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Tls, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(())) // the TCP connector is always ready
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut this = self.clone();
        Box::pin(async move {
            let connect = async {
                let tcp = this.tcp.call(uri).await.map_err(|e| ConnectError::Tcp { server: this.server.to_string(), reason: chain(&e) })?;
                let tls = this.credentials.connector().connect(this.name.clone(), tcp.into_inner()).await;
                tls.map(|stream| Tls(TokioIo::new(stream))).map_err(|e| this.tls_error(&e))
            };
            timeout(DEADLINE, connect).await.unwrap_or_else(|_| Err(ConnectError::Deadline(this.server.to_string())))
        })
    }
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// A TLS connection, as hyper wants it.
pub struct Tls(TokioIo<TlsStream<TcpStream>>);

impl Connection for Tls {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Tls {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Tls {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}
