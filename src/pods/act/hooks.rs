//! Lifecycle hooks: what a container's owner wants done after its start and before its end (upstream: `lifecycle/handlers.go`).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler};
use tokio::time::sleep;

use super::Run;
use crate::api::events::EventType;
use crate::model::ContainerId;
use crate::pods::http_get::{self, Get};
use crate::pods::progress::Progress;
use crate::pods::spec;
use crate::runtime::Container;

/// Upstream sets a hook after the start no limit at all: it is given a day.
pub(super) const POST_START_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How much longer than a container's grace period the call of its hook may take.
const PRE_STOP_MORE: Duration = Duration::from_secs(10);

/// As much of a container's spec as its hook needs, from what the runtime keeps (upstream: `restoreSpecsFromContainerLabels`).
fn restored(record: &Container) -> Option<Spec> {
    let (handler, ports) = &**record.hook.as_ref()?;
    let handler: LifecycleHandler = serde_json::from_str(handler).ok()?;
    let lifecycle = Lifecycle { pre_stop: Some(handler), ..Lifecycle::default() };
    let ports = serde_json::from_str(ports).unwrap_or_default();
    Some(Spec { name: record.name.to_string(), ports, lifecycle: Some(lifecycle), ..Spec::default() })
}

impl Run {
    /// Runs a container's hook before its end, of which `left` is left. Never twice for one instance.
    pub(super) async fn pre_stop(&self, id: &ContainerId, name: &str, left: Duration) {
        let kept = self.job.records.get(id).and_then(restored);
        let known = self.job.pod.as_ref().and_then(|pod| spec::container(pod, name)).cloned();
        let Some(container) = known.or(kept) else { return };
        let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else { return };
        self.report(Progress::PreStopping(id.clone()));
        // What is not done in time ends with the container; the call's own deadline comes after that.
        if let Err(error) = self.hook(id, &container, handler, left + PRE_STOP_MORE).await {
            tracing::warn!(pod = %self.job.name, container = name, %error, "The hook before the container's end has failed");
            // Without the error: it may hold what not everybody who reads events should see.
            self.event(Some(name), EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
        }
    }

    /// Runs one hook. The error is for the pod's status.
    pub(super) async fn hook(&self, id: &ContainerId, container: &Spec, handler: &LifecycleHandler, limit: Duration) -> Result<(), String> {
        let of = |kind: String, error: String| {
            format!(
                "{kind} for Container {:?} in Pod \"{}({})\" failed - error: {error}",
                container.name,
                self.pod_words(),
                self.job.name.uid
            )
        };
        if let Some(exec) = &handler.exec {
            let command = exec.command.as_deref().unwrap_or_default();
            return self.command(id, exec, limit).await.map_err(|error| of(format!("Exec lifecycle hook ({command:?})"), error));
        }
        if let Some(action) = &handler.http_get {
            let path = action.path.as_deref().unwrap_or_default();
            return self.request(container, action, limit).await.map_err(|error| of(format!("HTTP lifecycle hook ({path})"), error));
        }
        if let Some(action) = &handler.sleep {
            sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
            return Ok(());
        }
        Err("Cannot run handler: it is neither a command nor a request nor a sleep".to_owned())
    }

    /// `name_namespace`.
    fn pod_words(&self) -> String {
        format!("{}_{}", self.job.name.name, self.job.name.namespace)
    }

    async fn command(&self, id: &ContainerId, exec: &ExecAction, limit: Duration) -> Result<(), String> {
        let command = exec.command.as_deref().unwrap_or_default();
        match self.job.ctx.runtime.exec(id, command, limit).await {
            Ok(done) if done.exit_code == 0 => Ok(()),
            Ok(done) => {
                let output = String::from_utf8_lossy(&done.output).into_owned();
                Err(format!("command '{}' exited with {}: {output}, message: {output:?}", command.join(" "), done.exit_code))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whatever is answered is fine, if only something is.
    async fn request(&self, container: &Spec, action: &HTTPGetAction, limit: Duration) -> Result<(), String> {
        let host_network = self.job.pod.as_ref().is_some_and(|pod| spec::host_network(pod));
        let ips = match &self.job.sandbox {
            Some(sandbox) if !host_network => &sandbox.ips,
            _ => &self.job.ctx.settings.node_ips,
        };
        let ip = ips.first().map(ToString::to_string).unwrap_or_default();
        let mut get = Get::of(action, container, &ip, "lifecycle")?;
        match http_get::get(&get, limit).await {
            Err(http_get::Error::PlainServer(url)) => {
                // What was meant for an encrypted connection stays out of this one.
                get.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
                get.https = false;
                if http_get::get(&get, limit).await.is_err() {
                    return Err(http_get::Error::PlainServer(url).to_string());
                }
                let host = http_get::join(&get.host, get.port);
                let message = format!("request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded");
                self.event(None, EventType::Warning, "LifecycleHTTPFallback", &message);
                Ok(())
            }
            other => other.map(drop).map_err(|error| error.to_string()),
        }
    }
}
