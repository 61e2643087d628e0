//! Kubeconfig file → what is needed to talk to the API server, or one line that says what is wrong and what to do.
//!
//! Only what a node's kubeconfig holds is understood (client certificate or token); anything else is named as not supported.

mod file;

use std::fs;
use std::path::{Path, PathBuf};

use http::Uri;
use k8s_openapi::ByteString;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use file::{Cluster, Kubeconfig, User};

/// The bundle that Debian keeps for all programs: used when a kubeconfig names no CA, as client-go does.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How to reach the API server, and as whom.
#[derive(Debug)]
pub struct Access {
    /// Base URL; always `https`.
    pub server: Uri,
    /// The name that the server's certificate must have, when it isn't the URL's host.
    pub server_name: Option<String>,
    /// Certificates that the server's own must be signed by.
    pub ca: Vec<CertificateDer<'static>>,
    /// Where `ca` came from, for messages.
    pub ca_source: String,
    /// Client certificate chain and key.
    pub identity: Option<Identity>,
    /// Bearer token, when there is no client certificate.
    pub token: Option<Token>,
}

/// A client certificate.
#[derive(Debug)]
pub struct Identity {
    /// The chain, the client's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Where both came from, when that is files, which others renew.
    pub files: Option<IdentityFiles>,
}

/// The files of a client certificate; often one and the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

impl IdentityFiles {
    /// Reads what is there now. Blocking.
    pub fn read(&self) -> Result<Identity, Problem> {
        Ok(Identity {
            chain: Pem::read(CERT, self.certificate.clone())?.certificates()?,
            key: Pem::read(KEY, self.key.clone())?.key()?,
            files: Some(self.clone()),
        })
    }
}

const CERT: &str = "client-certificate";
const KEY: &str = "client-key";

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// Given in the kubeconfig.
    Fixed(String),
    /// In a file that others renew: read for each request.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// Why a kubeconfig can't be used. One line, which names the file.
