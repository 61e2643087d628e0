//! Certificates that change on disk while the agent runs: new connections get the new ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::client_cert::Verifier;
use super::tls::{self, TlsSettings};
use crate::sys::stamp::{self, Stamp};

/// Files are looked at when a connection comes, but not more often than this.
const LOOK: Duration = Duration::from_secs(10);

/// What a connection is accepted with.
#[derive(Clone)]
pub struct Acceptor {
    /// Does the handshake.
    pub tls: TlsAcceptor,
    /// Says which client certificates count.
    pub clients: Option<Verifier>,
}

impl From<tls::Tls> for Acceptor {
    fn from(tls: tls::Tls) -> Self {
        Self { tls: Arc::new(tls.config).into(), clients: tls.clients }
    }
}

/// The TLS configuration of the newest files that were good.
pub struct Certificates {
    settings: TlsSettings,
    acceptor: Acceptor,
    stamps: Vec<Stamp>,
    looked: Instant,
}

impl Certificates {
    /// Reads everything for the first time.
    pub fn load(settings: TlsSettings) -> Result<Self, tls::Error> {
        let acceptor = tls::server_config(&settings)?.into();
        Ok(Self { stamps: stamps(&settings), acceptor, settings, looked: Instant::now() })
    }

    /// What the next connection is to be accepted with.
    pub fn acceptor(&mut self) -> Acceptor {
        let now = Instant::now();
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.look();
        }
        self.acceptor.clone()
    }

    fn look(&mut self) {
        let stamps = stamps(&self.settings);
        if stamps == self.stamps {
            return;
        }
        // Also when the new ones are bad: this is said once for each change.
        self.stamps = stamps;
        match tls::server_config(&self.settings) {
            Ok(tls) => {
                self.acceptor = tls.into();
                tracing::info!("the certificate files have changed, new connections use them");
            }
            Err(error) => tracing::warn!(%error, "the certificate files have changed but can't be used, going on with the old ones"),
        }
    }
}

fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let pair = settings.files.iter().flat_map(|files| [&files.cert, &files.key]);
    pair.chain(&settings.client_ca_file).map(|path| stamp::of(path)).collect()
}
