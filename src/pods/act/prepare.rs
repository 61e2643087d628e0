//! What must be there before a container can start: volumes, the sandbox, images.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use proto::cri::PodSandboxConfig;
use tokio::time::Instant;

use super::{RETRY, Run};
use crate::api::events::EventType;
use crate::network::resolv_conf;
use crate::pods::memory::Subject;
use crate::pods::progress::Progress;
use crate::pods::spec;
use crate::runtime::translate::{SandboxInput, sandbox_config};

/// First and longest wait after volumes could not be set up (upstream: `goroutinemap/exponentialbackoff`).
const VOLUMES_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));

/// How often a container that waits for its next pull looks whether the image is there (upstream: `pod_workers.go`, a sync at least every
/// 10 to 15 seconds after an error).
const LOOK_FOR_IMAGE: Duration = Duration::from_secs(15);

impl Run {
    pub(super) async fn set_up_volumes(&self) {
        let Some(pod) = &self.job.pod else { return };
        let result = tokio::select! {
            result = self.job.ctx.volumes.set_up(pod) => result,
            () = self.cancelled() => return,
        };
        match result {
            Ok(volumes) => self.report(Progress::Volumes(volumes)),
            Err(errors) => {
                let mut all = String::new();
                for error in errors {
                    let message = format!("MountVolume.SetUp failed for volume {:?} : {}", error.volume, error.message);
                    tracing::warn!(pod = %self.job.name, %message, "Can't set up a volume, will try again");
                    self.event(None, EventType::Warning, "FailedMount", &message);
                    all.push_str(&message);
                }
                self.failed(Subject::Volumes, "FailedMount", all, VOLUMES_RETRY);
            }
        }
    }

    pub(super) async fn run_sandbox(&self, attempt: u32) {
        let Some(pod) = &self.job.pod else { return };
        if attempt > 0 {
            self.event(None, EventType::Normal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
        }
        let config = match self.sandbox_config(attempt).await {
            Ok(config) => config,
            Err(message) => return self.sandbox_failed(message),
        };
        if let Err(error) = make_dir(Path::new(&config.log_directory), 0o755) {
            return self.sandbox_failed(format!("make the log directory {}: {error}", config.log_directory));
        }
        let handler = match self.runtime_handler(pod).await {
            Ok(handler) => handler,
            Err(message) => return self.sandbox_failed(message),
        };
        let _turn = self.job.ctx.turns.sandbox().await;
        let runtime = &self.job.ctx.runtime;
        let made = runtime.run_sandbox(PodSandboxConfig::clone(&config), &handler).await;
        let found = match made {
            Ok(id) => runtime.sandbox(&id).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(sandbox) => self.report(Progress::Sandbox(sandbox)),
            Err(error) => {
                self.sandbox_failed(error.to_string());
                self.report(Progress::Uncertain);
            }
        }
    }

    /// What the runtime calls the pod's RuntimeClass; empty for the usual one.
    pub(super) async fn runtime_handler(&self, pod: &Pod) -> Result<String, String> {
        let Some(class) = spec::runtime_class(pod).filter(|name| !name.is_empty()) else { return Ok(String::new()) };
        let found = self.job.ctx.api.runtime_class(class).await;
        found.map(|class| class.handler).map_err(|error| match error.is_not_found() {
            true => format!(
                "failed to get sandbox runtime: RuntimeClass {class:?} not found; create it, or take runtimeClassName out of the pod"
            ),
            false => format!("failed to get sandbox runtime: {error}"),
        })
    }

    fn sandbox_failed(&self, message: String) {
        tracing::warn!(pod = %self.job.name, %message, "Can't make the pod's sandbox, will try again");
        self.event(None, EventType::Warning, "FailedCreatePodSandBox", &format!("Failed to create pod sandbox: {message}"));
        self.failed(Subject::Sandbox, "FailedCreatePodSandBox", message, RETRY);
    }

    /// Images for containers that start soon. A failure shows on the container.
    pub(super) async fn prepare_images(&self, names: Vec<String>, attempt: u32) {
        let Some(pod) = &self.job.pod else { return };
        // The sandbox's own act reports why there is no configuration.
        let Ok(config) = self.sandbox_config(attempt).await else { return };
        for name in names {
            if self.image(pod, &name, &config).await.is_none() {
                return;
            }
        }
    }

    /// One container's image, from an earlier act or the image room. `None` when it can't be had; that is reported already.
    pub(super) async fn image(&self, pod: &Pod, name: &str, config: &PodSandboxConfig) -> Option<crate::runtime::Image> {
        if let Some(image) = self.job.images.get(name) {
            return Some(image.clone());
        }
        let container = &*spec::any_container(pod, name)?;
        let sink = |kind, reason, message: String| self.event(Some(name), kind, reason, &message);
        let result = tokio::select! {
            result = self.job.ctx.images.ensure(pod, container, config, &sink) => result,
            () = self.cancelled() => return None,
        };
        match result {
            Ok(image) => {
                self.report(Progress::Image(name.to_owned(), image.clone()));
                Some(image)
            }
            Err(problem) => {
                // After a failed pull the next try says soon that it backs off, and until when.
                // But it looks for the image all the same: somebody may have brought it by hand.
                let backs_off = problem.retry_at.filter(|_| problem.reason == "ImagePullBackOff");
                let pause = backs_off.map(|at| (at - Instant::now()).min(LOOK_FOR_IMAGE));
                let retry = pause.map_or(RETRY, |p| (p, p));
                self.failed(Subject::Container(name.to_owned()), problem.reason, problem.message, retry);
                None
            }
        }
    }

    /// The configuration of the pod's sandbox, made once for all acts of a plan.
    pub(super) async fn sandbox_config(&self, attempt: u32) -> Result<Arc<PodSandboxConfig>, String> {
        self.config.get_or_try_init(|| self.make_sandbox_config(attempt)).await.cloned()
    }

    async fn make_sandbox_config(&self, attempt: u32) -> Result<Arc<PodSandboxConfig>, String> {
        let ctx = &self.job.ctx;
        let Some(pod) = &self.job.pod else { return Err("the pod's object is gone".to_owned()) };
        if let Some(name) = spec::bad_name(pod) {
            return Err(format!("the name {name:?} can't be part of a path"));
        }
        let cgroup_parent = ctx.cgroups.set_up(pod).await.map_err(|e| e.to_string())?;
        let host_dns = match &ctx.settings.resolv_conf {
            Some(path) => Some(resolv_conf::read(path).map_err(|e| e.to_string())?),
            None => None,
        };
        let input = SandboxInput { pod, attempt, cgroup_parent: &cgroup_parent, host_dns: host_dns.as_ref() };
        let (config, problems) = sandbox_config(input, &ctx.translate).map_err(|e| e.to_string())?;
        for problem in problems {
            self.event(None, EventType::Warning, problem.reason, &problem.message);
        }
        Ok(Arc::new(config))
    }
}

/// Makes a directory with its parents.
pub(super) fn make_dir(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}
