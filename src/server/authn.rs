//! Who is asking: client certificate, bearer token, or, where that is allowed, nobody in particular.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::cache::Cache;
use super::client_cert::Shown;
use crate::api::{self, Api};

/// Tokens whose owner is remembered.
const CACHED_TOKENS: usize = 128;
/// Longer tokens are looked up each time: memory matters more than their speed.
const LONGEST_CACHED: usize = 4096;

/// `authentication` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthnSettings {
    /// `authentication.anonymous.enabled`.
    pub anonymous: bool,
    /// `authentication.webhook.enabled`: whether bearer tokens are accepted.
    pub webhook: bool,
    /// `authentication.webhook.cacheTTL`.
    pub cache_ttl: Duration,
}

/// Who is asking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// The user's UID; empty when unknown.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why nobody was recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No credentials, or wrong ones.
    #[error("Unauthorized")]
    Unauthorized,
    /// The API server could not be asked whose token it is.
    #[error("the bearer token can't be checked now, because the API server can't be asked about it")]
    Unavailable(#[source] api::Error),
}

/// Recognises users.
pub struct Authenticator {
    api: Arc<dyn Api>,
    settings: AuthnSettings,
    /// Wrong tokens are remembered too, as `None`.
    tokens: Mutex<Cache<Option<Arc<User>>>>,
}

impl Authenticator {
    /// An authenticator that remembers nobody yet.
    pub fn new(api: Arc<dyn Api>, settings: AuthnSettings) -> Self {
        Self { api, settings, tokens: Mutex::new(Cache::new(CACHED_TOKENS)) }
    }

    /// Recognises a user by the connection's certificate or else by the request's token. Who shows a certificate that doesn't count,
    /// and nothing better, is not let in as nobody in particular.
    pub async fn authenticate(&self, certificate: Shown, headers: &HeaderMap) -> Result<Arc<User>, Error> {
        if let Shown::User(user) = certificate {
            return Ok(user);
        }
        match bearer_token(headers) {
            Some(token) if self.settings.webhook => self.token(token).await?.ok_or(Error::Unauthorized),
            _ if certificate != Shown::Nothing => Err(Error::Unauthorized),
            _ if self.settings.anonymous => Ok(Arc::new(anonymous())),
            _ => Err(Error::Unauthorized),
        }
    }

    async fn token(&self, token: &str) -> Result<Option<Arc<User>>, Error> {
        if let Some(known) = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(token, Instant::now()) {
            return Ok(known);
        }
        let status = self.api.review_token(token).await.map_err(|error| {
            tracing::warn!(%error, "can't check a bearer token");
            Error::Unavailable(error)
        })?;
        let user = reviewed(status).map(Arc::new);
        if token.len() <= LONGEST_CACHED {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.put(token.to_owned(), user.clone(), self.settings.cache_ttl, Instant::now());
        }
        Ok(user)
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn anonymous() -> User {
    User { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..User::default() }
}

const AUTHENTICATED: &str = "system:authenticated";

fn reviewed(status: TokenReviewStatus) -> Option<User> {
    let user = status.user.filter(|_| status.authenticated == Some(true))?;
    let mut groups = user.groups.unwrap_or_default();
    if !groups.iter().any(|g| g == AUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    Some(User {
        name: user.username.filter(|name| !name.is_empty())?,
        uid: user.uid.unwrap_or_default(),
        groups,
        extra: user.extra.unwrap_or_default().into_iter().collect(),
    })
}

/// The user of a client certificate, which is still to be verified: common name and organisations. `None` when it names nobody.
pub fn of_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    // Go takes the last one where there are several, and the API server must not see another user than we do.
    let name = subject.iter_common_name().last()?.as_str().ok().filter(|name| !name.is_empty())?.to_owned();
    let mut groups: Vec<String> = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    groups.push(AUTHENTICATED.into());
    Some(User { name, groups, ..User::default() })
}

#[cfg(test)]
mod tests;
