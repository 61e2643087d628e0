//! The lab's own certificates and kubeconfigs, valid for nothing outside of it.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::error::{Doing as _, Error, Result};
use crate::network::{API_SERVER, KUBERNETES_SERVICE};

/// A certificate authority that writes what it issues to one folder.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes the authority `ca.crt`/`ca.key` in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).doing(|| format!("making {}", folder.display()))?;
        let failed = |source| Error::Certificate { name: "the CA".into(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "lab-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        write(folder, "ca", &certificate.pem(), &key)?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// The path of a file of this folder: "ca.crt".
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The API server's serving certificate: `apiserver.crt`.
    pub fn api_server(&self) -> Result<()> {
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
        let addresses = [API_SERVER.to_string(), KUBERNETES_SERVICE.to_string(), "127.0.0.1".to_owned()];
        let names = names.iter().map(ToString::to_string).chain(addresses).collect::<Vec<_>>();
        self.issue("apiserver", "kube-apiserver", None, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client certificate `file`.crt for a user and at most one group.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<()> {
        self.issue(file, user, group, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The pair that signs and checks service-account tokens: `sa.key`, `sa.pub`.
    pub fn service_account_key(&self) -> Result<()> {
        let key = KeyPair::generate().map_err(|source| Error::Certificate { name: "service accounts".into(), source })?;
        write_file(&self.path("sa.pub"), &key.public_key_pem())?;
        write_file(&self.path("sa.key"), &key.serialize_pem())
    }

    /// A client certificate and a kubeconfig with it, `file`.conf: its path.
    pub fn kubeconfig(&self, file: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        self.client(file, user, group)?;
        let path = self.path(&format!("{file}.conf"));
        let config = kubeconfig(&self.path("ca.crt"), &self.path(&format!("{file}.crt")), &self.path(&format!("{file}.key")));
        write_file(&path, &config)?;
        Ok(path)
    }

    fn issue(&self, file: &str, user: &str, group: Option<&str>, names: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Result<()> {
        let failed = |source| Error::Certificate { name: user.to_owned(), source };
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        write(&self.folder, file, &certificate.pem(), &key)
    }
}

/// A kubeconfig for the lab's API server. Its paths are the same on every place of the lab.
fn kubeconfig(ca: &Path, certificate: &Path, key: &Path) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster: {{server: \"https://{API_SERVER}:6443\", certificate-authority: {ca}}}
users:
- name: lab
  user: {{client-certificate: {certificate}, client-key: {key}}}
contexts:
- name: lab
  context: {{cluster: lab, user: lab}}
current-context: lab
",
        ca = ca.display(),
        certificate = certificate.display(),
        key = key.display(),
    )
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
    write_file(&folder.join(format!("{name}.crt")), certificate)?;
    write_file(&folder.join(format!("{name}.key")), &key.serialize_pem())
}

fn write_file(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).doing(|| format!("writing {}", path.display()))
}
