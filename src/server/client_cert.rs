//! Client certificates: any may be shown in the handshake, each request decides anew whether it counts.
//!
//! Upstream does the same (`tls.RequestClientCert`, then k8s.io/apiserver/pkg/authentication/request/x509): a certificate that doesn't
//! count must not stand in the way of a good token, and one that expires must not be good for as long as its connection lives.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::authn::{self, User};

/// Decides about certificates.
pub type Verifier = Arc<dyn ClientCertVerifier>;

/// Takes any certificate whose key the client has. What it is worth is asked later, of the verifier inside.
#[derive(Debug)]
pub struct AnyClient(pub Verifier);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What a connection's certificate is worth to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// There is none, or it names nobody.
    Nothing,
    /// It is this user's.
    User(Arc<User>),
    /// It doesn't count: of another authority, expired, not made for clients.
    Bad(String),
}

/// The certificate of a connection.
#[derive(Debug)]
pub struct ClientCert {
    chain: Vec<CertificateDer<'static>>,
    verifier: Verifier,
    user: Option<Arc<User>>,
}

impl ClientCert {
    /// The chain that the client has shown, its own certificate first; `None` when it is empty.
    pub fn new(chain: &[CertificateDer<'static>], verifier: Verifier) -> Option<Self> {
        let user = authn::of_certificate(chain.first()?).map(Arc::new);
        Some(Self { chain: chain.to_vec(), verifier, user })
    }

    /// What it is worth at a moment.
    pub fn at(&self, now: UnixTime) -> Shown {
        let Some((own, others)) = self.chain.split_first() else { return Shown::Nothing };
        match (self.verifier.verify_client_cert(own, others, now), &self.user) {
            (Err(error), _) => Shown::Bad(error.to_string()),
            (Ok(_), Some(user)) => Shown::User(user.clone()),
            (Ok(_), None) => Shown::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    #[test]
    fn a_certificate_counts_until_it_expires() {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(ca.self_signed(&ca_key).unwrap().der().clone()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "admin");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let own = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();

        let shown = ClientCert::new(&[own], verifier).unwrap();
        // 2030-01-01 is 1,893,456,000 seconds after the epoch.
        let at = |seconds| shown.at(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert!(matches!(at(1_893_455_999), Shown::User(user) if user.name == "admin"));
        assert!(matches!(at(1_893_456_001), Shown::Bad(_)));
    }
}
