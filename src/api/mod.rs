//! The API server: client, credentials, watches, leases, events, tokens. The only room that imports `kube`.
//!
//! In: kubeconfig. Out: [`WatchEvent`] streams and the calls of [`Api`]. Owns: connections. Survives a restart: nothing.

mod backoff;
mod client;
mod connect;
mod decode;
pub mod events;
#[cfg(any(test, feature = "fakes"))]
pub mod fake;
pub mod kubeconfig;
pub mod slim;
mod source;
mod transport;
mod watch;

pub use backoff::{Backoff, jittered, random_part};
pub use client::{KubeApi, LEASE_NAMESPACE};
pub use connect::ConnectError;
pub use events::{EventRates, EventType, Recorder};

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::authentication::v1::{TokenRequestSpec, TokenRequestStatus, TokenReviewStatus};
use k8s_openapi::api::authorization::v1::{SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

use crate::model::PodRef;
use crate::model::service::{EndpointSlice, Service};

/// Why a call to the API server failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {kind}")]
pub struct Error {
    /// What was being done, to which object: `patch status of pod default/web`.
    pub action: String,
    /// The kind of failure, with the server's words.
    #[source]
    pub kind: ErrorKind,
}

/// Kinds of failure that callers tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// 404. The text is the server's message.
    #[error("not found: {0}")]
    NotFound(String),
    /// 409 with reason AlreadyExists.
    #[error("it exists already")]
    AlreadyExists,
    /// Any other 409, such as an outdated resource version or another UID.
    #[error("conflict: {0}")]
    Conflict(String),
    /// 403.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// 401.
    #[error("the API server does not accept this node's credentials: {0}")]
    Unauthorized(String),
    /// Any other answer below 500: trying again will not help.
    #[error("refused with status {0}: {1}")]
    Refused(u16, String),
    /// No answer, a broken one, 429 or 5xx: worth another try.
    #[error("the API server can't be reached or is not ready: {0}")]
    Unavailable(String),
}

impl Error {
    /// Whether the object is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound(_))
    }
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable(_) | ErrorKind::Conflict(_))
    }
}

/// Result of a call to the API server.
pub type Result<T> = std::result::Result<T, Error>;

/// What a watch tells. After a lost connection the watch resumes by itself; when history was lost it says [`Self::Snapshot`] again.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent<T> {
    /// Everything there is now; whatever is not in it is gone.
    Snapshot(Vec<T>),
    /// An object was made or changed.
    Applied(T),
    /// An object was deleted.
    Deleted(T),
    /// The watch can't go on for the given reason; it keeps trying. Said once per distinct reason.
    Failing(Error),
}

/// The calls that the agent makes. Every call has a deadline of its own (10 s unless said otherwise).
#[async_trait]
pub trait Api: Send + Sync + 'static {
    /// Pods bound to this node, in all namespaces.
    fn watch_pods(&self) -> BoxStream<'static, WatchEvent<Pod>>;
    /// This node's own object.
    fn watch_node(&self) -> BoxStream<'static, WatchEvent<Node>>;
    /// The ranges of cluster IPs.
    fn watch_service_ranges(&self) -> BoxStream<'static, WatchEvent<ServiceCIDR>>;
    /// Services with a cluster IP.
    fn watch_services(&self) -> BoxStream<'static, WatchEvent<Service>>;
    /// EndpointSlices of Services that are not headless.
    fn watch_endpoint_slices(&self) -> BoxStream<'static, WatchEvent<EndpointSlice>>;

    /// Creates a pod: only a mirror of one of the node's own.
    async fn create_pod(&self, pod: &Pod) -> Result<Pod>;
    /// Strategic merge patch of `pods/status`; `patch` holds `status` and `metadata.uid` as the precondition.
    async fn patch_pod_status(&self, pod: &PodRef, patch: Value) -> Result<Pod>;
    /// Deletes a pod with the given grace period in seconds, if the UID still matches.
    async fn delete_pod(&self, pod: &PodRef, grace_period_seconds: i64) -> Result<()>;

    /// Reads a ConfigMap.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMap>;
    /// Reads a Secret.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret>;
    /// Reads a RuntimeClass.
    async fn runtime_class(&self, name: &str) -> Result<RuntimeClass>;
    /// Asks for a service account token bound to a pod.
    async fn service_account_token(&self, namespace: &str, account: &str, spec: TokenRequestSpec) -> Result<TokenRequestStatus>;

    /// Reads this node's object.
    async fn node(&self) -> Result<Node>;
    /// Creates this node's object.
    async fn create_node(&self, node: &Node) -> Result<Node>;
    /// Strategic merge patch of the node's metadata and spec.
    async fn patch_node(&self, patch: Value) -> Result<Node>;
    /// Strategic merge patch of `nodes/status`.
    async fn patch_node_status(&self, patch: Value) -> Result<Node>;

    /// Reads this node's Lease.
    async fn lease(&self) -> Result<Lease>;
    /// Creates this node's Lease.
    async fn create_lease(&self, lease: &Lease) -> Result<Lease>;
    /// Replaces this node's Lease.
    async fn update_lease(&self, lease: &Lease) -> Result<Lease>;

    /// Creates an event.
    async fn create_event(&self, event: &Event) -> Result<Event>;
    /// Merge-patches an event (count, last timestamp).
    async fn patch_event(&self, namespace: &str, name: &str, patch: Value) -> Result<Event>;

    /// Who a bearer token belongs to.
    async fn review_token(&self, token: &str) -> Result<TokenReviewStatus>;
    /// Whether a subject may do something.
    async fn review_access(&self, spec: SubjectAccessReviewSpec) -> Result<SubjectAccessReviewStatus>;
}
