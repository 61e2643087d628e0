//! The way down.

use std::pin::pin;
use std::time::Duration;

use futures::future::{FusedFuture as _, FutureExt as _};

use super::limit::Limit;
use super::{RETRY, Run};
use crate::api::events::EventType;
use crate::model::{ContainerId, SandboxId};
use crate::pods::log_files;
use crate::pods::memory::Subject;
use crate::pods::plan::{Reset, Why, is_alive};
use crate::pods::progress::Progress;
use crate::runtime::{self, Container};

/// The shortest time between TERM and KILL of a container (`kuberuntime_container.go`, `minimumGracePeriodInSeconds`).
const MIN_GRACE: Duration = Duration::from_secs(2);

/// A container to stop: [`Action::StopContainer`](crate::pods::plan::Action).
pub(super) struct Stop {
    pub id: ContainerId,
    pub name: String,
    pub grace: Duration,
    pub why: Why,
    pub after: Vec<ContainerId>,
    pub hook: bool,
}

impl Run {
    /// The hook, the turn, then the runtime. A hook that is late goes on until its container ends, as with upstream.
    async fn end(&self, id: &ContainerId, hook: impl Future<Output = ()>, after: &[ContainerId], limit: &mut Limit) -> runtime::Result<()> {
        let mut hook = pin!(hook.fuse());
        tokio::select! {
            () = &mut hook => {}
            () = limit.passed() => tracing::info!(pod = %self.job.name, %id, "The hook before the container's end was not done within the grace period"),
        }
        let stop = async {
            tokio::select! {
                () = self.turn(after) => {}
                () = limit.passed() => {}
            }
            loop {
                tokio::select! {
                    stopped = self.job.ctx.runtime.stop_container(id, limit.left().max(MIN_GRACE)) => return stopped,
                    // Asked for again, with less time.
                    () = limit.shortened() => {}
                }
            }
        };
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                stopped = &mut stop => return stopped,
                () = &mut hook, if !hook.is_terminated() => {}
            }
        }
    }

    /// The hook, the turn, TERM, and KILL at the end of the grace period that all of them share.
    pub(super) async fn stop_container(&self, stop: Stop) {
        let Stop { id, name, .. } = stop;
        self.event(Some(&name), EventType::Normal, "Killing", &stop.why.message(self.job.pod.as_deref(), &name));
        let runtime = &self.job.ctx.runtime;
        let mut limit = Limit::new(stop.grace, self.orders.clone());
        let left = limit.left();
        let hook = async {
            if stop.hook {
                self.pre_stop(&id, &name, left).await;
            }
        };
        let stopped = self.end(&id, hook, &stop.after, &mut limit).await;
        if let Err(error) = stopped {
            return self.stop_failed(&error, "FailedKillPod");
        }
        self.ended.send_modify(|ended| {
            ended.insert(id.clone());
        });
        match runtime.container(&id).await {
            Ok(record) => {
                if is_alive(record.phase) {
                    let message = format!("the runtime says that container {name} is stopped, and that it is {:?}", record.phase);
                    self.failed(Subject::Stop, "FailedKillPod", message, RETRY);
                } else {
                    self.report(Progress::Succeeded(Subject::Stop));
                }
                let sandbox = self.job.records.get(&id).map(|known| known.sandbox.clone()).unwrap_or(record.sandbox);
                self.report(Progress::Stopped(Container { sandbox, ..record }));
            }
            Err(error) if error.is_not_found() => self.report(Progress::ContainerRemoved(id)),
            Err(_) => self.report(Progress::Uncertain),
        }
    }

    /// Ends when all of these have been stopped.
    async fn turn(&self, after: &[ContainerId]) {
        // The sender lives as long as this does.
        let _ = self.ended.subscribe().wait_for(|ended| after.iter().all(|id| ended.contains(id))).await;
    }

    pub(super) async fn stop_sandbox(&self, id: SandboxId) {
        match self.job.ctx.runtime.stop_sandbox(&id).await {
            Ok(()) => {
                self.report(Progress::Succeeded(Subject::Stop));
                self.report(Progress::SandboxStopped(id));
            }
            Err(error) => self.stop_failed(&error, "FailedKillPod"),
        }
    }

    /// Ends at the first that can't be removed: what is left shows the next plan how to go on.
    pub(super) async fn reset_containers(&self, list: Vec<Reset>) {
        let runtime = &self.job.ctx.runtime;
        for Reset { id, name, stop } in list {
            if self.is_cancelled() {
                return;
            }
            if stop {
                self.event(Some(&name), EventType::Normal, "Killing", &Why::BeginAnew.message(self.job.pod.as_deref(), &name));
                if let Err(error) = runtime.stop_container(&id, MIN_GRACE).await {
                    return self.stop_failed(&error, "FailedKillPod");
                }
            }
            if let Err(error) = runtime.remove_container(&id).await {
                return self.stop_failed(&error, "FailedKillPod");
            }
            self.report(Progress::ContainerRemoved(id));
        }
        self.report(Progress::Succeeded(Subject::Stop));
    }

    /// Logs go first: once the runtime has forgotten the container, nobody who starts after a crash knows of them.
    pub(super) async fn remove_container(&self, id: ContainerId) {
        if let Some(record) = self.job.records.get(&id) {
            log_files::unlink(&self.job.ctx.translate.pod_logs_dir, &self.job.name, &record.name, &id, &record.log_path);
        }
        if let Err(error) = self.job.ctx.runtime.remove_container(&id).await {
            return self.stop_failed(&error, "FailedKillPod");
        }
        self.report(Progress::Succeeded(Subject::Stop));
        self.report(Progress::ContainerRemoved(id));
    }

    pub(super) async fn remove_sandbox(&self, id: SandboxId) {
        // Gives back the network of a sandbox that died by itself.
        if let Err(error) = self.job.ctx.runtime.stop_sandbox(&id).await {
            return self.stop_failed(&error, "FailedKillPod");
        }
        // As with containers: logs first.
        let dir = &self.job.ctx.translate.pod_logs_dir;
        for record in self.job.records.values().filter(|r| r.sandbox == id) {
            log_files::unlink(dir, &self.job.name, &record.name, &record.id, &record.log_path);
        }
        if let Err(error) = self.job.ctx.runtime.remove_sandbox(&id).await {
            return self.stop_failed(&error, "FailedKillPod");
        }
        self.report(Progress::Succeeded(Subject::Stop));
        self.report(Progress::SandboxRemoved(id));
    }

    pub(super) async fn unmount(&self) {
        // Not the end of it: `release` finds what is left, and reports it.
        let _ = self.job.ctx.volumes.tear_down(&self.job.name.uid).await;
    }

    pub(super) async fn release(&self) {
        let uid = &self.job.name.uid;
        let volumes = self.job.ctx.volumes.tear_down(uid).await;
        let cgroup = self.job.ctx.cgroups.tear_down(uid).await;
        let mut problems: Vec<String> = volumes.err().unwrap_or_default().iter().map(ToString::to_string).collect();
        problems.extend(cgroup.err().map(|e| e.to_string()));
        if problems.is_empty() {
            self.report(Progress::Succeeded(Subject::Stop));
            self.report(Progress::Released);
        } else {
            let message = problems.join("; ");
            tracing::warn!(pod = %self.job.name, %message, "Can't release all that the pod held, will try again");
            self.failed(Subject::Stop, "FailedKillPod", message, RETRY);
        }
    }

    fn stop_failed(&self, error: &runtime::Error, reason: &'static str) {
        tracing::warn!(pod = %self.job.name, %error, "Can't stop the pod, will try again");
        self.event(None, EventType::Warning, reason, &format!("error killing pod: {error}"));
        self.failed(Subject::Stop, reason, error.to_string(), RETRY);
        self.report(Progress::Uncertain);
    }
}
