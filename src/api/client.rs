//! [`KubeApi`]: the calls of [`Api`] on a real API server. One method a call; `kube` builds the requests.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec, TokenRequestStatus};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Resource;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, Request as Builder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connect::ConnectError;
use super::decode::{Json, Protobuf};
use super::kubeconfig::Access;
use super::source::{HttpSource, Selection};
use super::transport::{Lane, Transport};
use super::{Api, Error, ErrorKind, Result, WatchEvent, watch};
use crate::model::PodRef;
use crate::model::service::{EndpointSlice, Service};

/// The namespace of all node leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The API server, as seen by one node.
#[derive(Clone)]
pub struct KubeApi {
    transport: Transport,
    node: Arc<str>,
}

/// A request as `kube` builds it.
pub(super) type Built = std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>;

impl KubeApi {
    /// For the node with the given name. `version` is the Kubernetes version that the agent claims, such as `v1.36.3`.
    /// Opens no connection yet; must be called within a tokio runtime.
    pub fn new(access: Access, node: &str, version: &str) -> std::result::Result<Self, ConnectError> {
        let user_agent = format!("kubelet/{version} (linux/{}) kubelet-rs/{}", std::env::consts::ARCH, env!("CARGO_PKG_VERSION"));
        Ok(Self { transport: Transport::new(access, &user_agent)?, node: node.into() })
    }

    async fn call<T: DeserializeOwned>(&self, what: impl Fn() -> String, request: Built) -> Result<T> {
        self.call_in(Lane::Ordinary, what, request).await
    }

    async fn call_in<T: DeserializeOwned>(&self, lane: Lane, what: impl Fn() -> String, request: Built) -> Result<T> {
        let request = request.map_err(|e| Error { action: what(), kind: ErrorKind::Refused(400, e.to_string()) })?;
        self.transport.call(lane, what, request).await
    }
}

fn in_namespace<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(namespace: &str) -> Builder {
    Builder::new(K::url_path(&(), Some(namespace)))
}

fn in_cluster<K: Resource<DynamicType = ()>>() -> Builder {
    Builder::new(K::url_path(&(), None))
}

fn json<T: Serialize>(object: &T) -> Vec<u8> {
    // API types always serialise; an empty body would be refused by the server with a clear message.
    serde_json::to_vec(object).unwrap_or_default()
}

