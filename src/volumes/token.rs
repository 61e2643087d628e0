//! Service account tokens for pods.
//!
//! In: token projections. Out: tokens. Owns: the tokens in use, until their pod is torn down. Survives a restart: the tokens in the
//! volumes, which are read back, so that a restart asks the API server for nothing.
//!
//! Times from pkg/kubelet/token of Kubernetes: a new token after 80 % of the life of the old one or after 24 hours, a little earlier
//! by chance; an old one is better than none until it expires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequestSpec, TokenRequestStatus};
use k8s_openapi::api::core::v1::ServiceAccountTokenProjection;
use serde::Deserialize;
use tokio::time::Instant;

use super::authorizer;
use super::context::{PodContext, spread};
use super::problem::Problem;
use crate::api::Api;
use crate::model::{PodUid, base64};

const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);
const JITTER: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(30);
/// What the API server takes when the spec names no life time.
const DEFAULT_LIFE: i64 = 3600;

/// A token and when to ask for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: Arc<str>,
    pub(super) refresh_at: Instant,
    expires_at: Instant,
}

impl Token {
    /// A token of which `age` of its `life` has passed.
    fn new(text: &str, uid: &PodUid, age: Duration, life: Duration) -> Self {
        // However short its life is, as it seems to be where two clocks disagree: the server is not asked all the time.
        let use_for = (life * 4 / 5).min(LONGEST_USE).saturating_sub(spread(uid, JITTER)).max(RETRY);
        let now = Instant::now();
        Self { text: text.into(), refresh_at: now + use_for.saturating_sub(age), expires_at: now + life.saturating_sub(age) }
    }
}

#[cfg(test)]
impl Token {
    /// A token good for an hour.
    pub(super) fn for_tests(text: &str) -> Self {
        Self::new(text, &PodUid::from("any"), Duration::ZERO, Duration::from_secs(3600))
    }
}

/// What makes one token of a pod another than the next: account, audience, life in seconds.
type Key = (String, String, i64);

/// The tokens of all pods.
pub(super) struct Tokens {
    api: Arc<dyn Api>,
    held: Mutex<HashMap<PodUid, HashMap<Key, Token>>>,
}

impl Tokens {
    pub(super) fn new(api: Arc<dyn Api>) -> Self {
        Self { api, held: Mutex::default() }
    }

    /// The token for a projection. `on_disk` reads what the volume holds, if anything.
    pub(super) async fn get(
        &self,
        context: &PodContext<'_>,
        source: &ServiceAccountTokenProjection,
        on_disk: impl FnOnce() -> Option<String>,
    ) -> Result<Token, Problem> {
        let account = context.pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
        let audience = source.audience.as_deref().unwrap_or_default();
        let life = source.expiration_seconds.unwrap_or(DEFAULT_LIFE);
        let key: Key = (account.to_owned(), audience.to_owned(), life);
        let uid = &context.names.uid;

        let held = self.lock().get(uid).and_then(|tokens| tokens.get(&key)).cloned();
        let old = held.or_else(|| adopt(&on_disk()?, context, account, audience, Timestamp::now()));
        let token = match old {
            Some(token) if Instant::now() < token.refresh_at => token,
            old => self.refresh(context, account, audience, life, old).await?,
        };
        self.lock().entry(uid.clone()).or_default().insert(key, token.clone());
        Ok(token)
    }

    async fn refresh(
        &self,
        context: &PodContext<'_>,
        account: &str,
        audience: &str,
        life: i64,
        old: Option<Token>,
    ) -> Result<Token, Problem> {
        let spec = request(context, audience, life);
        let namespace = &context.names.namespace;
        let answer = authorizer::once_it_knows(|| self.api.service_account_token(namespace, account, spec.clone())).await;
        match (answer, old) {
            (Ok(status), _) => {
                let life = life_of(&status, life, Timestamp::now());
                let text = status.token.filter(|t| !t.is_empty());
                let text =
                    text.ok_or_else(|| Problem::Spec(format!("the API server sent an empty token for service account {account:?}")))?;
                Ok(Token::new(&text, &context.names.uid, Duration::ZERO, life))
            }
            (Err(error), None) => Err(error.into()),
            (Err(error), Some(old)) if Instant::now() >= old.expires_at => Err(Problem::TokenExpired(error)),
            (Err(error), Some(old)) => {
                tracing::warn!(pod = %context.names, %error, "service account token not renewed; the old one stays in use");
                Ok(Token { refresh_at: (Instant::now() + RETRY).min(old.expires_at), ..old })
            }
        }
    }

    /// Forgets a pod's tokens.
    pub(super) fn forget(&self, uid: &PodUid) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PodUid, HashMap<Key, Token>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bound to the pod: the token is worth nothing once the pod is deleted.
fn request(context: &PodContext<'_>, audience: &str, life: i64) -> TokenRequestSpec {
    TokenRequestSpec {
        audiences: Some(Some(audience.to_owned()).filter(|a| !a.is_empty()).into_iter().collect()),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(context.names.name.as_ref().into()),
            uid: Some(context.names.uid.as_str().into()),
        }),
        expiration_seconds: Some(life),
    }
}

/// The life that the server granted. By the wanted one where the two clocks disagree too much to tell.
fn life_of(status: &TokenRequestStatus, wanted: i64, now: Timestamp) -> Duration {
    let granted = status.expiration_timestamp.as_ref().map(|t| t.0.as_second() - now.as_second());
    let life = granted.filter(|g| *g > 0).map_or(wanted, |g| g.min(wanted));
    Duration::from_secs(life.unsigned_abs())
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Vec<String>,
    iat: i64,
    exp: i64,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

#[derive(Deserialize)]
struct Bound {
    pod: Named,
    serviceaccount: Named,
    /// The life that was asked for, on servers that grant a longer one to find old clients.
    warnafter: Option<i64>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

/// Takes a token that an earlier agent left, when it is this pod's and still good. Nobody's signature is checked: only this agent
/// could write the file, and a wrong guess costs one rejected call.
fn adopt(text: &str, context: &PodContext<'_>, account: &str, audience: &str, now: Timestamp) -> Option<Token> {
    let claims: Claims = serde_json::from_slice(&base64::decode(text.split('.').nth(1)?)?).ok()?;
    let mine = claims.bound.pod.uid == context.names.uid.as_str() && claims.bound.serviceaccount.name == account;
    let for_audience = audience.is_empty() || claims.aud.iter().any(|a| a == audience);
    let seconds = |from: i64, to: i64| u64::try_from(to.checked_sub(from)?).ok().map(Duration::from_secs);
    let age = seconds(claims.iat, now.as_second())?;
    let life = seconds(claims.iat, claims.bound.warnafter.unwrap_or(claims.exp).min(claims.exp))?;
    (mine && for_audience && age < life).then(|| Token::new(text, &context.names.uid, age, life))
}

#[cfg(test)]
mod tests;
