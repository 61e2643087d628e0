//! The calls of [`Runtime`] on the runtime in memory.

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt, once, unfold};
use proto::cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};

use super::faults::Store;
use super::*;
use crate::model::SandboxId;
use crate::runtime::{
    CgroupDriver, ContainerUsage, ExecOutput, FileSystems, Image, RegistryAuth, Runtime, RuntimeHandler, RuntimeHealth, RuntimeVersion,
    StreamRequest,
};

/// How soon a command notices that its container has ended.
const EXEC_LOOK: Duration = Duration::from_millis(100);

fn image(reference: &str) -> Image {
    Image {
        id: reference.to_owned(),
        tags: vec![reference.to_owned()],
        digests: vec![],
        size: 1 << 20,
        uid: None,
        username: String::new(),
        pinned: false,
    }
}

impl FakeRuntime {
    fn pod_of(&self, id: &ContainerId) -> Option<String> {
        self.lock().pod_of(id)
    }

    fn pod_of_sandbox(&self, id: &SandboxId) -> Option<String> {
        self.lock().pod_of_sandbox(id)
    }

    pub(super) fn end_all(&self, sandbox: &SandboxId) {
        let running = self.lock().running_ids(sandbox);
        running.iter().for_each(|id| self.end(id, 137));
    }

    /// A TERM. What became of the container is not waited for.
    fn terminate(&self, id: &ContainerId) {
        let mut state = self.lock();
        let running = state.container_mut(id).filter(|r| is_alive(r.container.phase)).map(|r| (r.pod.uid.clone(), r.life));
        let Some((uid, life)) = running else { return };
        state.stopped.push(uid);
        drop(state);
        match life.after_term {
            Some(Duration::ZERO) => self.end(id, 143),
            Some(after) => self.end_after(id.clone(), after, 143),
            None => {}
        }
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<RuntimeVersion> {
        let version = RuntimeVersion { name: "fake".to_owned(), version: "1.0.0".to_owned() };
        self.call("version", None, || Ok(version)).await
    }
    async fn health(&self) -> Result<RuntimeHealth> {
        let handlers = vec![RuntimeHandler { recursive_read_only_mounts: true, ..RuntimeHandler::default() }];
        self.call("health", None, || Ok(RuntimeHealth { handlers, ..RuntimeHealth::default() })).await
    }
    async fn cgroup_driver(&self) -> Result<CgroupDriver> {
        self.call("cgroup_driver", None, || Ok(CgroupDriver::Systemd)).await
    }
    async fn update_pod_cidr(&self, _: &str) -> Result<()> {
        self.call("update_pod_cidr", None, || Ok(())).await
    }

    async fn list_pods(&self) -> Result<Vec<ObservedPod>> {
        self.call("list_pods", None, || Ok(self.pods())).await
    }
    async fn observe_pod(&self, uid: &PodUid) -> Result<Option<ObservedPod>> {
        let find = || self.pods().into_iter().find(|p| p.pod.uid == *uid);
        let name = find().map(|p| p.pod.name.to_string());
        self.call("observe_pod", name.as_deref(), || Ok(find())).await
    }
    async fn sandbox(&self, id: &SandboxId) -> Result<Sandbox> {
        self.call("sandbox", self.pod_of_sandbox(id).as_deref(), || self.lock().sandbox(id)).await
    }
    async fn container(&self, id: &ContainerId) -> Result<Container> {
        self.call("container", self.pod_of(id).as_deref(), || self.lock().container(id)).await
    }
    fn events(&self) -> BoxStream<'static, Option<PodUid>> {
        // As with the real one, nobody listens before the stream is first looked at.
        let this = self.clone();
        once(async move { this.lock().listen() })
            .flat_map(|hints| unfold(hints, |mut hints| async { hints.recv().await.map(|hint| (hint, hints)) }))
            .boxed()
    }