#[async_trait]
impl Api for KubeApi {
    fn watch_pods(&self) -> BoxStream<'static, WatchEvent<Pod>> {
        let selection = Selection::of::<Pod>("watch pods of this node").fields(format!("spec.nodeName={}", self.node));
        watch::run(HttpSource::new(self.transport.clone(), selection, Json::<Pod>::new())).boxed()
    }
    fn watch_node(&self) -> BoxStream<'static, WatchEvent<Node>> {
        let selection = Selection::of::<Node>("watch this node's object").fields(format!("metadata.name={}", self.node));
        watch::run(HttpSource::new(self.transport.clone(), selection, Json::<Node>::new())).boxed()
    }
    fn watch_service_ranges(&self) -> BoxStream<'static, WatchEvent<ServiceCIDR>> {
        let selection = Selection::of::<ServiceCIDR>("watch the ranges of cluster IPs");
        watch::run(HttpSource::new(self.transport.clone(), selection, Json::<ServiceCIDR>::new())).boxed()
    }
    fn watch_services(&self) -> BoxStream<'static, WatchEvent<Service>> {
        // Headless Services need no rules. Those of another proxy are wanted as well: for the environment of containers.
        let selection = Selection::of::<k8s_openapi::api::core::v1::Service>("watch services").fields("spec.clusterIP!=None".to_owned());
        watch::run(HttpSource::new(self.transport.clone(), selection, Protobuf::<Service>::new(&self.node))).boxed()
    }
    fn watch_endpoint_slices(&self) -> BoxStream<'static, WatchEvent<EndpointSlice>> {
        let selection = Selection::of::<k8s_openapi::api::discovery::v1::EndpointSlice>("watch endpoint slices")
            .labels("!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name");
        watch::run(HttpSource::new(self.transport.clone(), selection, Protobuf::<EndpointSlice>::new(&self.node))).boxed()
    }

    async fn patch_pod_status(&self, pod: &PodRef, patch: Value) -> Result<Pod> {
        let request =
            in_namespace::<Pod>(&pod.namespace).patch_subresource("status", &pod.name, &PatchParams::default(), &Patch::Strategic(patch));
        let mut answer: Pod = self.call(|| format!("patch status of pod {pod}"), request).await?;
        answer.metadata.managed_fields = None;
        Ok(answer)
    }
    async fn create_pod(&self, pod: &Pod) -> Result<Pod> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let request = in_namespace::<Pod>(&namespace).create(&PostParams::default(), json(pod));
        let mut answer: Pod = self.call(|| format!("create mirror pod {}", PodRef::of(pod)), request).await?;
        answer.metadata.managed_fields = None;
        Ok(answer)
    }
    async fn delete_pod(&self, pod: &PodRef, grace_period_seconds: i64) -> Result<()> {
        let same = Preconditions { uid: Some(pod.uid.to_string()), resource_version: None };
        let grace = u32::try_from(grace_period_seconds).unwrap_or(0);
        let params = DeleteParams::default().grace_period(grace).preconditions(same);
        let request = in_namespace::<Pod>(&pod.namespace).delete(&pod.name, &params);
        self.call::<serde::de::IgnoredAny>(|| format!("delete pod {pod}"), request).await.map(drop)
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMap> {
        let request = in_namespace::<ConfigMap>(namespace).get(name, &GetParams::default());
        let mut answer: ConfigMap = self.call(|| format!("get configmap {namespace}/{name}"), request).await?;
        answer.metadata.managed_fields = None;
        Ok(answer)
    }
    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret> {
        let request = in_namespace::<Secret>(namespace).get(name, &GetParams::default());
        let mut answer: Secret = self.call(|| format!("get secret {namespace}/{name}"), request).await?;
        answer.metadata.managed_fields = None;
        Ok(answer)
    }
    async fn runtime_class(&self, name: &str) -> Result<RuntimeClass> {
        let request = in_cluster::<RuntimeClass>().get(name, &GetParams::default());
        self.call(|| format!("get runtimeclass {name}"), request).await
    }
    async fn service_account_token(&self, namespace: &str, account: &str, spec: TokenRequestSpec) -> Result<TokenRequestStatus> {
        let what = || format!("request a token of service account {namespace}/{account}");
        let body = json(&TokenRequest { spec: Some(spec), ..TokenRequest::default() });
        let request = in_namespace::<ServiceAccount>(namespace).create_subresource("token", account, &PostParams::default(), body);
        let answer: TokenRequest = self.call(what, request).await?;
        answer.status.ok_or_else(|| Error { action: what(), kind: ErrorKind::Unavailable("the answer has no token".into()) })
    }

    async fn node(&self) -> Result<Node> {
        let request = in_cluster::<Node>().get(&self.node, &GetParams::default());
        self.call_in(Lane::Heartbeat, || format!("get node {}", self.node), request).await.map(lean)
    }
    async fn create_node(&self, node: &Node) -> Result<Node> {
        let request = in_cluster::<Node>().create(&PostParams::default(), json(node));
        self.call_in(Lane::Heartbeat, || format!("create node {}", self.node), request).await.map(lean)
    }
    async fn patch_node(&self, patch: Value) -> Result<Node> {
        let request = in_cluster::<Node>().patch(&self.node, &PatchParams::default(), &Patch::Strategic(patch));
        self.call_in(Lane::Heartbeat, || format!("patch node {}", self.node), request).await.map(lean)
    }
    async fn patch_node_status(&self, patch: Value) -> Result<Node> {
        let request = in_cluster::<Node>().patch_subresource("status", &self.node, &PatchParams::default(), &Patch::Strategic(patch));
        self.call_in(Lane::Heartbeat, || format!("patch status of node {}", self.node), request).await.map(lean)
    }

    async fn lease(&self) -> Result<Lease> {
        let request = in_namespace::<Lease>(LEASE_NAMESPACE).get(&self.node, &GetParams::default());
        self.call_in(Lane::Heartbeat, || format!("get lease {LEASE_NAMESPACE}/{}", self.node), request).await
    }
    async fn create_lease(&self, lease: &Lease) -> Result<Lease> {
        let request = in_namespace::<Lease>(LEASE_NAMESPACE).create(&PostParams::default(), json(lease));
        self.call_in(Lane::Heartbeat, || format!("create lease {LEASE_NAMESPACE}/{}", self.node), request).await
    }
    async fn update_lease(&self, lease: &Lease) -> Result<Lease> {
        let request = in_namespace::<Lease>(LEASE_NAMESPACE).replace(&self.node, &PostParams::default(), json(lease));
        self.call_in(Lane::Heartbeat, || format!("renew lease {LEASE_NAMESPACE}/{}", self.node), request).await
    }

    async fn create_event(&self, event: &Event) -> Result<Event> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
        let what = || format!("create event {namespace}/{}", event.metadata.name.as_deref().unwrap_or_default());
        self.call(what, in_namespace::<Event>(namespace).create(&PostParams::default(), json(event))).await
    }
    async fn patch_event(&self, namespace: &str, name: &str, patch: Value) -> Result<Event> {
        let request = in_namespace::<Event>(namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch));
        self.call(|| format!("patch event {namespace}/{name}"), request).await
    }

    async fn review_token(&self, token: &str) -> Result<TokenReviewStatus> {
        let what = || "review a bearer token".to_owned();
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let body = json(&TokenReview { spec, ..TokenReview::default() });
        let request = in_cluster::<TokenReview>().create(&PostParams::default(), body);
        let answer: TokenReview = self.call_in(Lane::Review, what, request).await?;
        answer.status.ok_or_else(|| Error { action: what(), kind: ErrorKind::Unavailable("the answer has no status".into()) })
    }
    async fn review_access(&self, spec: SubjectAccessReviewSpec) -> Result<SubjectAccessReviewStatus> {
        let what = || "review access to this node".to_owned();
        let body = json(&SubjectAccessReview { spec, ..SubjectAccessReview::default() });
        let request = in_cluster::<SubjectAccessReview>().create(&PostParams::default(), body);
        let answer: SubjectAccessReview = self.call_in(Lane::Review, what, request).await?;
        answer.status.ok_or_else(|| Error { action: what(), kind: ErrorKind::Unavailable("the answer has no status".into()) })
    }
}

/// The server has no way to leave managedFields out; they are as large as the rest and nobody here reads them.
fn lean(mut node: Node) -> Node {
    node.metadata.managed_fields = None;
    node
}

#[cfg(test)]
mod tests;
