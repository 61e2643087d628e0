//! A server on loopback and clients for it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fakes::{FakePods, FakeStreams};
use crate::api::fake::FakeApi;
use crate::server::authn::AuthnSettings;
use crate::server::authz::AuthzSettings;
use crate::server::tls::{CertFiles, MinVersion, TlsSettings};
use crate::server::{Parts, Server, ServerSettings};

/// A certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A client's certificate and key.
pub struct Identity {
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Ca {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test ca");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn client(&self, name: &str, organisations: &[&str]) -> Identity {
        self.identity(name, organisations, |_| ())
    }

    pub fn expired(&self, name: &str) -> Identity {
        self.identity(name, &[], |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1))
    }

    fn identity(&self, name: &str, organisations: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        for organisation in organisations {
            params.distinguished_name.push(DnType::OrganizationName, *organisation);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Identity { cert, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }
}

/// A running server.
pub struct Lab {
    pub address: SocketAddr,
    pub api: FakeApi,
    pub pods: Arc<FakePods>,
    pub runtime: Arc<FakeStreams>,
    pub ca: Ca,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lab {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with_files() -> (tempfile::TempDir, Self) {
        let dir = tempfile::tempdir().unwrap();
        write_certificate(dir.path());
        let files = CertFiles { cert: dir.path().join("tls.crt"), key: dir.path().join("tls.key") };
        let lab = Self::with(|settings| settings.tls.files = Some(files)).await;
        (dir, lab)
    }

    pub async fn with(change: impl FnOnce(&mut ServerSettings)) -> Self {
        let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
        let client_ca = dir.path().join("ca.crt");
        std::fs::write(&client_ca, &ca.pem).unwrap();
        let mut settings = ServerSettings {
            address: "127.0.0.1".parse().unwrap(),
            port: 0,
            node_name: "node".into(),
            tls: TlsSettings {
                files: None,
                cert_dir: dir.path().into(),
                hostname: "node".into(),
                ips: vec![],
                client_ca_file: Some(client_ca),
                min_version: MinVersion::default(),
                cipher_suites: vec![],
            },
            authentication: AuthnSettings { anonymous: false, webhook: true, cache_ttl: Duration::from_secs(120) },
            authorization: AuthzSettings::Webhook { allowed_ttl: Duration::from_secs(300), denied_ttl: Duration::from_secs(30) },
            system_logs: Some(dir.path().into()),
            debugging_handlers: true,
            streaming_idle_timeout: Duration::from_secs(4 * 3600),
        };
        change(&mut settings);
        let api = FakeApi::new("node");
        let (pods, runtime) = (Arc::new(FakePods::default()), Arc::new(FakeStreams::default()));
        let parts = Parts {
            api: Arc::new(api.clone()),
            runtime: runtime.clone(),
            pods: pods.clone(),
            configz: Arc::new(|| json!({"kubeletconfig": {}})),
            sync_loop: Arc::new(|| Ok(())),
        };
        let server = Server::bind(settings, parts).unwrap();
        let address = server.local_addr().unwrap();
        Self { address, api, pods, runtime, ca, task: tokio::spawn(server.run()), _dir: dir }
    }

    /// A client whom the fake API server allows everything, as long as no test has restricted rights.
    pub async fn admin(&self) -> Client {
        self.client(Some(&self.ca.client("admin", &[]))).await.unwrap()
    }

    pub async fn client(&self, identity: Option<&Identity>) -> io::Result<Client> {
        let tls = self.tls(identity).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        Ok(Client(sender))
    }

    pub async fn server_certificate(&self) -> CertificateDer<'static> {
        let tls = self.tls(None).await.unwrap();
        tls.get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    pub fn replace_certificate(&self, dir: &Path) -> CertificateDer<'static> {
        write_certificate(dir);
        CertificateDer::from_pem_file(dir.join("tls.crt")).unwrap()
    }

    async fn tls(&self, identity: Option<&Identity>) -> io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer));
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_auth_cert(vec![identity.cert.clone()], identity.key.clone_key()).unwrap(),
        };
        let tcp = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("node").unwrap(), tcp).await
    }
}

fn write_certificate(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["node".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.join("tls.crt"), cert.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
}

/// One connection.
pub struct Client(SendRequest<Empty<Bytes>>);

impl Client {
    pub async fn get(&mut self, path: &str) -> (u16, String) {
        self.send("GET", path, &[]).await
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let response = self.try_send(method, path, headers).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header("host", "node");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.0.send_request(request.body(Empty::new()).unwrap()).await
    }
}

/// A request without TLS.
pub async fn plain(address: SocketAddr, path: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