    async fn run_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<SandboxId> {
        let pod = config.metadata.as_ref().map(|m| m.name.clone());
        let run = || {
            let mut state = self.lock();
            state.handlers.push(handler.to_owned());
            state.run_sandbox(&config, self.clock.now())
        };
        self.call("run_sandbox", pod.as_deref(), run).await
    }
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        let stop = || {
            self.lock().sandbox_down(id, false);
            self.end_all(id);
            Ok(())
        };
        self.call("stop_sandbox", self.pod_of_sandbox(id).as_deref(), stop).await
    }
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        let remove = || {
            self.lock().remove_sandbox(id);
            Ok(())
        };
        self.call("remove_sandbox", self.pod_of_sandbox(id).as_deref(), remove).await
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<ContainerId> {
        let create = || {
            let id = self.lock().create_container(sandbox, &config, &sandbox_config, self.clock.now())?;
            // The log is there from the beginning; where its directory is missing, nobody reads it.
            let _ = std::fs::write(format!("{}/{}", sandbox_config.log_directory, config.log_path), "");
            Ok(id)
        };
        self.call("create_container", self.pod_of_sandbox(sandbox).as_deref(), create).await
    }
    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let start = || {
            let life = self.lock().start_container(id, self.clock.now())?;
            if let Some((after, code)) = life.ends {
                self.end_after(id.clone(), after, code);
            }
            Ok(())
        };
        self.call("start_container", self.pod_of(id).as_deref(), start).await
    }
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let pod = self.pod_of(id);
        let call = async {
            self.call("stop_container", pod.as_deref(), || {
                self.terminate(id);
                Ok(())
            })
            .await?;
            let immortal = self.lock().container_mut(id).is_some_and(|r| r.life.immortal);
            if timeout(grace, self.wait_end(id)).await.is_err() && !immortal {
                self.end(id, 137);
            }
            Ok(())
        };
        within(grace + DEADLINE, "stop_container", call).await
    }
    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let remove = || {
            self.lock().remove_container(id);
            Ok(())
        };
        self.call("remove_container", self.pod_of(id).as_deref(), remove).await
    }
    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.call("reopen_log", self.pod_of(id).as_deref(), || self.lock().container(id).map(drop)).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let find = || Ok((self.lock().faults.image(reference) == Store::Here).then(|| image(reference)));
        self.call("image", None, find).await
    }
    async fn images(&self) -> Result<Vec<Image>> {
        self.call("images", None, || Ok(vec![])).await
    }
    async fn pull_image(&self, reference: &str, _: Option<&RegistryAuth>, _: &PodSandboxConfig) -> Result<String> {
        let store = self.lock().faults.image(reference);
        match store {
            Store::Silent => return pending().await,
            Store::Registry(time) => sleep(time).await,
            Store::Here | Store::Nowhere(_) => {}
        }
        let pull = || {
            let mut state = self.lock();
            if let Store::Nowhere(words) = state.faults.image(reference) {
                return Err(Error { action: "pull_image".to_owned(), kind: ErrorKind::Failed(words) });
            }
            state.faults.put_image(reference, Store::Here);
            Ok(reference.to_owned())
        };
        self.call("pull_image", None, pull).await
    }
    async fn remove_image(&self, reference: &str) -> Result<()> {
        let remove = || {
            self.lock().faults.put_image(reference, Store::Registry(Duration::ZERO));
            Ok(())
        };
        self.call("remove_image", None, remove).await
    }
    async fn file_systems(&self) -> Result<FileSystems> {
        let here = || Ok(FileSystems { images: "/".into(), containers: "/".into() });
        self.call("file_systems", None, here).await
    }

    async fn exec(&self, id: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let run = async {
            let (after, output) = self.call("exec", self.pod_of(id).as_deref(), || self.lock().exec(id, command)).await?;
            let end = Instant::now() + after;
            while Instant::now() < end {
                sleep_until(end.min(Instant::now() + EXEC_LOOK)).await;
                // A command ends with its container.
                self.lock().expect_running(id)?;
            }
            Ok(output)
        };
        within(timeout, "exec", run).await
    }
    async fn update_container(&self, id: &ContainerId, resources: LinuxContainerResources) -> Result<()> {
        let update = || self.lock().update_container(id, &resources);
        self.call("update_container", self.pod_of(id).as_deref(), update).await
    }
    async fn container_usage(&self, id: &ContainerId) -> Result<ContainerUsage> {
        self.call("container_usage", self.pod_of(id).as_deref(), || self.lock().container_usage(id)).await
    }
    async fn update_sandbox(&self, id: &SandboxId, _: LinuxContainerResources, _: LinuxContainerResources) -> Result<()> {
        self.call("update_sandbox", self.pod_of_sandbox(id).as_deref(), || self.lock().sandbox(id).map(drop)).await
    }

    async fn exec_url(&self, _: &ContainerId, _: &StreamRequest) -> Result<String> {
        self.call("exec_url", None, || Ok("http://127.0.0.1:1/exec/token".to_owned())).await
    }
    async fn attach_url(&self, _: &ContainerId, _: &StreamRequest) -> Result<String> {
        self.call("attach_url", None, || Ok("http://127.0.0.1:1/attach/token".to_owned())).await
    }
    async fn port_forward_url(&self, _: &SandboxId, _: &[u16]) -> Result<String> {
        self.call("port_forward_url", None, || Ok("http://127.0.0.1:1/portforward/token".to_owned())).await
    }
}
