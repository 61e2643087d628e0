//! Pods and a runtime that do as they are told.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use proto::cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};
use serde_json::json;

use crate::model::{ContainerId, PodRef, PodUid, SandboxId};
use crate::pods::{ContainerTarget, PodLookup};
use crate::runtime::{
    CgroupDriver, Container, ContainerPhase, ExecOutput, Image, ObservedPod, RegistryAuth, Result, Runtime, RuntimeHealth, RuntimeVersion,
    Sandbox, StreamRequest,
};

/// A pod with a container `c` that has no status yet.
pub fn pod(namespace: &str, name: &str) -> Pod {
    let pod = json!({
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "c"}]},
    });
    serde_json::from_value(pod).unwrap()
}

/// The same with a status that says that `c` runs, and maybe ran before.
pub fn running_pod(namespace: &str, name: &str, id: &str, last: Option<&str>) -> Pod {
    let mut status = json!({
        "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "containerID": format!("containerd://{id}"), "state": {"running": {}},
    });
    if let Some(last) = last {
        status["lastState"] = json!({"terminated": {"exitCode": 0, "containerID": format!("containerd://{last}")}});
    }
    let status = serde_json::from_value(json!({"containerStatuses": [status]})).unwrap();
    Pod { status: Some(status), ..pod(namespace, name) }
}

/// What the workers know.
#[derive(Default)]
pub struct FakePods {
    pods: Mutex<Vec<Arc<Pod>>>,
    containers: Mutex<HashMap<(PodUid, String, bool), ContainerTarget>>,
    sandboxes: Mutex<HashMap<PodUid, SandboxId>>,
}

impl FakePods {
    pub fn put(&self, pod: Pod) {
        self.pods.lock().unwrap().push(Arc::new(pod));
    }
    pub fn set(&self, uid: &str, container: &str, previous: bool, id: &str, log: &Path, running: bool) {
        let target = ContainerTarget { id: id.into(), log_path: log.to_string_lossy().into_owned(), running };
        self.containers.lock().unwrap().insert((uid.into(), container.to_owned(), previous), target);
    }
    pub fn set_sandbox(&self, uid: &str, id: &str) {
        self.sandboxes.lock().unwrap().insert(uid.into(), id.into());
    }
}

impl PodLookup for FakePods {
    fn all(&self) -> Vec<Arc<Pod>> {
        self.pods.lock().unwrap().clone()
    }
    fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let is = |value: &Option<String>, wanted: &str| value.as_deref() == Some(wanted);
        self.all().into_iter().find(|p| is(&p.metadata.namespace, namespace) && is(&p.metadata.name, name))
    }
    fn container(&self, uid: &PodUid, name: &str, previous: bool) -> Option<ContainerTarget> {
        self.containers.lock().unwrap().get(&(uid.clone(), name.to_owned(), previous)).cloned()
    }
    fn sandbox(&self, uid: &PodUid) -> Option<SandboxId> {
        self.sandboxes.lock().unwrap().get(uid).cloned()
    }
}

type Asked = (String, String, StreamRequest);

/// A runtime that only knows streams and what it was told to be running.
#[derive(Default)]
pub struct FakeStreams {
    answer: Mutex<Option<Result<String>>>,
    asked: Mutex<Vec<Asked>>,
    pods: Mutex<Vec<ObservedPod>>,
}

impl FakeStreams {
    pub fn answer_with(&self, answer: Result<String>) {
        *self.answer.lock().unwrap() = Some(answer);
    }
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
    pub fn run(&self, namespace: &str, name: &str, container: &str) {
        let pod = PodRef { namespace: namespace.into(), name: name.into(), uid: format!("uid-{name}").into() };
        let container = Container {
            id: "id".into(),
            sandbox: "box".into(),
            name: container.into(),
            restart_count: 0,
            hash: String::new(),
            phase: ContainerPhase::Running,
            created_at: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            termination_message: String::new(),
            image: format!("{container}:1"),
            image_id: String::new(),
            log_path: String::new(),
            hook: None,
            limits: None,
            user: None,
            recursive_read_only: vec![],
        };
        let observed = ObservedPod { containers: vec![container], ..ObservedPod::empty(pod) };
        self.pods.lock().unwrap().push(observed);
    }
    fn url(&self, call: &str, id: &str, request: StreamRequest) -> Result<String> {
        self.asked.lock().unwrap().push((call.into(), id.into(), request));
        self.answer.lock().unwrap().clone().expect("the test gave no answer")
    }
}