#[derive(Debug, thiserror::Error)]
#[error("kubeconfig {}: {problem}", file.display())]
pub struct KubeconfigError {
    /// The kubeconfig.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file can't be read.
    #[error("can't be read: {0}; name the right file with --kubeconfig, or join this node to a cluster first (kubeadm join writes it)")]
    Unreadable(std::io::Error),
    /// No kubeconfig was named, and this is no pod.
    #[error("is for pods, and this is none; name a kubeconfig with --kubeconfig, or in clientConnection.kubeconfig of the config file")]
    NotInCluster,
    /// No YAML, or not of this kind.
    #[error("is not a valid kubeconfig: {0}; write it anew (kubeadm init phase kubeconfig kubelet, or kubeadm join)")]
    Malformed(String),
    /// No current-context.
    #[error("has no current-context; set it to the name of one of its contexts")]
    NoCurrentContext,
    /// A name that nothing in the file has.
    #[error("{from} names {kind} {name:?}, but the file has none of that name; add it to {kind}s or correct the name")]
    Missing {
        /// What refers to it.
        from: String,
        /// `context`, `cluster` or `user`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// No or a wrong server URL.
    #[error("cluster {cluster:?} has server {server:?}, which is not an https URL; set it to https://HOST:PORT")]
    Server {
        /// The cluster's name.
        cluster: String,
        /// What is there.
        server: String,
    },
    /// A credential's file is missing or unreadable.
    #[error("{what} {} can't be read: {error}; restore the file or correct its path", path.display())]
    CredentialFile {
        /// `certificate-authority`, `client-certificate` or `client-key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// A credential is there, but it is not PEM of the right kind.
    #[error("{what} ({place}) is unusable: {reason}; it must be PEM, as kubeadm writes it")]
    Credential {
        /// `certificate-authority`, `client-certificate` or `client-key`.
        what: &'static str,
        /// The file, or the field with inline data.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Certificate without key, or the other way around.
    #[error("user {user:?} has a {have} but no {lack}; a client certificate needs both")]
    HalfIdentity {
        /// The user's name.
        user: String,
        /// What is there.
        have: &'static str,
        /// What is not.
        lack: &'static str,
    },
    /// A way to authenticate that the agent doesn't have.
    #[error("{field} is not supported; use {instead}")]
    Unsupported {
        /// The field.
        field: String,
        /// What to use.
        instead: &'static str,
    },
}

/// Reads the kubeconfig's current context. Paths in it are relative to its directory.
pub fn load(file: &Path) -> Result<Access, KubeconfigError> {
    read(file).map_err(|problem| KubeconfigError { file: file.to_owned(), problem })
}

/// Where the API server and a pod's own token are, in a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Access as a pod of the cluster has it. `variable` reads the environment.
pub fn in_cluster(variable: impl Fn(&str) -> Option<String>) -> Result<Access, KubeconfigError> {
    in_cluster_at(Path::new(SERVICE_ACCOUNT), variable)
}

fn in_cluster_at(dir: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Access, KubeconfigError> {
    let read = || {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let (host, port) = given("KUBERNETES_SERVICE_HOST").zip(given("KUBERNETES_SERVICE_PORT")).ok_or(Problem::NotInCluster)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let server = format!("https://{host}:{port}");
        let ca = Pem::read("certificate-authority", dir.join("ca.crt"))?;
        Ok(Access {
            server: server.parse().map_err(|_| Problem::Server { cluster: "of this pod".to_owned(), server })?,
            server_name: None,
            ca_source: ca.place.clone(),
            ca: ca.certificates()?,
            identity: None,
            token: Some(Token::File(dir.join("token"))),
        })
    };
    read().map_err(|problem| KubeconfigError { file: dir.to_owned(), problem })
}

fn read(path: &Path) -> Result<Access, Problem> {
    let text = fs::read_to_string(path).map_err(Problem::Unreadable)?;
    let config = Kubeconfig::parse(&text).map_err(Problem::Malformed)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let context_name = config.current_context.filter(|name| !name.is_empty()).ok_or(Problem::NoCurrentContext)?;
    let missing = |from: &str, kind, name: &str| Problem::Missing { from: from.to_owned(), kind, name: name.to_owned() };
    let context = config.contexts.into_iter().find(|c| c.name == context_name);
    let context = context.ok_or_else(|| missing("current-context", "context", &context_name))?.context;
    let from = format!("context {context_name:?}");
    let cluster = config.clusters.into_iter().find(|c| c.name == context.cluster);
    let cluster = cluster.ok_or_else(|| missing(&from, "cluster", &context.cluster))?.cluster;
    let user = match config.users.into_iter().find(|u| u.name == context.user) {
        Some(named) => named.user,
        None if context.user.is_empty() => User::default(),
        None => return Err(missing(&from, "user", &context.user)),
    };
    let (ca, ca_source) = authority(dir, &cluster, &context.cluster)?;
    let identity = identity(dir, &user, &context.user)?;
    Ok(Access {
        server: server(&cluster, &context.cluster)?,
        ca,
        ca_source,
        token: if identity.is_some() { None } else { token(dir, &user, &context.user)? },
        identity,
        server_name: cluster.tls_server_name.filter(|name| !name.is_empty()),
    })
}

fn server(cluster: &Cluster, name: &str) -> Result<Uri, Problem> {
    if cluster.proxy_url.as_deref().is_some_and(|url| !url.is_empty()) {
        return Err(unsupported(format!("proxy-url of cluster {name:?}"), "a direct connection"));
    }
    let uri = cluster.server.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    uri.ok_or_else(|| Problem::Server { cluster: name.to_owned(), server: cluster.server.clone() })
}

fn authority(dir: &Path, cluster: &Cluster, name: &str) -> Result<(Vec<CertificateDer<'static>>, String), Problem> {
    if cluster.insecure_skip_tls_verify {
        return Err(unsupported(format!("insecure-skip-tls-verify of cluster {name:?}"), "certificate-authority with the cluster's CA"));
    }
    let file = cluster.certificate_authority.as_deref().filter(|path| !path.is_empty()).unwrap_or(SYSTEM_CA);
    match Pem::find("certificate-authority", dir, cluster.certificate_authority_data.as_ref(), Some(file))? {
        Some(pem) => Ok((pem.certificates()?, pem.place)),
        None => Ok((Vec::new(), String::new())),
    }
}

fn identity(dir: &Path, user: &User, name: &str) -> Result<Option<Identity>, Problem> {
    let certificate = Pem::find(CERT, dir, user.client_certificate_data.as_ref(), user.client_certificate.as_deref())?;
    let key = Pem::find(KEY, dir, user.client_key_data.as_ref(), user.client_key.as_deref())?;
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let (chain, key_der) = (certificate.certificates()?, key.key()?);
            let files = certificate.file.zip(key.file).map(|(certificate, key)| IdentityFiles { certificate, key });
            Ok(Some(Identity { chain, key: key_der, files }))
        }
        (Some(_), None) => Err(Problem::HalfIdentity { user: name.to_owned(), have: CERT, lack: KEY }),
        (None, Some(_)) => Err(Problem::HalfIdentity { user: name.to_owned(), have: KEY, lack: CERT }),
    }
}

fn token(dir: &Path, user: &User, name: &str) -> Result<Option<Token>, Problem> {
    if let Some(field) = user.unsupported() {
        return Err(unsupported(format!("{field} of user {name:?}"), "client-certificate and client-key, token or tokenFile"));
    }
    let fixed = user.token.clone().filter(|token| !token.is_empty()).map(Token::Fixed);
    let file = user.token_file.as_deref().filter(|path| !path.is_empty()).map(|path| Token::File(dir.join(path)));
    Ok(fixed.or(file))
}

fn unsupported(field: String, instead: &'static str) -> Problem {
    Problem::Unsupported { field, instead }
}

/// PEM text and where it came from.
struct Pem {
    what: &'static str,
    place: String,
    /// The file that it was read from.
    file: Option<PathBuf>,
    text: Vec<u8>,
}

impl Pem {
    /// Inline data wins over a file, as in client-go.
    fn find(what: &'static str, dir: &Path, data: Option<&ByteString>, file: Option<&str>) -> Result<Option<Self>, Problem> {
        if let Some(ByteString(data)) = data.filter(|data| !data.0.is_empty()) {
            return Ok(Some(Self { what, place: format!("{what}-data"), file: None, text: data.clone() }));
        }
        let Some(path) = file.filter(|path| !path.is_empty()).map(|path| dir.join(path)) else { return Ok(None) };
        Self::read(what, path).map(Some)
    }

    fn read(what: &'static str, path: PathBuf) -> Result<Self, Problem> {
        match fs::read(&path) {
            Ok(text) => Ok(Self { what, place: path.display().to_string(), file: Some(path), text }),
            Err(error) => Err(Problem::CredentialFile { what, path, error }),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        match all {
            Ok(all) if !all.is_empty() => Ok(all),
            Ok(_) => Err(self.unusable("no certificate in it")),
            Err(error) => Err(self.unusable(&error.to_string())),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Problem> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| self.unusable(&format!("no private key in it ({error})")))
    }

    fn unusable(&self, reason: &str) -> Problem {
        Problem::Credential { what: self.what, place: self.place.clone(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests;
