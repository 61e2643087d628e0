use std::fs;

use rcgen::{CertificateParams, KeyPair};

use super::*;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn settings(&self) -> TlsSettings {
        TlsSettings {
            files: None,
            cert_dir: self.path("pki"),
            hostname: "node".into(),
            ips: vec![],
            client_ca_file: None,
            min_version: MinVersion::default(),
            cipher_suites: vec![],
        }
    }
    fn pair(&self, name: &str) -> CertFiles {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["node".to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = CertFiles { cert: self.path(&format!("{name}.crt")), key: self.path(&format!("{name}.key")) };
        fs::write(&files.cert, cert.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

fn refusal(settings: &TlsSettings) -> String {
    match server_config(settings) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn no_sessions_and_no_h2() {
    let dir = Dir::new();
    let Tls { config, clients } = server_config(&dir.settings()).unwrap();
    assert!(clients.is_none());
    assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    assert!(!config.session_storage.can_cache());
    assert_eq!(config.send_tls13_tickets, 0);
}

#[test]
fn files_and_fields_are_named() {
    let dir = Dir::new();
    let (good, other) = (dir.pair("good"), dir.pair("other"));
    let garbage = dir.path("garbage");
    fs::write(&garbage, "garbage").unwrap();
    let with = |cert: &Path, key: &Path, ca: Option<&Path>| TlsSettings {
        files: Some(CertFiles { cert: cert.into(), key: key.into() }),
        client_ca_file: ca.map(Into::into),
        ..dir.settings()
    };
    server_config(&with(&good.cert, &good.key, Some(&good.cert))).unwrap();
    let gone = dir.path("gone");
    for (settings, field, file) in [
        (with(&gone, &good.key, None), "tlsCertFile", &gone),
        (with(&garbage, &good.key, None), "tlsCertFile", &garbage),
        (with(&good.cert, &gone, None), "tlsPrivateKeyFile", &gone),
        (with(&good.cert, &garbage, None), "tlsPrivateKeyFile", &garbage),
        (with(&good.cert, &other.key, None), "tlsPrivateKeyFile", &other.key),
        (with(&good.cert, &good.key, Some(&gone)), "authentication.x509.clientCAFile", &gone),
        (with(&good.cert, &good.key, Some(&garbage)), "authentication.x509.clientCAFile", &garbage),
        (with(&good.cert, &good.key, Some(&good.key)), "authentication.x509.clientCAFile", &good.key),
    ] {
        let text = refusal(&settings);
        assert!(text.contains(field) && text.contains(&*file.to_string_lossy()), "{text}");
    }
}

#[test]
fn cipher_suites() {
    let names = |wanted: &[&str]| {
        let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        let names = provider(&wanted).map(|p| p.cipher_suites.iter().filter_map(|s| s.suite().as_str()).collect::<Vec<_>>());
        names.map_err(|e| e.to_string())
    };
    assert_eq!(names(&[]).unwrap().len(), 9);
    let one = names(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap();
    assert_eq!(one.iter().filter(|name| name.starts_with("TLS_")).collect::<Vec<_>>(), [&"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(one.len(), 4);
    assert_eq!(names(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).unwrap().len(), 4);
    assert_eq!(names(&["TLS_AES_128_GCM_SHA256"]).unwrap().len(), 3);
    assert!(names(&["TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap_err().contains("tlsCipherSuites"));
}