#[async_trait]
impl Runtime for FakeStreams {
    async fn list_pods(&self) -> Result<Vec<ObservedPod>> {
        Ok(self.pods.lock().unwrap().clone())
    }
    async fn exec_url(&self, id: &ContainerId, request: &StreamRequest) -> Result<String> {
        self.url("exec", id.as_str(), request.clone())
    }
    async fn attach_url(&self, id: &ContainerId, request: &StreamRequest) -> Result<String> {
        self.url("attach", id.as_str(), request.clone())
    }
    async fn port_forward_url(&self, id: &SandboxId, _: &[u16]) -> Result<String> {
        let none = StreamRequest { command: vec![], stdin: false, stdout: false, stderr: false, tty: false };
        self.url("portForward", id.as_str(), none)
    }

    async fn exec(&self, _: &ContainerId, _: &[String], _: Duration) -> Result<ExecOutput> {
        unreachable!()
    }
    async fn update_container(&self, _: &ContainerId, _: LinuxContainerResources) -> Result<()> {
        unreachable!()
    }
    async fn file_systems(&self) -> Result<crate::runtime::FileSystems> {
        unreachable!()
    }
    async fn container_usage(&self, _: &ContainerId) -> Result<crate::runtime::ContainerUsage> {
        unreachable!()
    }
    async fn update_sandbox(&self, _: &SandboxId, _: LinuxContainerResources, _: LinuxContainerResources) -> Result<()> {
        unreachable!()
    }
    async fn version(&self) -> Result<RuntimeVersion> {
        unreachable!()
    }
    async fn health(&self) -> Result<RuntimeHealth> {
        unreachable!()
    }
    async fn cgroup_driver(&self) -> Result<CgroupDriver> {
        unreachable!()
    }
    async fn update_pod_cidr(&self, _: &str) -> Result<()> {
        unreachable!()
    }
    async fn observe_pod(&self, _: &PodUid) -> Result<Option<ObservedPod>> {
        unreachable!()
    }
    async fn sandbox(&self, _: &SandboxId) -> Result<Sandbox> {
        unreachable!()
    }
    async fn container(&self, _: &ContainerId) -> Result<Container> {
        unreachable!()
    }
    fn events(&self) -> BoxStream<'static, Option<PodUid>> {
        unreachable!()
    }
    async fn run_sandbox(&self, _: PodSandboxConfig, _: &str) -> Result<SandboxId> {
        unreachable!()
    }
    async fn stop_sandbox(&self, _: &SandboxId) -> Result<()> {
        unreachable!()
    }
    async fn remove_sandbox(&self, _: &SandboxId) -> Result<()> {
        unreachable!()
    }
    async fn create_container(&self, _: &SandboxId, _: ContainerConfig, _: PodSandboxConfig) -> Result<ContainerId> {
        unreachable!()
    }
    async fn start_container(&self, _: &ContainerId) -> Result<()> {
        unreachable!()
    }
    async fn stop_container(&self, _: &ContainerId, _: Duration) -> Result<()> {
        unreachable!()
    }
    async fn remove_container(&self, _: &ContainerId) -> Result<()> {
        unreachable!()
    }
    async fn reopen_log(&self, _: &ContainerId) -> Result<()> {
        unreachable!()
    }
    async fn image(&self, _: &str) -> Result<Option<Image>> {
        unreachable!()
    }
    async fn images(&self) -> Result<Vec<Image>> {
        unreachable!()
    }
    async fn pull_image(&self, _: &str, _: Option<&RegistryAuth>, _: &PodSandboxConfig) -> Result<String> {
        unreachable!()
    }
    async fn remove_image(&self, _: &str) -> Result<()> {
        unreachable!()
    }
}
