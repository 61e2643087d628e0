//! What a connection to the API server is made with: the cluster's CA, and the newest good client certificate.
//!
//! Somebody renews the certificate's files while the agent runs (kubeadm, another kubelet before this one). New connections use the new
//! files. Old ones would be refused once the old certificate has expired, but they live as long as they are used: so requests ask, for
//! a while after each renewal, that their connection be closed. TLS sessions aren't taken over either, for they carry the certificate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::ConnectError;
use crate::api::kubeconfig::{Identity, IdentityFiles};
use crate::sys::stamp::{self, Stamp};

/// Files are looked at when a request is made, but not more often than this.
const LOOK: Duration = Duration::from_secs(10);

/// Makes TLS connections.
pub struct Credentials {
    roots: Arc<RootCertStore>,
    files: Option<IdentityFiles>,
    state: Mutex<State>,
}

struct State {
    tls: TlsConnector,
    stamps: [Stamp; 2],
    looked: Instant,
    renewed: Option<Instant>,
}

impl Credentials {
    /// With what the kubeconfig says.
    pub fn new(roots: RootCertStore, identity: Option<Identity>) -> Result<Self, ConnectError> {
        let roots = Arc::new(roots);
        let files = identity.as_ref().and_then(|identity| identity.files.clone());
        let stamps = files.as_ref().map(stamps).unwrap_or_default();
        let tls = connector(&roots, identity)?;
        Ok(Self { roots, files, state: Mutex::new(State { tls, stamps, looked: Instant::now(), renewed: None }) })
    }

    /// For the next connection.
    pub fn connector(&self) -> TlsConnector {
        self.look().tls.clone()
    }

    /// Whether the certificate was renewed within this time.
    pub fn renewed_within(&self, time: Duration) -> bool {
        self.files.is_some() && self.look().renewed.is_some_and(|at| at.elapsed() < time)
    }

    fn look(&self) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = &self.files else { return state };
        if state.looked.elapsed() < LOOK {
            return state;
        }
        state.looked = Instant::now();
        let now = stamps(files);
        if now == state.stamps {
            return state;
        }
        // Also when the new ones are bad: this is said once for each change.
        state.stamps = now;
        let renewed = files.read().map_err(|problem| problem.to_string());
        match renewed.and_then(|identity| connector(&self.roots, Some(identity)).map_err(|error| error.to_string())) {
            Ok(tls) => {
                state.tls = tls;
                state.renewed = Some(Instant::now());
                tracing::info!("the client certificate was renewed, connections to the API server use the new one");
            }
            Err(error) => {
                tracing::warn!(error, "the files of the client certificate have changed but can't be used, going on with the old ones")
            }
        }
        state
    }
}

fn stamps(files: &IdentityFiles) -> [Stamp; 2] {
    [stamp::of(&files.certificate), stamp::of(&files.key)]
}

fn connector(roots: &Arc<RootCertStore>, identity: Option<Identity>) -> Result<TlsConnector, ConnectError> {
    let bad = |error: rustls::Error| ConnectError::Credentials(error.to_string());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(bad)?
        .with_root_certificates(roots.clone());
    let mut config = match identity {
        Some(Identity { chain, key, .. }) => config.with_client_auth_cert(chain, key).map_err(bad)?,
        None => config.with_no_client_auth(),
    };
    // One server: a handful of session tickets is plenty (the default keeps 256).
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    fn write(dir: &TempDir) -> rustls_pki_types::CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["node".to_owned()]).expect("certificate");
        std::fs::write(dir.path().join("node.pem"), cert.pem() + &signing_key.serialize_pem()).expect("written");
        cert.der().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn renewed_files_are_used_and_bad_ones_are_not() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut roots = RootCertStore::empty();
        roots.add(write(&dir)).expect("root");
        let path = dir.path().join("node.pem");
        let files = IdentityFiles { certificate: path.clone(), key: path.clone() };
        let identity = files.read().expect("readable");
        let credentials = Credentials::new(roots, Some(identity)).expect("credentials");
        let first = credentials.connector();
        let same = |a: &TlsConnector, b: &TlsConnector| Arc::ptr_eq(a.config(), b.config());
        assert!(same(&first, &credentials.connector()));

        std::fs::write(&path, "half a certif").expect("written");
        tokio::time::advance(LOOK).await;
        assert!(same(&first, &credentials.connector()) && !credentials.renewed_within(LOOK));
        write(&dir);
        assert!(same(&first, &credentials.connector()), "not looked at yet");
        tokio::time::advance(LOOK).await;
        assert!(!same(&first, &credentials.connector()) && credentials.renewed_within(LOOK));
        tokio::time::advance(LOOK).await;
        assert!(!credentials.renewed_within(LOOK));
    }
}
