//! The kubeconfig's own shape (`k8s.io/client-go/tools/clientcmd/api/v1`): only the fields that a node needs.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The whole file.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
pub struct Kubeconfig {
    pub current_context: Option<String>,
    pub contexts: Vec<NamedContext>,
    pub clusters: Vec<NamedCluster>,
    pub users: Vec<NamedUser>,
}

impl Kubeconfig {
    /// Reads YAML or JSON; the error is one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = serde_saphyr::from_str(text);
        parsed.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}

#[derive(Deserialize)]
pub struct NamedContext {
    pub name: String,
    #[serde(default)]
    pub context: Context,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Context {
    pub cluster: String,
    pub user: String,
}

#[derive(Deserialize)]
pub struct NamedCluster {
    pub name: String,
    #[serde(default)]
    pub cluster: Cluster,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
pub struct Cluster {
    pub server: String,
    pub tls_server_name: Option<String>,
    pub insecure_skip_tls_verify: bool,
    pub certificate_authority: Option<String>,
    pub certificate_authority_data: Option<ByteString>,
    pub proxy_url: Option<String>,
}

#[derive(Deserialize)]
pub struct NamedUser {
    pub name: String,
    #[serde(default)]
    pub user: User,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
pub struct User {
    pub client_certificate: Option<String>,
    pub client_certificate_data: Option<ByteString>,
    pub client_key: Option<String>,
    pub client_key_data: Option<ByteString>,
    pub token: Option<String>,
    #[serde(rename = "tokenFile")]
    pub token_file: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    username: Option<IgnoredAny>,
}

impl User {
    /// A way to authenticate that is given but not understood.
    pub fn unsupported(&self) -> Option<&'static str> {
        let all = [("exec", &self.exec), ("auth-provider", &self.auth_provider), ("username", &self.username)];
        all.into_iter().find(|(_, value)| value.is_some()).map(|(name, _)| name)
    }
}
