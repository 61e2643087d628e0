//! TLS of the main listener: the serving certificate and the check of client certificates.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::client_cert::{AnyClient, Verifier};
use super::self_signed;

/// `tlsMinVersion`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// `VersionTLS12`, and what is older: nothing below 1.2 is spoken.
    #[default]
    Tls12,
    /// `VersionTLS13`.
    Tls13,
}

/// What the listener shows and demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// `tlsCertFile` and `tlsPrivateKeyFile`. Without them a certificate is made in `cert_dir`.
    pub files: Option<CertFiles>,
    /// Where `kubelet.crt` and `kubelet.key` are made (`--cert-dir`).
    pub cert_dir: PathBuf,
    /// Name for a certificate that is made.
    pub hostname: String,
    /// Addresses for a certificate that is made.
    pub ips: Vec<IpAddr>,
    /// `authentication.x509.clientCAFile`. Without it no client certificates are asked for.
    pub client_ca_file: Option<PathBuf>,
    /// `tlsMinVersion`.
    pub min_version: MinVersion,
    /// `tlsCipherSuites`, by IANA name; empty for the defaults. As in upstream they don't touch TLS 1.3.
    pub cipher_suites: Vec<String>,
}

/// A certificate chain and its key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFiles {
    /// Certificate chain, the node's own first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// What is wrong with the settings or with the files that they name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read, or it holds no PEM of the right kind.
    #[error("{field}: can't use {}: {why}", path.display())]
    File {
        /// The field of the configuration.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key don't fit each other, or rustls can't work with them.
    #[error("tlsCertFile, tlsPrivateKeyFile: can't use {} with {}: {source}", files.cert.display(), files.key.display())]
    Pair {
        /// The files.
        files: CertFiles,
        /// What is wrong.
        source: rustls::Error,
    },
    /// No cipher suite is left.
    #[error("tlsCipherSuites: none of {0:?} is supported; leave the field empty, or name ECDHE suites with AES-GCM or ChaCha20-Poly1305")]
    Ciphers(Vec<String>),
    /// The certificate could not be made.
    #[error(transparent)]
    SelfSigned(#[from] self_signed::Error),
}

/// What connections are accepted with.
pub struct Tls {
    /// For the handshake.
    pub config: ServerConfig,
    /// Says which client certificates count; `None` when none is asked for.
    pub clients: Option<Verifier>,
}

/// Reads the files, makes a certificate where none is given, and puts all together. Blocking.
pub fn server_config(settings: &TlsSettings) -> Result<Tls, Error> {
    let provider = Arc::new(provider(&settings.cipher_suites)?);
    let versions: &[&SupportedProtocolVersion] = match settings.min_version {
        MinVersion::Tls12 => &[&rustls::version::TLS12, &rustls::version::TLS13],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let files = match &settings.files {
        Some(files) => files.clone(),
        None => self_signed::ensure(&settings.cert_dir, &settings.hostname, &settings.ips)?,
    };
    let pair = |source| Error::Pair { files: files.clone(), source };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(pair)?;
    let clients: Option<Verifier> = match &settings.client_ca_file {
        None => None,
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(client_cas(path)?), provider).build();
            Some(verifier.map_err(|e| file(CLIENT_CA, path, e))?)
        }
    };
    let builder = match &clients {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::new(AnyClient(verifier.clone()))),
    };
    let chain = certificates("tlsCertFile", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| file("tlsPrivateKeyFile", &files.key, e))?;
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    // Connections can only be upgraded in HTTP/1.1, and exec needs that.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // The API server keeps its connections: resumption would cost memory for nothing.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Tls { config, clients })
}

const CLIENT_CA: &str = "authentication.x509.clientCAFile";

fn provider(wanted: &[String]) -> Result<CryptoProvider, Error> {
    let mut provider = rustls::crypto::ring::default_provider();
    if wanted.is_empty() {
        return Ok(provider);
    }
    // Old configurations leave the hash out of two names (k8s.io/component-base/cli/flag/ciphersuites_flag.go).
    let is = |suite: &rustls::SupportedCipherSuite, name: &str| {
        let known = suite.suite().as_str().unwrap_or_default();
        known == name || (name.ends_with("POLY1305") && known.strip_suffix("_SHA256") == Some(name))
    };
    let named = |suite: &rustls::SupportedCipherSuite| wanted.iter().any(|name| is(suite, name));
    // Suites of TLS 1.3 can't be chosen; naming them is no mistake.
    let is_tls13 = |name: &str| !name.contains("_WITH_");
    let unknown: Vec<&String> =
        wanted.iter().filter(|name| !is_tls13(name) && !provider.cipher_suites.iter().any(|suite| is(suite, name))).collect();
    if !unknown.is_empty() {
        tracing::warn!(suites = ?unknown, "tlsCipherSuites: some suites are not supported and are left out");
    }
    provider.cipher_suites.retain(|suite| suite.tls13().is_some() || named(suite));
    if provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) && !wanted.iter().any(|name| is_tls13(name)) {
        return Err(Error::Ciphers(wanted.to_vec()));
    }
    Ok(provider)
}

fn client_cas(path: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(certificates(CLIENT_CA, path)?);
    if store.is_empty() {
        return Err(file(CLIENT_CA, path, "it holds no usable CA certificate"));
    }
    if ignored > 0 {
        tracing::warn!(file = %path.display(), ignored, "{CLIENT_CA}: some certificates can't be used and are left out");
    }
    Ok(store)
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| file(field, path, e))?.collect();
    match certificates {
        Ok(found) if found.is_empty() => Err(file(field, path, "it holds no certificate in PEM form")),
        Ok(found) => Ok(found),
        Err(e) => Err(file(field, path, e)),
    }
}

fn file(field: &'static str, path: &Path, why: impl ToString) -> Error {
    Error::File { field, path: path.into(), why: why.to_string() }
}

#[cfg(test)]
mod tests;
