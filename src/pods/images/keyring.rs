//! Registry credentials from image pull secrets, and which of them an image is pulled with. Pure.
//!
//! Rules from pkg/credentialprovider of Kubernetes: entries are `host[:port][/path]`, hosts may hold `*`, paths match by prefix,
//! the most specific entry comes first, and all that match are tried in turn.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use crate::model::base64;
use crate::runtime::RegistryAuth;

/// What Docker Hub's credentials are filed under, for historical reasons.
const DOCKER_HUB: &str = "index.docker.io";

/// Credentials by the place that they are for.
#[derive(Debug, Default)]
pub struct Keyring {
    entries: Vec<(String, RegistryAuth)>,
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    auth: String,
}

impl Keyring {
    /// Adds what an image pull secret holds. Other types of Secrets hold nothing for registries and add nothing.
    pub fn add_secret(&mut self, secret: &Secret) -> Result<(), String> {
        let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice()).filter(|b| !b.is_empty());
        match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson").map_or(Ok(()), |json| self.add_config_json(json)),
            Some("kubernetes.io/dockercfg") => {
                data(".dockercfg").map_or(Ok(()), |json| self.add(serde_json::from_slice(json).map_err(|e| not_json(".dockercfg", &e))?))
            }
            _ => Ok(()),
        }
    }

    /// Adds the contents of a Docker `config.json`.
    pub fn add_config_json(&mut self, json: &[u8]) -> Result<(), String> {
        let config: ConfigJson = serde_json::from_slice(json).map_err(|e| not_json(".dockerconfigjson", &e))?;
        self.add(config.auths)
    }

    fn add(&mut self, logins: BTreeMap<String, Login>) -> Result<(), String> {
        for (place, login) in logins {
            let auth = login.into_auth().ok_or_else(|| format!("the auth field for {place} is not base64 of username:password"))?;
            self.entries.push((key_of(&place), auth));
        }
        // The reverse order of texts has longer paths before their prefixes.
        self.entries.sort_by(|a, b| b.0.cmp(&a.0));
        Ok(())
    }

    /// The credentials to try for a repository such as `registry.example/team/app`, in this order.
    pub fn find(&self, repository: &str) -> Vec<RegistryAuth> {
        let of = |test: &dyn Fn(&str) -> bool| -> Vec<RegistryAuth> {
            self.entries.iter().filter(|(key, _)| test(key)).map(|(_, auth)| auth.clone()).collect()
        };
        let found = of(&|key| covers(key, repository));
        if found.is_empty() && repository.starts_with("docker.io/") { of(&|key| key == DOCKER_HUB) } else { found }
    }
}

impl Login {
    fn into_auth(self) -> Option<RegistryAuth> {
        let (username, password) = if self.auth.is_empty() {
            (self.username, self.password)
        } else {
            let text = String::from_utf8(base64::decode(&self.auth)?).ok()?;
            let (user, password) = text.split_once(':')?;
            (user.to_owned(), password.to_owned())
        };
        // No server name: runtimes compare it with the registry's host literally, and an entry may hold a path or a wildcard.
        Some(RegistryAuth { username, password, ..RegistryAuth::default() })
    }
}

fn not_json(key: &str, error: &serde_json::Error) -> String {
    // The parser's own words could repeat a password.
    format!("{key} is not what Docker writes (line {}, column {})", error.line(), error.column())
}

/// `https://host/v1/` and `host/v2/` mean the host; everything else keeps its path.
fn key_of(place: &str) -> String {
    let bare = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
    let path = match path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/v2/")) {
        Some(rest) => format!("/{rest}"),
        None => path.to_owned(),
    };
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

fn covers(key: &str, repository: &str) -> bool {
    let split = |s: &'_ str| s.find('/').unwrap_or(s.len());
    let (key_host, key_path) = key.split_at(split(key));
    let (host, path) = repository.split_at(split(repository));
    let port = |h: &str| h.rsplit_once(':').map(|(_, p)| p.to_owned());
    let name = |h: &str| h.rsplit_once(':').map_or(h, |(n, _)| n).to_owned();
    if port(key_host) != port(host) || !path.starts_with(key_path) {
        return false;
    }
    let (key_name, name) = (name(key_host), name(host));
    key_name.split('.').count() == name.split('.').count() && key_name.split('.').zip(name.split('.')).all(|(g, n)| glob(g, n))
}

/// `*` stands for any number of characters of one part of a host name.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = text.find(piece) else { return false };
        text = text.get(at + piece.len()..).unwrap_or_default();
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(kind: &str, key: &str, json: &str) -> Secret {
        Secret {
            type_: Some(kind.into()),
            data: Some([(key.to_owned(), ByteString(json.as_bytes().to_vec()))].into()),
            ..Default::default()
        }
    }

    fn users(keyring: &Keyring, repository: &str) -> Vec<String> {
        keyring.find(repository).into_iter().map(|a| a.username).collect()
    }

    #[test]
    fn places_match_images() {
        let table = [
            ("host.example", "host.example/a/b", true),
            ("host.example/a", "host.example/a/b", true),
            ("host.example/b", "host.example/a/b", false),
            ("host.example:5000", "host.example/a", false),
            ("host.example:5000", "host.example:5000/a", true),
            ("https://host.example/v1/", "host.example/a", true),
            ("http://host.example/v2/team", "host.example/team/a", true),
            ("*.example", "host.example/a", true),
            ("*.example", "a.host.example/a", false),
            ("h*t.ex*le", "host.example/a", true),
            ("h*x.example", "host.example/a", false),
            ("docker.io", "docker.io/library/a", true),
            ("https://index.docker.io/v1/", "docker.io/library/a", true),
            ("index.docker.io", "other.example/a", false),
            ("[fd00::1]:5000", "[fd00::1]:5000/a", true),
        ];
        for (place, repository, want) in table {
            let mut keyring = Keyring::default();
            keyring.add([(place.to_owned(), Login { username: "u".into(), ..Default::default() })].into()).unwrap();
            assert_eq!(!keyring.find(repository).is_empty(), want, "{place} {repository}");
        }
    }

    #[test]
    fn the_most_specific_comes_first_over_all_secrets() {
        let mut keyring = Keyring::default();
        // "bWU6c2U6Y3JldA" is me:se:cret without padding.
        let json = r#"{"auths":{"r.example":{"auth":"bWU6c2U6Y3JldA","email":"x"},"other":{}},"credHelpers":{}}"#;
        keyring.add_secret(&secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", json)).unwrap();
        let json = r#"{"r.example/team":{"username":"team","password":"p"},"*.example":{"username":"any"}}"#;
        keyring.add_secret(&secret("kubernetes.io/dockercfg", ".dockercfg", json)).unwrap();
        assert_eq!(users(&keyring, "r.example/team/app"), ["team", "me", "any"]);
        assert_eq!(users(&keyring, "r.example/app"), ["me", "any"]);
        assert_eq!(keyring.find("r.example/app").first().map(|a| a.password.as_str()), Some("se:cret"));
    }

    #[test]
    fn broken_secrets_are_errors_without_their_contents() {
        let mut keyring = Keyring::default();
        for json in [r#"{"auths":"hunter2"}"#, r#"{"auths":{"r":{"auth":"aHVudGVyMg=="}}}"#, r#"{"auths":{"r":{"auth":"%%"}}}"#, "hunter2"]
        {
            let error = keyring.add_secret(&secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", json)).expect_err(json);
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(keyring.add_secret(&secret("Opaque", ".dockerconfigjson", "x")), Ok(()));
        assert!(keyring.entries.is_empty());
    }
}
