//! An API server in memory, for tests: the objects that a node sees, with watches, status patches and deletion as the real one does them.
//!
//! Every call goes through an [`Injector`] under room `api`, so that tests can make it fail, hang, or be the last one.

mod calls;
mod merge;
mod store;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::time::timeout;

use super::{Error, ErrorKind, Result, WatchEvent};
use crate::inject::Injector;
use crate::model::service::{EndpointSlice, Service, ServiceName};
use store::Store;

/// The server. Clones share one state, so that it outlives an agent that a test ends.
#[derive(Clone)]
pub struct FakeApi {
    node_name: Arc<str>,
    injector: Injector,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    version: u64,
    uids: u64,
    pods: Store<String, Pod>,
    nodes: Store<String, Node>,
    services: Store<ServiceName, Service>,
    slices: Store<ServiceName, EndpointSlice>,
    config_maps: Vec<ConfigMap>,
    secrets: Vec<Secret>,
    runtime_classes: Vec<RuntimeClass>,
    lease: Option<Lease>,
    events: Vec<Event>,
    tokens: Vec<(String, UserInfo)>,
    /// It can't be reached.
    away: bool,
    /// User, verb, sub-resource; `None` as long as everything is allowed.
    rights: Option<Vec<[String; 3]>>,
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// How long the agent waits for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

fn unreachable(action: &str) -> Error {
    Error { action: action.to_owned(), kind: ErrorKind::Unavailable("connection refused".to_owned()) }
}

impl State {
    fn set_away(&mut self, away: bool) {
        self.away = away;
        self.pods.set_away(away);
        self.nodes.set_away(away);
        self.services.set_away(away);
        self.slices.set_away(away);
    }

    /// Fills in what the server does: UID, creation time, version.
    fn stamp(&mut self, meta: &mut ObjectMeta) {
        self.version += 1;
        meta.resource_version = Some(self.version.to_string());
        meta.creation_timestamp.get_or_insert_with(|| Time(Timestamp::now()));
        if meta.uid.as_deref().is_none_or(str::is_empty) {
            self.uids += 1;
            meta.uid = Some(format!("uid-{}", self.uids));
        }
    }
}

/// What tests do to the server, and see of it.
impl FakeApi {
    /// A server with nothing in it, and the node's name for leases and watches.
    pub fn new(node: &str) -> Self {
        Self::with_injector(node, Injector::default())
    }

    /// One that shares the counting of calls with other fakes.
    pub fn with_injector(node: &str, injector: Injector) -> Self {
        Self { node_name: node.into(), injector, state: Arc::default() }
    }

    /// The server as an agent sees it that starts now: its calls end with it.
    pub fn for_agent(&self) -> Self {
        Self { injector: self.injector.for_agent(), ..self.clone() }
    }

    /// The server can't be reached: calls fail and watches say nothing more, until [`Self::come_back`].
    pub fn go_away(&self) {
        self.break_watches(&unreachable("watch"));
        self.lock().set_away(true);
    }

    /// The server is back, and its watches begin anew with snapshots.
    pub fn come_back(&self) {
        self.lock().set_away(false);
    }

