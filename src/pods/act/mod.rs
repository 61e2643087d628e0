//! Carrying out a plan: the thin I/O side of the pod workers.
//!
//! Acts own nothing: they get what they need by value ([`Job`]) and report what happened ([`Progress`]).

mod prepare;
mod start;
mod stop;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::api::core::v1::Pod;
use proto::cri::PodSandboxConfig;
use tokio::sync::{OnceCell, mpsc, watch};

use super::context::Context;
use super::memory::Subject;
use super::plan::Action;
use super::progress::Progress;
use crate::api::events::EventType;
use crate::model::{ContainerId, PodRef};
use crate::runtime::{Container, Image, Sandbox};
use crate::volumes::PodVolumes;

/// First and longest wait after a failed sandbox, container or stop.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// What acts may need, by value.
pub struct Job {
    /// The other rooms.
    pub ctx: Arc<Context>,
    /// The pod's names.
    pub name: PodRef,
    /// Its object; `None` for a pod that only the runtime or the disk knows.
    pub pod: Option<Arc<Pod>>,
    /// Its newest sandbox.
    pub sandbox: Option<Sandbox>,
    /// Its volumes, once set up.
    pub volumes: Option<Arc<PodVolumes>>,
    /// Images that an earlier act made ready, by container name.
    pub images: HashMap<String, Image>,
    /// Its containers' records.
    pub records: HashMap<ContainerId, Container>,
}

/// Where acts report to.
pub type Reports = mpsc::UnboundedSender<Progress>;

/// Runs all actions at the same time and ends when the last one has. When `cancelled` turns true, no further container is
/// started and long waits (volumes, image pulls) end.
pub async fn carry_out(job: Job, actions: Vec<Action>, reports: Reports, cancelled: watch::Receiver<bool>) {
    let run = &Run { job, reports, cancelled, config: OnceCell::new() };
    let acts = actions.into_iter().map(|action| -> BoxFuture<'_, ()> {
        match action {
            Action::SetUpVolumes => run.set_up_volumes().boxed(),
            Action::RunSandbox { attempt } => run.run_sandbox(attempt).boxed(),
            Action::PrepareImages { names, attempt } => run.prepare_images(names, attempt).boxed(),
            Action::StartContainers(list) => run.start_containers(list).boxed(),
            Action::StopContainer { id, name, grace, why } => run.stop_container(id, name, grace, why).boxed(),
            Action::RemoveContainer(id) => run.remove_container(id).boxed(),
            Action::StopSandbox(id) => run.stop_sandbox(id).boxed(),
            Action::RemoveSandbox(id) => run.remove_sandbox(id).boxed(),
            Action::Unmount => run.unmount().boxed(),
            Action::Release => run.release().boxed(),
        }
    });
    join_all(acts).await;
}

/// One plan on its way.
struct Run {
    job: Job,
    reports: Reports,
    cancelled: watch::Receiver<bool>,
    config: OnceCell<Arc<PodSandboxConfig>>,
}

impl Run {
    fn report(&self, progress: Progress) {
        // A worker that dropped the act has no use for its reports.
        let _ = self.reports.send(progress);
    }

    fn failed(&self, subject: Subject, reason: &str, message: String, retry: (Duration, Duration)) {
        self.report(Progress::Failed { subject, reason: reason.to_owned(), message, retry });
    }

    fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Ends when the act shall end early.
    async fn cancelled(&self) {
        let mut cancelled = self.cancelled.clone();
        if cancelled.wait_for(|c| *c).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// An event on the pod, or with a name on one of its containers.
    fn event(&self, container: Option<&str>, kind: EventType, reason: &'static str, message: &str) {
        let Some(pod) = &self.job.pod else { return };
        let path = container.map(|name| super::spec::field_path(pod, name));
        self.job.ctx.recorder.pod_event(&self.job.name, path.as_deref(), kind, reason, message);
    }
}
