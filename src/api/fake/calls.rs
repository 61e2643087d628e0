//! The calls of [`Api`] on the server in memory.

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequestSpec, TokenRequestStatus, TokenReviewStatus};
use k8s_openapi::api::authorization::v1::{SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;

use super::merge::patched;
use super::{FakeApi, key, mark_deleted};
use crate::api::{Api, Error, ErrorKind, Result, WatchEvent};
use crate::model::PodRef;
use crate::model::service::{EndpointSlice, Service};

fn error(action: &str, kind: ErrorKind) -> Error {
    Error { action: action.to_owned(), kind }
}

fn not_found(action: &str) -> Error {
    error(action, ErrorKind::NotFound("the object is not there".into()))
}

fn same_name(meta: &ObjectMeta, namespace: &str, name: &str) -> bool {
    meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
}

#[async_trait]
impl Api for FakeApi {
    fn watch_pods(&self) -> BoxStream<'static, WatchEvent<Pod>> {
        self.lock().pods.watch().boxed()
    }
    fn watch_node(&self) -> BoxStream<'static, WatchEvent<Node>> {
        self.lock().nodes.watch().boxed()
    }
    fn watch_service_ranges(&self) -> BoxStream<'static, WatchEvent<ServiceCIDR>> {
        futures::stream::pending().boxed()
    }
    fn watch_services(&self) -> BoxStream<'static, WatchEvent<Service>> {
        self.lock().services.watch().boxed()
    }
    fn watch_endpoint_slices(&self) -> BoxStream<'static, WatchEvent<EndpointSlice>> {
        self.lock().slices.watch().boxed()
    }

    async fn patch_pod_status(&self, pod: &PodRef, patch: Value) -> Result<Pod> {
        const ACTION: &str = "patch status of pod";
        let effect = async {
            let mut state = self.lock();
            let key = key(&pod.namespace, &pod.name);
            let stored = state.pods.get(&key).cloned().ok_or_else(|| not_found(ACTION))?;
            let uid = patch.pointer("/metadata/uid").and_then(Value::as_str);
            if uid.is_some_and(|uid| stored.metadata.uid.as_deref() != Some(uid)) {
                return Err(error(ACTION, ErrorKind::Conflict("the UID in the precondition is another one".into())));
            }
            let mut new = patched(&stored, &patch, &["status"]).map_err(|e| error(ACTION, ErrorKind::Refused(422, e)))?;
            if new.status != stored.status {
                state.stamp(&mut new.metadata);
                state.pods.put(key, new.clone());
            }
            Ok(new)
        };
        self.call("patch_pod_status", effect).await
    }

    async fn create_pod(&self, pod: &Pod) -> Result<Pod> {
        let effect = async {
            let there = self.pod(pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
            match there {
                Some(_) => Err(error("create pod", ErrorKind::Conflict("it exists already".into()))),
                None => Ok(self.put_pod(pod.clone())),
            }
        };
        self.call("create_pod", effect).await
    }

    async fn delete_pod(&self, pod: &PodRef, grace_period_seconds: i64) -> Result<()> {
        let effect = async {
            let mut state = self.lock();
            let key = key(&pod.namespace, &pod.name);
            let mut stored = state.pods.get(&key).cloned().ok_or_else(|| not_found("delete pod"))?;
            if stored.metadata.uid.as_deref() != Some(pod.uid.as_str()) {
                return Err(error("delete pod", ErrorKind::Conflict("the UID in the precondition is another one".into())));
            }
            mark_deleted(&mut state, &mut stored, grace_period_seconds);
            match grace_period_seconds {
                0 => state.pods.remove(&key),
                _ => state.pods.put(key, stored),
            }
            Ok(())
        };
        self.call("delete_pod", effect).await
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMap> {
        let effect = async {
            let state = self.lock();
            state.config_maps.iter().find(|o| same_name(&o.metadata, namespace, name)).cloned().ok_or_else(|| not_found("get configmap"))
        };
        self.call("config_map", effect).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret> {
        let effect = async {
            let state = self.lock();
            state.secrets.iter().find(|o| same_name(&o.metadata, namespace, name)).cloned().ok_or_else(|| not_found("get secret"))
        };
        self.call("secret", effect).await
    }

    async fn runtime_class(&self, name: &str) -> Result<RuntimeClass> {
        let effect = async {
            let found = self.lock().runtime_classes.iter().find(|c| c.metadata.name.as_deref() == Some(name)).cloned();
            found.ok_or_else(|| not_found("get runtimeclass"))
        };
        self.call("runtime_class", effect).await
    }

    async fn service_account_token(&self, namespace: &str, account: &str, spec: TokenRequestSpec) -> Result<TokenRequestStatus> {
        let effect = async {
            let seconds = spec.expiration_seconds.unwrap_or(3600);
            self.lock().version += 1;
            let token = format!("token-of-{namespace}-{account}-{}", self.lock().version);
            let expires = Time(Timestamp::now() + SignedDuration::from_secs(seconds));
            Ok(TokenRequestStatus { token: Some(token), expiration_timestamp: Some(expires) })
        };
        self.call("service_account_token", effect).await
    }

    async fn node(&self) -> Result<Node> {
        let effect = async { self.stored_node().ok_or_else(|| not_found("get node")) };
        self.call("node", effect).await
    }

    async fn create_node(&self, node: &Node) -> Result<Node> {
        let effect = async {
            let mut state = self.lock();
            let name = self.node_name.to_string();
            if state.nodes.get(&name).is_some() {
                return Err(error("create node", ErrorKind::AlreadyExists));
            }
            let mut node = node.clone();
            state.stamp(&mut node.metadata);
            state.nodes.put(name, node.clone());
            Ok(node)
        };
        self.call("create_node", effect).await
    }

    async fn patch_node(&self, patch: Value) -> Result<Node> {
        let effect = async { self.patch_stored_node(&patch, &["metadata", "spec"]) };
        self.call("patch_node", effect).await
    }

    async fn patch_node_status(&self, patch: Value) -> Result<Node> {
        let effect = async { self.patch_stored_node(&patch, &["status"]) };
        self.call("patch_node_status", effect).await
    }

    async fn lease(&self) -> Result<Lease> {
        let effect = async { self.stored_lease().ok_or_else(|| not_found("get lease")) };
        self.call("lease", effect).await
    }

    async fn create_lease(&self, lease: &Lease) -> Result<Lease> {
        let effect = async {
            let mut state = self.lock();
            if state.lease.is_some() {
                return Err(error("create lease", ErrorKind::AlreadyExists));
            }
            let mut lease = lease.clone();
            state.stamp(&mut lease.metadata);
            state.lease = Some(lease.clone());
            Ok(lease)
        };
        self.call("create_lease", effect).await
    }

    async fn update_lease(&self, lease: &Lease) -> Result<Lease> {
        let effect = async {
            let mut state = self.lock();
            let stored = state.lease.as_ref().ok_or_else(|| not_found("renew lease"))?;
            if lease.metadata.resource_version.is_some() && lease.metadata.resource_version != stored.metadata.resource_version {
                return Err(error("renew lease", ErrorKind::Conflict("the object has been modified".into())));
            }
            let mut lease = lease.clone();
            state.stamp(&mut lease.metadata);
            state.lease = Some(lease.clone());
            Ok(lease)
        };
        self.call("update_lease", effect).await
    }

    async fn create_event(&self, event: &Event) -> Result<Event> {
        let effect = async {
            let mut state = self.lock();
            let (namespace, name) = (event.metadata.namespace.as_deref(), event.metadata.name.as_deref());
            if state.events.iter().any(|e| same_name(&e.metadata, namespace.unwrap_or_default(), name.unwrap_or_default())) {
                return Err(error("create event", ErrorKind::AlreadyExists));
            }
            let mut event = event.clone();
            state.stamp(&mut event.metadata);
            state.events.push(event.clone());
            Ok(event)
        };
        self.call("create_event", effect).await
    }

    async fn patch_event(&self, namespace: &str, name: &str, patch: Value) -> Result<Event> {
        let effect = async {
            let mut state = self.lock();
            let stored = state.events.iter_mut().find(|e| same_name(&e.metadata, namespace, name));
            let stored = stored.ok_or_else(|| not_found("patch event"))?;
            *stored = patched(stored, &patch, &[]).map_err(|e| error("patch event", ErrorKind::Refused(422, e)))?;
            Ok(stored.clone())
        };
        self.call("patch_event", effect).await
    }

    async fn review_token(&self, token: &str) -> Result<TokenReviewStatus> {
        let effect = async {
            let user = self.lock().tokens.iter().find(|(known, _)| known == token).map(|(_, user)| user.clone());
            let authenticated = Some(user.is_some() || token.starts_with("token-of-"));
            Ok(TokenReviewStatus { authenticated, user, ..TokenReviewStatus::default() })
        };
        self.call("review_token", effect).await
    }

    async fn review_access(&self, spec: SubjectAccessReviewSpec) -> Result<SubjectAccessReviewStatus> {
        let effect = async {
            let asked = spec.resource_attributes.unwrap_or_default();
            let right = [spec.user, asked.verb, asked.subresource].map(Option::unwrap_or_default);
            let allowed = self.lock().rights.as_ref().is_none_or(|rights| rights.contains(&right));
            Ok(SubjectAccessReviewStatus { allowed, ..SubjectAccessReviewStatus::default() })
        };
        self.call("review_access", effect).await
    }
}

impl FakeApi {
    fn patch_stored_node(&self, patch: &Value, parts: &[&str]) -> Result<Node> {
        let mut state = self.lock();
        let name = self.node_name.to_string();
        let stored = state.nodes.get(&name).cloned().ok_or_else(|| not_found("patch node"))?;
        let mut new: Node = patched(&stored, patch, parts).map_err(|e| error("patch node", ErrorKind::Refused(422, e)))?;
        state.stamp(&mut new.metadata);
        state.nodes.put(name, new.clone());
        Ok(new)
    }
}
