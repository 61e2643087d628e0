//! Carrying out a plan: the thin I/O side of the pod workers.
//!
//! Acts own nothing: they get what they need by value ([`Job`]) and report what happened ([`Progress`]).

mod hooks;
mod limit;
mod prepare;
mod resize;
mod start;
mod stop;

use std::collections::{BTreeSet, HashMap};
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
use stop::Stop;

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

pub use limit::Orders;

/// Where acts report to.
pub type Reports = mpsc::UnboundedSender<Progress>;

/// Runs all actions at the same time and ends when the last one has. When the orders are to cancel, no further container is
/// started and long waits (volumes, image pulls, hooks after a start) end; a shorter grace period counts for stops under way.
pub async fn carry_out(job: Job, actions: Vec<Action>, reports: Reports, orders: watch::Receiver<Orders>) {
    let run = &Run { job, reports, orders, ended: watch::Sender::default(), config: OnceCell::new() };
    let acts = actions.into_iter().map(|action| -> BoxFuture<'_, ()> {
        match action {
            Action::SetUpVolumes => run.set_up_volumes().boxed(),
            Action::RunSandbox { attempt } => run.run_sandbox(attempt).boxed(),
            Action::PrepareImages { names, attempt } => run.prepare_images(names, attempt).boxed(),
            Action::StartContainers(list) => run.start_containers(list).boxed(),
            Action::StopContainer { id, name, grace, why, after, hook } => {
                let stop = Stop { id, name, grace, why, after, hook };
                run.stop_container(stop).boxed()
            }
            Action::Resize(list) => run.resize(list).boxed(),
            Action::ResetContainers(list) => run.reset_containers(list).boxed(),
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
    orders: watch::Receiver<Orders>,
    /// Instances that have been stopped.
    ended: watch::Sender<BTreeSet<ContainerId>>,
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
        self.orders.borrow().cancelled
    }

    /// Ends when the act shall end early.
    async fn cancelled(&self) {
        let mut orders = self.orders.clone();
        if orders.wait_for(|orders| orders.cancelled).await.is_err() {
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
