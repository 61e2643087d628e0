//! What the tests stand on: one lab for all tests of a file, and a Kubernetes namespace for each test.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace as NamespaceObject, Pod, Service, ServiceAccount};
use kube::Resource;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::error::{Doing as _, Error, Result};
use crate::lab::{Builder, Lab, PATIENCE};
use crate::objects::{deployment, web_service};

/// A lab that the tests of one file share, started by the first of them. It ends with the test process.
pub struct SharedLab {
    build: fn() -> Builder,
    /// Held by the running test where tests disturb the lab.
    turn: Option<Mutex<()>>,
    running: OnceLock<std::result::Result<(Runtime, Lab), String>>,
}

impl SharedLab {
    /// To be put in a `static`.
    pub const fn new(build: fn() -> Builder) -> Self {
        Self { build, turn: None, running: OnceLock::new() }
    }

    /// As [`SharedLab::new`], for tests that end and start parts of the lab: one runs at a time, and after one that failed the lab is
    /// mended, so that the next one tells something of its own.
    pub const fn one_at_a_time(build: fn() -> Builder) -> Self {
        Self { build, turn: Some(Mutex::new(())), running: OnceLock::new() }
    }

    /// Runs a test in a namespace of its own, which is deleted when the test has passed.
    ///
    /// # Panics
    /// With the error in words, if the test gives one.
    pub fn run(&'static self, name: &str, test: impl AsyncFnOnce(&'static Lab, Namespace<'static>) -> Result<()>) {
        let (runtime, lab) = match self.running.get_or_init(|| start(self.build)) {
            Ok(running) => (&running.0, &running.1),
            Err(error) => panic!("the lab did not start: {error}"),
        };
        let turn = self.turn.as_ref().map(Mutex::lock);
        // A test that failed has given its turn up all the same, and has left a mark on it.
        let broken = matches!(turn, Some(Err(_)));
        let _turn = turn.map(|turn| turn.unwrap_or_else(PoisonError::into_inner));
        let result = runtime.block_on(async {
            if broken {
                lab.mend().await?;
                self.turn.iter().for_each(Mutex::clear_poison);
            }
            let namespace = Namespace::create(lab, name).await?;
            test(lab, namespace).await?;
            let namespaces: Api<NamespaceObject> = Api::all(lab.client());
            namespaces.delete(name, &DeleteParams::default()).await.doing(|| format!("deleting namespace {name}")).map(drop)
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
    }
}

fn start(build: fn() -> Builder) -> std::result::Result<(Runtime, Lab), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| error.to_string())?;
    let lab = runtime.block_on(build().start()).map_err(|error| error.to_string())?;
    Ok((runtime, lab))
}

/// Two web servers behind a Service that answers on the first node; gives the Service's address.
pub async fn served(lab: &Lab, ns: &Namespace<'_>) -> Result<SocketAddr> {
    ns.apply::<Deployment>(deployment("web", 2)).await?;
    let service = ns.apply::<Service>(web_service("web", "web")).await?;
    ns.pods("app=web", 2).await?;
    let address: Option<IpAddr> = service.spec.and_then(|spec| spec.cluster_ip).and_then(|address| address.parse().ok());
    let address = SocketAddr::new(address.ok_or_else(|| Error::Other("a Service without a ClusterIP".into()))?, 80);
    answers(lab, address).await?;
    Ok(address)
}

/// Waits for an answer on the first node.
pub async fn answers(lab: &Lab, address: SocketAddr) -> Result<String> {
    let connector = lab.node(0).place().connector();
    let ask = async || connector.http(address, "/", ANSWER).await.map_err(|error| error.to_string());
    lab.wait_for(&format!("an answer from {address}"), PATIENCE, ask).await
}

/// A Kubernetes namespace, for the objects of one test.
#[derive(Clone)]
pub struct Namespace<'a> {
    lab: &'a Lab,
    name: String,
}

