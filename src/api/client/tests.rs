//! The client against a TLS server in this process.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::api::ErrorKind;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA")
}

struct Server {
    ca: CertifiedIssuer<'static, KeyPair>,
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Answers every request with `answer`, one a connection; never when there is none. Its certificate is made out to `name`.
async fn serve(name: &str, answer: Option<&'static str>) -> Server {
    let ca = authority();
    let key = KeyPair::generate().expect("key");
    let certificate = CertificateParams::new([name.to_owned()]).and_then(|p| p.signed_by(&key, &ca)).expect("certificate");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|c| c.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key))
        .expect("server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let port = listener.local_addr().expect("address").port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, seen) = (TlsAcceptor::from(Arc::new(config.clone())), seen.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(tcp).await?;
                let mut buffer = vec![0; 8192];
                let n = stream.read(&mut buffer).await?;
                seen.lock().expect("lock").push(String::from_utf8_lossy(&buffer[..n]).into_owned());
                match answer {
                    Some(answer) => stream.write_all(answer.as_bytes()).await?,
                    None => std::future::pending().await,
                }
                stream.shutdown().await
            });
        }
    });
    Server { ca, port, requests }
}

fn api(server: &Server, ca: CertificateDer<'static>) -> KubeApi {
    let access = Access {
        server: format!("https://127.0.0.1:{}/prefix", server.port).parse().expect("URL"),
        server_name: None,
        ca: vec![ca],
        ca_source: "/etc/kubernetes/pki/ca.crt".into(),
        identity: None,
        token: Some(crate::api::kubeconfig::Token::Fixed("secret-token".into())),
    };
    KubeApi::new(access, "node-a", "v1.36.3").expect("client")
}

/// Ends with the connection, so that nobody has to count.
const NODE: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
    {\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"node-a\",\"managedFields\":[]}}";
const GARBAGE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwhat";

async fn failure(server: &Server, ca: CertificateDer<'static>) -> String {
    let error = api(server, ca).node().await.expect_err("fails");
    assert!(matches!(error.kind, ErrorKind::Unavailable(_)) && error.is_transient(), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_call_says_who_asks_and_leaves_managed_fields_behind() {
    let server = serve("127.0.0.1", Some(NODE)).await;
    let node = api(&server, server.ca.der().clone()).node().await.expect("answer");
    assert_eq!((node.metadata.name.as_deref(), node.metadata.managed_fields), (Some("node-a"), None));
    let request = server.requests.lock().expect("lock").join("");
    assert!(request.starts_with("GET /prefix/api/v1/nodes/node-a HTTP/1.1\r\n"), "{request}");
    for header in ["user-agent: kubelet/v1.36.3 ", "authorization: Bearer secret-token", "accept: application/json"] {
        assert!(request.contains(header), "{request}");
    }
}

#[tokio::test]
async fn a_certificate_that_can_not_be_verified_is_one_clear_line() {
    let server = serve("127.0.0.1", Some(NODE)).await;
    let error = failure(&server, authority().der().clone()).await;
    let want = format!(
        "the certificate of API server 127.0.0.1:{} can't be verified with /etc/kubernetes/pki/ca.crt: it was signed by another authority",
        server.port
    );
    assert!(error.contains(&want) && !error.contains('\n'), "{error}");
    assert!(server.requests.lock().expect("lock").is_empty(), "nothing is said to a stranger");

    let other = serve("10.0.0.1", Some(NODE)).await;
    let error = failure(&other, other.ca.der().clone()).await;
    assert!(error.contains("it is not made out to \"127.0.0.1\""), "{error}");
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() {
    let server = serve("127.0.0.1", Some(GARBAGE)).await;
    assert!(failure(&server, server.ca.der().clone()).await.contains("the answer makes no sense"));
    let server = serve("127.0.0.1", Some("no HTTP at all\r\n\r\n")).await;
    failure(&server, server.ca.der().clone()).await;
    let server = serve("127.0.0.1", Some("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")).await;
    assert!(failure(&server, server.ca.der().clone()).await.contains("broke off"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let mut server = serve("127.0.0.1", None).await;
    server.port = 1;
    let error = failure(&server, server.ca.der().clone()).await;
    assert!(error.contains("no connection to 127.0.0.1:1") && error.contains("refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let server = serve("127.0.0.1", None).await;
    let error = failure(&server, server.ca.der().clone()).await;
    assert!(error.contains("within 10s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_is_part_of_the_deadline_and_reviews_have_their_own_turns() {
    let server = serve("127.0.0.1", None).await;
    let api = api(&server, server.ca.der().clone());
    let begun = tokio::time::Instant::now();
    let calls = (0..30).map(|_| api.config_map("ns", "name"));
    let (calls, review) = tokio::join!(futures::future::join_all(calls), api.review_token("token"));
    assert!(calls.iter().all(Result::is_err) && review.is_err());
    assert!(begun.elapsed() < std::time::Duration::from_secs(11), "{:?}", begun.elapsed());
    let requests = server.requests.lock().expect("lock");
    assert!(requests.iter().any(|request| request.contains("tokenreviews")), "the review was sent");
}