    /// Makes calls fail, hang or be the last one.
    pub fn injector(&self) -> &Injector {
        &self.injector
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of the agent: it may be a fault's turn, the server may be away, and the agent doesn't wait for ever.
    async fn call<T>(&self, name: &'static str, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let reached = async { if self.lock().away { Err(unreachable(name)) } else { effect.await } };
        let answer = timeout(DEADLINE, self.injector.call("api", name, reached)).await;
        answer.unwrap_or_else(|_| Err(Error { action: name.to_owned(), kind: ErrorKind::Unavailable("no answer in time".to_owned()) }))
    }

    /// Creates or replaces a pod, as the scheduler and users do. Returns it as stored.
    pub fn put_pod(&self, mut pod: Pod) -> Pod {
        let mut state = self.lock();
        pod.metadata.namespace.get_or_insert_with(|| "default".into());
        state.stamp(&mut pod.metadata);
        let key = key(pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
        state.pods.put(key, pod.clone());
        pod
    }

    /// The pod, if it is there.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Pod> {
        self.lock().pods.get(&key(namespace, name)).cloned()
    }

    /// All pods.
    pub fn pods(&self) -> Vec<Pod> {
        self.lock().pods.all()
    }

    /// `kubectl delete pod --grace-period`: marks it for deletion; with 0 it is gone at once.
    pub fn request_deletion(&self, namespace: &str, name: &str, grace_period_seconds: i64) {
        let mut state = self.lock();
        let key = key(namespace, name);
        let Some(mut pod) = state.pods.get(&key).cloned() else { return };
        mark_deleted(&mut state, &mut pod, grace_period_seconds);
        match grace_period_seconds {
            0 => state.pods.remove(&key),
            _ => state.pods.put(key, pod),
        }
    }

    /// Makes a bearer token known.
    pub fn put_token(&self, token: &str, user: &str, groups: &[&str]) {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        let user = UserInfo { username: Some(user.into()), groups: Some(groups), ..UserInfo::default() };
        self.lock().tokens.push((token.into(), user));
    }

    /// Gives a user a right on the node's sub-resource. From the first call on, only what was given is allowed.
    pub fn allow(&self, user: &str, verb: &str, subresource: &str) {
        let right = [user, verb, subresource].map(str::to_owned);
        self.lock().rights.get_or_insert_default().push(right);
    }

    /// Adds or replaces a ConfigMap.
    pub fn put_config_map(&self, mut object: ConfigMap) {
        let mut state = self.lock();
        state.stamp(&mut object.metadata);
        state.config_maps.retain(|o| (&o.metadata.namespace, &o.metadata.name) != (&object.metadata.namespace, &object.metadata.name));
        state.config_maps.push(object);
    }

    /// Makes a RuntimeClass.
    pub fn put_runtime_class(&self, class: RuntimeClass) {
        self.lock().runtime_classes.push(class);
    }

    /// Removes a ConfigMap.
    pub fn remove_config_map(&self, namespace: &str, name: &str) {
        let is = |o: &ConfigMap| o.metadata.namespace.as_deref() == Some(namespace) && o.metadata.name.as_deref() == Some(name);
        self.lock().config_maps.retain(|o| !is(o));
    }

    /// Adds or replaces a Secret.
    pub fn put_secret(&self, mut object: Secret) {
        let mut state = self.lock();
        state.stamp(&mut object.metadata);
        state.secrets.retain(|o| (&o.metadata.namespace, &o.metadata.name) != (&object.metadata.namespace, &object.metadata.name));
        state.secrets.push(object);
    }

    /// Adds or replaces a Service.
    pub fn put_service(&self, service: Service) {
        self.lock().services.put(service.id.clone(), service);
    }

    /// Deletes a Service.
    pub fn remove_service(&self, id: &ServiceName) {
        self.lock().services.remove(id);
    }

    /// Adds or replaces an EndpointSlice.
    pub fn put_endpoint_slice(&self, slice: EndpointSlice) {
        self.lock().slices.put(slice.id.clone(), slice);
    }

    /// Deletes an EndpointSlice.
    pub fn remove_endpoint_slice(&self, id: &ServiceName) {
        self.lock().slices.remove(id);
    }

    /// The node's object as stored.
    pub fn stored_node(&self) -> Option<Node> {
        self.lock().nodes.get(&self.node_name.to_string()).cloned()
    }

    /// `kubectl delete node`.
    pub fn remove_node(&self) {
        self.lock().nodes.remove(&self.node_name.to_string());
    }

    /// Changes the node's object, as a controller or a person does.
    pub fn change_node(&self, change: impl FnOnce(&mut Node)) {
        let mut state = self.lock();
        let name = self.node_name.to_string();
        if let Some(mut node) = state.nodes.get(&name).cloned() {
            change(&mut node);
            state.stamp(&mut node.metadata);
            state.nodes.put(name, node);
        }
    }

    /// The node's Lease as stored.
    pub fn stored_lease(&self) -> Option<Lease> {
        self.lock().lease.clone()
    }

    /// All events, in the order of their creation.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Events expire.
    pub fn forget_events(&self) {
        self.lock().events.clear();
    }

    /// Everybody's watch says this, as when the server goes away.
    pub fn break_watches(&self, error: &Error) {
        let mut state = self.lock();
        state.pods.tell(|| WatchEvent::Failing(error.clone()));
        state.nodes.tell(|| WatchEvent::Failing(error.clone()));
        state.services.tell(|| WatchEvent::Failing(error.clone()));
        state.slices.tell(|| WatchEvent::Failing(error.clone()));
    }
}

fn mark_deleted(state: &mut State, pod: &mut Pod, grace: i64) {
    let at = Timestamp::now() + SignedDuration::from_secs(grace);
    pod.metadata.deletion_timestamp.get_or_insert(Time(at));
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    state.stamp(&mut pod.metadata);
}

#[cfg(test)]
mod tests;
