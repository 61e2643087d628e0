//! The trait on top of the world: faults, waiting, hints.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use proto::cri::{ContainerConfig, PodSandboxConfig};
use tokio::sync::broadcast::error::RecvError;

use super::{FakeRuntime, Pull, World};
use crate::model::{ContainerId, PodUid, SandboxId};
use crate::runtime::{
    CgroupDriver, Container, Error, ErrorKind, Image, ObservedPod, RegistryAuth, Result, Runtime, RuntimeHealth, RuntimeVersion, Sandbox,
    StreamRequest,
};

type Done<T> = std::result::Result<T, ErrorKind>;

impl FakeRuntime {
    /// One call: through the injector, then on the world, then hints about what changed.
    async fn call<T>(&self, name: &'static str, effect: impl FnOnce(&mut World) -> Done<(T, Vec<PodUid>)>) -> Result<T> {
        let error = |kind| Error { action: name.to_owned(), kind };
        let effect = async {
            let done = {
                let mut world = self.lock();
                if world.down { Err(ErrorKind::Unavailable("nobody listens on the socket".into())) } else { effect(&mut world) }
            };
            let (value, changed) = done.map_err(error)?;
            changed.into_iter().for_each(|uid| self.tell(Some(uid)));
            Ok(value)
        };
        self.injector.call("runtime", name, effect).await
    }

    /// A call that changes nothing.
    async fn ask<T>(&self, name: &'static str, question: impl FnOnce(&mut World) -> Done<T>) -> Result<T> {
        self.call(name, |w| question(w).map(|answer| (answer, vec![]))).await
    }

    /// Does something to a container later, whatever becomes of the agent meanwhile.
    fn later(&self, after: Duration, id: &ContainerId, code: i32) {
        let (this, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            this.change(|w| w.exit(&id, code));
        });
    }

    async fn wait_until_ended(&self, id: &ContainerId) {
        let mut changed = self.changed.subscribe();
        // The sender lives as long as `self`.
        let _ = changed.wait_for(|_| self.lock().on_term(id).is_none()).await;
    }
}

/// A URL that nobody serves, with the request in it.
fn url(name: &str, target: impl std::fmt::Display) -> String {
    format!("http://127.0.0.1:1/{name}/{target}")
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<RuntimeVersion> {
        self.ask("version", |_| Ok(RuntimeVersion { name: "fake".into(), version: "1.0.0".into() })).await
    }
    async fn health(&self) -> Result<RuntimeHealth> {
        self.ask("health", |w| Ok(w.health.clone())).await
    }
    async fn cgroup_driver(&self) -> Result<CgroupDriver> {
        self.ask("cgroup_driver", |_| Ok(CgroupDriver::Cgroupfs)).await
    }
    async fn update_pod_cidr(&self, _: &str) -> Result<()> {
        self.ask("update_pod_cidr", |_| Ok(())).await
    }

    async fn list_pods(&self) -> Result<Vec<ObservedPod>> {
        self.ask("list_pods", |w| Ok(w.observe_all())).await
    }
    async fn observe_pod(&self, uid: &PodUid) -> Result<Option<ObservedPod>> {
        self.ask("observe_pod", |w| Ok(w.observe(uid))).await
    }
    async fn sandbox(&self, id: &SandboxId) -> Result<Sandbox> {
        self.ask("sandbox", |w| w.sandbox(id)).await
    }
    async fn container(&self, id: &ContainerId) -> Result<Container> {
        self.ask("container", |w| w.container(id)).await
    }
    fn events(&self) -> BoxStream<'static, Option<PodUid>> {
        let first = stream::iter([None]);
        let rest = stream::unfold(self.hints.subscribe(), |mut hints| async {
            match hints.recv().await {
                Ok(hint) => Some((hint, hints)),
                Err(RecvError::Lagged(_)) => Some((None, hints)),
                Err(RecvError::Closed) => None,
            }
        });
        first.chain(rest).boxed()
    }

    async fn run_sandbox(&self, config: PodSandboxConfig, _: &str) -> Result<SandboxId> {
        let uid = PodUid::from(config.metadata.as_ref().map(|m| m.uid.as_str()).unwrap_or_default());
        self.call("run_sandbox", |w| Ok((w.run_sandbox(&config)?, vec![uid]))).await
    }
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.call("stop_sandbox", |w| Ok(((), w.stop_sandbox(id)))).await
    }
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.call("remove_sandbox", |w| Ok(((), w.remove_sandbox(id)))).await
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<ContainerId> {
        let uid = PodUid::from(sandbox_config.metadata.as_ref().map(|m| m.uid.as_str()).unwrap_or_default());
        let logs = &sandbox_config.log_directory;
        self.call("create_container", |w| Ok((w.create_container(sandbox, config, logs)?, vec![uid]))).await
    }
    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let start = |w: &mut World| {
            let (uid, script) = w.start_container(id)?;
            if let Some((after, code)) = script.exit {
                self.later(after, id, code);
            }
            Ok(((), vec![uid]))
        };
        self.call("start_container", start).await
    }
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let term = |w: &mut World| {
            if let Some(script) = w.on_term(id)
                && let Some(after) = script.on_term.filter(|_| !grace.is_zero())
            {
                let code = script.exit.map_or(0, |(_, code)| code);
                self.later(after, id, code);
            }
            Ok(())
        };
        self.ask("stop_container", term).await?;
        if tokio::time::timeout(grace, self.wait_until_ended(id)).await.is_err() {
            // As real runtimes do, the KILL comes from the call that is still waited for.
            self.change(|w| w.exit(id, 137));
        }
        Ok(())
    }
    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.call("remove_container", |w| Ok(((), w.remove_container(id)))).await
    }
    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.ask("reopen_log", |w| w.container(id).map(drop)).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.ask("image", |w| Ok(w.image(reference))).await
    }
    async fn images(&self) -> Result<Vec<Image>> {
        self.ask("images", |w| Ok(w.images.values().cloned().collect())).await
    }
    async fn pull_image(&self, reference: &str, _: Option<&RegistryAuth>, _: &PodSandboxConfig) -> Result<String> {
        let pull = self.ask("pull_image", |w| match w.pulls.get(reference) {
            Some(Pull::Takes(time)) => Ok(*time),
            Some(Pull::Fails(words)) => Err(ErrorKind::Failed(words.clone())),
            None => Err(ErrorKind::NotFound(format!("failed to resolve image {reference}"))),
        });
        // A pull that nobody waits for any more is given up.
        tokio::time::sleep(pull.await?).await;
        let mut world = self.lock();
        world.add_image(reference);
        Ok(world.image(reference).map(|i| i.id).unwrap_or_default())
    }
    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.ask("remove_image", |w| {
            w.images.retain(|name, image| name != reference && image.id != reference);
            Ok(())
        })
        .await
    }

    async fn exec_url(&self, id: &ContainerId, _: &StreamRequest) -> Result<String> {
        self.ask("exec_url", |w| w.container(id).map(|_| url("exec", id))).await
    }
    async fn attach_url(&self, id: &ContainerId, _: &StreamRequest) -> Result<String> {
        self.ask("attach_url", |w| w.container(id).map(|_| url("attach", id))).await
    }
    async fn port_forward_url(&self, id: &SandboxId, _: &[u16]) -> Result<String> {
        self.ask("port_forward_url", |w| w.sandbox(id).map(|_| url("portforward", id))).await
    }
}
