//! What a user may do: the API server decides, by the rules for sub-resources of this node.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec};
use tokio::time::Instant;

use super::authn::User;
use super::cache::Cache;
use crate::api::{self, Api};

/// Decisions that are remembered.
const CACHED_DECISIONS: usize = 256;
/// Questions that are longer than this are asked each time.
const LONGEST_CACHED: usize = 8192;

/// `authorization` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthzSettings {
    /// Everybody who is recognised may do everything.
    AlwaysAllow,
    /// The API server decides, by SubjectAccessReview.
    Webhook {
        /// `authorization.webhook.cacheAuthorizedTTL`.
        allowed_ttl: Duration,
        /// `authorization.webhook.cacheUnauthorizedTTL`.
        denied_ttl: Duration,
    },
}

/// What a request needs the right to do with this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The verb; empty for methods that stand for none, which only those who may do anything pass.
    pub verb: &'static str,
    /// The node's sub-resource.
    pub subresource: &'static str,
}

/// The rights of which one is enough, in the order in which they are tried (KEP-2862 and upstream's server/auth.go).
pub fn attributes(method: &Method, path: &str) -> Vec<Attributes> {
    let verb = match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    let root = path.strip_prefix('/').and_then(|p| p.split('/').next()).unwrap_or_default();
    let subresources: &[&str] = match root {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "statusz" => &["statusz"],
        "flagz" => &["configz"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    };
    subresources.iter().map(|subresource| Attributes { verb, subresource }).collect()
}

/// Why a request may not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None of the rights is there. Clients and tests know this text.
    #[error("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])")]
    Forbidden {
        /// User name.
        user: String,
        /// Verb.
        verb: &'static str,
        /// All that were tried, with spaces between.
        subresources: String,
    },
    /// The API server could not be asked.
    #[error("Authorization error (user={user}, verb={verb}, resource=nodes, subresource={subresource}): the API server can't be asked now")]
    Unavailable {
        /// User name.
        user: String,
        /// Verb.
        verb: &'static str,
        /// Sub-resource.
        subresource: &'static str,
        /// Why not.
        #[source]
        source: api::Error,
    },
}

/// Decides.
pub struct Authorizer {
    api: Arc<dyn Api>,
    settings: AuthzSettings,
    node: String,
    decisions: Mutex<Cache<bool>>,
}

impl Authorizer {
    /// An authorizer for requests to this node.
    pub fn new(api: Arc<dyn Api>, settings: AuthzSettings, node: String) -> Self {
        Self { api, settings, node, decisions: Mutex::new(Cache::new(CACHED_DECISIONS)) }
    }

    /// Whether the user may make this request.
    pub async fn authorize(&self, user: &User, method: &Method, path: &str) -> Result<(), Error> {
        let AuthzSettings::Webhook { allowed_ttl, denied_ttl } = self.settings else {
            return Ok(());
        };
        let rights = attributes(method, path);
        for right in &rights {
            let spec = self.question(user, *right);
            let unavailable = |source| {
                tracing::warn!(user = user.name, error = %source, "can't check what a user may do");
                Error::Unavailable { user: user.name.clone(), verb: right.verb, subresource: right.subresource, source }
            };
            if self.ask(spec, allowed_ttl, denied_ttl).await.map_err(unavailable)? {
                return Ok(());
            }
        }
        Err(Error::Forbidden {
            user: user.name.clone(),
            verb: rights.first().map_or("", |right| right.verb),
            subresources: rights.iter().map(|right| right.subresource).collect::<Vec<_>>().join(" "),
        })
    }

    fn question(&self, user: &User, right: Attributes) -> SubjectAccessReviewSpec {
        SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: (!user.uid.is_empty()).then(|| user.uid.clone()),
            groups: Some(user.groups.clone()),
            extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(right.verb.to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(right.subresource.to_owned()),
                name: Some(self.node.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        }
    }

    async fn ask(&self, spec: SubjectAccessReviewSpec, allowed_ttl: Duration, denied_ttl: Duration) -> api::Result<bool> {
        let key = serde_json::to_string(&spec).ok().filter(|key| key.len() <= LONGEST_CACHED);
        if let Some(key) = &key
            && let Some(known) = self.decisions.lock().unwrap_or_else(PoisonError::into_inner).get(key, Instant::now())
        {
            return Ok(known);
        }
        let status = self.api.review_access(spec).await?;
        let allowed = status.allowed && status.denied != Some(true);
        if let Some(key) = key {
            let ttl = if allowed { allowed_ttl } else { denied_ttl };
            self.decisions.lock().unwrap_or_else(PoisonError::into_inner).put(key, allowed, ttl, Instant::now());
        }
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests;
