//! The Service proxy: turns Services and EndpointSlices into nftables transactions.
//!
//! **In**: two watches ([`crate::api::WatchEvent`]). **Out**: transactions on the tables `ip kubelet-rs` and `ip6 kubelet-rs`, deleted
//! conntrack entries of stale UDP flows, and the [`Catalog`] of Services, from which containers get their environment.
//!
//! ```text
//! watches ─▶ tracker ─▶ endpoints ─▶ route ─▶ plan ─▶ chain, ruleset ─▶ sync ─▶ kernel
//!                      └─────────────── pure ────────────────┘
//! ```
//!
//! **Owns**: the only copy of Services and slices, and which endpoint stands at which place of which map (`plan`): a change is
//! computed from these, so its cost follows the change and not the number of Services. Nothing is listed in steady state.
//! What somebody else does to the tables is heard and put right (`vigilance`).
//! **Survives a restart**: the tables. The next start reads them back (`adopt`), keeps every element that is right where it is, and
//! changes the rest in one transaction: no connection notices.

mod adopt;
mod affinity;
pub mod catalog;
mod chain;
pub mod checks;
mod cleaner;
pub mod cleanup;
pub mod conntrack;
mod counts;
pub mod endpoints;
pub mod frontend;
pub mod health;
pub mod hostcheck;
pub mod iptables;
pub mod metrics;
pub mod piece;
pub mod plan;
pub mod plane;
mod route;
pub mod ruleset;
pub mod surroundings;
mod sync;
pub mod sysctls;
mod tables;
pub mod terms;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tracker;
mod vigilance;

use std::future::Future;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::api::{ErrorKind, WatchEvent};
use crate::model::service::{EndpointSlice, Service};
use crate::nft::Family;

pub use catalog::Catalog;
use checks::Checks;
use conntrack::Conntrack;
use health::Health;
use metrics::Metrics;
use plane::DataPlane;
use sync::Sync;
use terms::Terms;
use tracker::Tracker;

/// What load balancers and operators may know of the proxy.
#[derive(Clone)]
pub struct Status {
    /// How up to date Services are.
    pub health: watch::Receiver<Health>,
    /// What load balancers are told.
    pub checks: watch::Receiver<Checks>,
    /// On which terms Services are programmed.
    pub terms: watch::Receiver<Terms>,
    /// What is counted.
    pub metrics: watch::Receiver<Metrics>,
}

/// The Service proxy. `O` opens the data plane: at start, and again after it could not be opened.
pub struct Proxy<D, O, C> {
    tracker: Tracker,
    sync: Sync<D, O>,
    cleaner: cleaner::Cleaner<C>,
    terms: watch::Receiver<Terms>,
}

impl<D, O, F, C> Proxy<D, O, C>
where
    D: DataPlane,
    O: FnMut() -> F,
    F: Future<Output = Result<D, D::Error>>,
    C: Conntrack,
{
    /// A proxy for these families ([`hostcheck::families`]). Nothing happens before [`Self::run`]. Terms may change at any time.
    pub fn new(open: O, conntrack: C, families: Vec<Family>, mut terms: watch::Receiver<Terms>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let sync = Sync::new(open, families, terms.borrow_and_update().clone(), sender);
        let cleaner = cleaner::Cleaner::new(conntrack, receiver, sync.told().metrics.clone());
        Self { tracker: Tracker::default(), sync, cleaner, terms }
    }

    /// The Services that the watch told of. It fills also when nothing can be programmed or EndpointSlices may not be watched.
    pub fn catalog(&self) -> Catalog {
        self.tracker.catalog().clone()
    }

    /// What load balancers and operators may know.
    pub fn status(&self) -> Status {
        let told = self.sync.told();
        Status {
            health: told.health.subscribe(),
            checks: told.checks.subscribe(),
            terms: self.terms.clone(),
            metrics: told.metrics.subscribe(),
        }
    }

    /// Programs Services until both watches end. To stop it, drop it: the tables stay, and Services go on working.
    pub async fn run(mut self, services: BoxStream<'static, WatchEvent<Service>>, slices: BoxStream<'static, WatchEvent<EndpointSlice>>) {
        hostcheck::report(&self.sync.families());
        let Self { tracker, sync, cleaner, terms } = &mut self;
        // What was programmed reaches the cleaner before it judges what it has read.
        tokio::select! {
            biased;
            () = follow(tracker, sync, terms, services, slices) => {}
            () = cleaner.run() => {}
        }
    }
}

async fn follow<D, O, F>(
    tracker: &mut Tracker,
    sync: &mut Sync<D, O>,
    terms: &mut watch::Receiver<Terms>,
    services: BoxStream<'static, WatchEvent<Service>>,
    slices: BoxStream<'static, WatchEvent<EndpointSlice>>,
) where
    D: DataPlane,
    O: FnMut() -> F,
    F: Future<Output = Result<D, D::Error>>,
{
    let (mut services, mut slices) = (services.fuse(), slices.fuse());
    while !(services.is_done() && slices.is_done()) {
        if !sync.stands() {
            tracker.take_changes(); // nothing waits for them, and there may be many until something can be programmed
        }
        if tracker.ready() && tracker.has_changes() {
            sync.queued(tracker);
        }
        let due = sync.due(tracker);
        // Events that are there already come first, so that they share a transaction. Streams give way to the scheduler now and then
        // (tokio's cooperative budget), so a flood of events delays the programming by a hundred of them at most.
        tokio::select! {
            biased;
            Some(event) = services.next(), if !services.is_done() => {
                if let WatchEvent::Failing(error) = &event {
                    warn!("{error}; Services stay as they are meanwhile");
                }
                tracker.service_event(event);
            }
            Some(event) = slices.next(), if !slices.is_done() => {
                if let WatchEvent::Failing(error) = &event {
                    warn!("{}", without_slices(error));
                }
                tracker.slice_event(event);
            }
            () = changed(terms) => sync.set_terms(terms.borrow_and_update().clone()),
            table = sync.disturbed() => sync.distrust(table),
            () = until(due) => sync.run(tracker).await,
            else => {}
        }
    }
}

/// What to do when EndpointSlices can't be watched: a stock cluster's RBAC lets nodes watch Services, but not their slices.
fn without_slices(error: &crate::api::Error) -> String {
    match &error.kind {
        ErrorKind::Forbidden(_) => "this node may not watch EndpointSlices: bind ClusterRole system:node-proxier to group system:nodes \
             (kubectl create clusterrolebinding kubelet-rs-node-proxier --clusterrole=system:node-proxier --group=system:nodes); \
             until then Services stay as they are on this node, and pods run all the same"
            .to_string(),
        _ => format!("{error}; Services stay as they are meanwhile"),
    }
}

/// Ends when the terms change; never once nobody can change them.
async fn changed(terms: &mut watch::Receiver<Terms>) {
    if terms.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Ends at that time, at once if it has come; never for `None`. (A timer that is due would still wait for the next millisecond.)
async fn until(at: Option<Instant>) {
    match at {
        Some(at) if at <= Instant::now() => {}
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