impl<'a> Namespace<'a> {
    async fn create(lab: &'a Lab, name: &str) -> Result<Self> {
        let object =
            NamespaceObject { metadata: kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() }, ..Default::default() };
        Api::all(lab.client()).create(&PostParams::default(), &object).await.doing(|| format!("creating namespace {name}"))?;
        let namespace = Self { lab, name: name.to_owned() };
        // Without it the API server takes no pods.
        namespace.wait_for::<ServiceAccount, ()>("default", |_| Ok(())).await?;
        Ok(namespace)
    }

    /// The namespace `default`, for what does not belong to the test.
    pub fn default(lab: &'a Lab) -> Self {
        Self { lab, name: "default".to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls on objects of one kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.lab.client(), &self.name)
    }

    /// Creates an object from JSON as in a manifest.
    pub async fn apply<K>(&self, manifest: Value) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Serialize + Clone + Debug,
    {
        let doing = || format!("creating a {} in {}", K::kind(&()), self.name);
        let object: K = serde_json::from_value(manifest).map_err(|error| Error::Other(format!("{}: {error}", doing())))?;
        self.api().create(&PostParams::default(), &object).await.doing(doing)
    }

    /// Waits until an object is as `probe` wants it; `probe` says what it saw instead.
    pub async fn wait_for<K, T>(&self, name: &str, probe: impl Fn(&K) -> std::result::Result<T, String>) -> Result<T>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>();
        let what = format!("{} {}/{name}", K::kind(&()), self.name);
        let look = async || probe(&api.get(name).await.map_err(|error| error.to_string())?);
        self.lab.wait_for(&what, PATIENCE, look).await
    }

    /// Waits until a pod is Ready and gives it.
    pub async fn ready(&self, pod: &str) -> Result<Pod> {
        self.wait_for(pod, |pod: &Pod| if pod_is_ready(pod) { Ok(pod.clone()) } else { Err(describe(pod)) }).await
    }

    /// Waits until a pod has ended and gives its phase, `Succeeded` or `Failed`.
    pub async fn ended(&self, pod: &str) -> Result<String> {
        self.wait_for(pod, |pod: &Pod| match phase(pod) {
            phase @ ("Succeeded" | "Failed") => Ok(phase.to_owned()),
            _ => Err(describe(pod)),
        })
        .await
    }

    /// Waits until exactly `count` pods with a label are Ready and none else is left, and gives them.
    pub async fn pods(&self, selector: &str, count: usize) -> Result<Vec<Pod>> {
        self.pods_within(PATIENCE, selector, count).await
    }

    /// As [`Namespace::pods`], for what may take longer.
    pub async fn pods_within(&self, patience: Duration, selector: &str, count: usize) -> Result<Vec<Pod>> {
        let look = async || {
            let pods = self.api::<Pod>().list(&ListParams::default().labels(selector)).await.map_err(|error| error.to_string())?.items;
            let good = pods.len() == count && pods.iter().all(|pod| pod_is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
            if good { Ok(pods) } else { Err(pods.iter().map(describe).collect::<Vec<_>>().join("; ")) }
        };
        self.lab.wait_for(&format!("{count} pods with {selector} in {}", self.name), patience, look).await
    }

    /// Deletes a pod and waits until it is gone.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        let api = self.api::<Pod>();
        api.delete(name, &DeleteParams::default()).await.doing(|| format!("deleting pod {name}"))?;
        let look = async || match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(pod)) => Err(describe(&pod)),
            Err(error) => Err(error.to_string()),
        };
        self.lab.wait_for(&format!("pod {}/{name} to be gone", self.name), PATIENCE, look).await
    }

    /// Waits for an event about an object whose message holds all `words`.
    pub async fn event(&self, object: &str, reason: &str, words: &[&str]) -> Result<()> {
        let api = self.api::<Event>();
        let look = async || {
            let events = api
                .list(&ListParams::default().fields(&format!("involvedObject.name={object}")))
                .await
                .map_err(|error| error.to_string())?;
            let said = |event: &Event| event.message.clone().unwrap_or_default();
            let matches = |event: &Event| event.reason.as_deref() == Some(reason) && words.iter().all(|word| said(event).contains(word));
            if events.items.iter().any(matches) {
                return Ok(());
            }
            Err(events
                .items
                .iter()
                .map(|event| format!("{}: {}", event.reason.clone().unwrap_or_default(), said(event)))
                .collect::<Vec<_>>()
                .join("; "))
        };
        self.lab.wait_for(&format!("event {reason} with {words:?} about {}/{object}", self.name), PATIENCE, look).await
    }

    /// Runs kubectl in this namespace.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_input(args, "").await
    }

    /// Runs kubectl in this namespace with something on stdin.
    pub async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        self.lab.kubectl_with_input(&[&["-n", &self.name], args].concat(), input).await
    }
}

/// A pod's phase.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether a pod's condition Ready is True.
pub fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A pod in one line: what a failed wait says that it saw.
pub fn describe(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let states: Vec<String> = container_statuses(pod)
        .map(|status| {
            let state = serde_json::to_string(&status.state).unwrap_or_default();
            format!("{} {state} restarts={}", status.name, status.restart_count)
        })
        .collect();
    let deleted = if pod.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
    format!("{name} is {}{deleted} [{}]", phase(pod), states.join(", "))
}

/// A pod's container statuses.
pub fn container_statuses(pod: &Pod) -> impl Iterator<Item = &k8s_openapi::api::core::v1::ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

/// How long a connection may take in the lab before it counts as lost.
pub const ANSWER: Duration = Duration::from_secs(2);
