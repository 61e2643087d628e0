//! The task that owns the Node object: registers it, keeps its status true, registers it again when somebody deleted it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::NodeDeps;
use super::address::AddressError;
use super::object::{self, When};
use super::probe::Probe;
use super::register::{Registered, put_right, register};
use super::status::{self, Inputs};
use super::transitions;
use crate::api::{Backoff, Error, EventType, WatchEvent, jittered, random_part};

/// How often to look while the node has not been ready yet: often at first, so that it becomes ready at once.
const EAGER: Duration = Duration::from_millis(100);
const EAGER_FOR: Duration = Duration::from_secs(10);
const LESS_EAGER: Duration = Duration::from_secs(1);
const LESS_EAGER_FOR: Duration = Duration::from_secs(120);
/// After [`super::Refresher::refresh`]: images come in groups.
const REFRESH_AFTER: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What became of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The API server has the status that it should have.
    Reported,
    /// It could not be told; the next try comes sooner.
    Failed,
    /// The object is gone.
    Gone,
}

struct Reporter {
    deps: NodeDeps,
    probe: Probe,
    latest: watch::Sender<Option<Arc<Node>>>,
    started: Instant,
    was_ready: bool,
    rebooted_told: bool,
    next_report: Instant,
    backoff: Backoff,
    told: Option<Error>,
    addressed: Instant,
    address_error: Option<AddressError>,
    /// The pod CIDR that the runtime knows.
    pod_cidr: Option<String>,
}

pub async fn run(deps: NodeDeps, latest: watch::Sender<Option<Arc<Node>>>, refresh: Arc<Notify>) {
    let mut events = deps.api.watch_node();
    deps.recorder.node_event(EventType::Normal, "Starting", "Starting kubelet.");
    let mut reporter = Reporter::new(deps, latest);
    loop {
        reporter.register().await;
        reporter.report(&mut events, &refresh).await;
        info!("node {} was deleted: it is registered again", reporter.deps.facts.name);
        reporter.latest.send_replace(None);
    }
}

impl Reporter {
    fn new(deps: NodeDeps, latest: watch::Sender<Option<Arc<Node>>>) -> Self {
        let now = Instant::now();
        Self {
            probe: Probe::new(deps.runtime.clone()),
            latest,
            started: now,
            was_ready: false,
            rebooted_told: false,
            next_report: now,
            backoff: Backoff::new(FIRST_PAUSE, deps.settings.update_frequency.max(FIRST_PAUSE)),
            told: None,
            addressed: now,
            address_error: None,
            pod_cidr: None,
            deps,
        }
    }

    async fn register(&mut self) {
        self.probe.look().await;
        let status = self.status(&NodeStatus::default());
        let wanted = object::initial(&self.deps.settings, &self.deps.facts, self.deps.machine.architecture, status.clone());
        let node = match register(&self.deps, &wanted).await {
            Registered::Created(node) => {
                self.tell(&NodeStatus::default(), &status);
                self.next_report = Instant::now() + self.random_report();
                node
            }
            Registered::Existing(node) => {
                self.tell_reboot(&node.status.clone().unwrap_or_default());
                self.next_report = Instant::now();
                node
            }
        };
        self.accept(node);
    }

    /// After a change the next report comes at random, so that nodes that started together don't report together for ever.
    fn random_report(&self) -> Duration {
        let every = self.deps.settings.report_frequency;
        every / 2 + random_part(every)
    }

    /// Keeps the status true until the object is gone.
    async fn report(&mut self, events: &mut BoxStream<'static, WatchEvent<Node>>, refresh: &Notify) {
        let mut not_ready = self.deps.not_ready.subscribe();
        let mut pressures = self.deps.pressures.subscribe();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => if self.observe(event).await == Outcome::Gone { return },
                    None => *events = self.deps.api.watch_node(), // never ends by itself
                },
                () = sleep_until(next) => match self.sync().await {
                    Outcome::Gone => return,
                    outcome => next = Instant::now() + self.pause_after(outcome),
                },
                Ok(()) = not_ready.changed() => next = Instant::now(),
                Ok(()) = pressures.changed() => next = Instant::now(),
                () = refresh.notified() => {
                    self.probe.forget_images();
                    next = next.min(Instant::now() + REFRESH_AFTER);
                }
            }
        }
    }

    fn pause_after(&mut self, outcome: Outcome) -> Duration {
        if outcome == Outcome::Failed {
            return self.backoff.pause();
        }
        self.backoff.reset();
        match self.started.elapsed() {
            _ if self.was_ready => {}
            age if age < EAGER_FOR => return EAGER,
            age if age < LESS_EAGER_FOR => return LESS_EAGER,
            _ => {}
        }
        jittered(self.deps.settings.update_frequency, 0.04)
    }

    async fn observe(&mut self, event: WatchEvent<Node>) -> Outcome {
        let is_current = |node: &Node| self.latest.borrow().as_ref().is_some_and(|l| l.metadata.uid == node.metadata.uid);
        match event {
            WatchEvent::Applied(node) => self.accept_newer(node),
            WatchEvent::Deleted(node) if is_current(&node) => return Outcome::Gone,
            WatchEvent::Deleted(_) => {}
            WatchEvent::Snapshot(nodes) => match nodes.into_iter().next() {
                Some(node) => self.accept(node),
                // The server's cache may not have seen the new object yet: ask.
                None if self.deps.api.node().await.is_err_and(|e| e.is_not_found()) => return Outcome::Gone,
                None => {}
            },
            WatchEvent::Failing(error) => warn!("{error}"),
        }
        Outcome::Reported
    }

    /// Takes over the object unless a newer one is known: answers to patches and the watch overtake each other.
    fn accept_newer(&mut self, node: Node) {
        let version = |node: &Node| node.metadata.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        let is_known =
            self.latest.borrow().as_ref().is_some_and(|known| known.metadata.uid == node.metadata.uid && version(known) >= version(&node));
        if !is_known {
            self.accept(node);
        }
    }

    /// Takes over the object whatever its version: after etcd was restored from a backup versions are lower than before.
    fn accept(&mut self, node: Node) {
        let known = self.latest.borrow().clone();
        if let Some(reason) = known.and_then(|known| transitions::of_cordon(&known, &node)) {
            self.event(EventType::Normal, reason);
        }
        self.latest.send_replace(Some(Arc::new(node)));
    }

    /// Finds the addresses again, no more often than the status is due. They stay as they are while none can be found.
    async fn find_addresses(&mut self) {
        if self.addressed.elapsed() < self.deps.settings.update_frequency / 2 {
            return;
        }
        self.addressed = Instant::now();
        match self.deps.addresses.find(&self.deps.facts.ips).await {
            Ok(ips) => {
                self.address_error = None;
                if ips != self.deps.facts.ips {
                    info!("the node's addresses are now {ips:?}, they were {:?}", self.deps.facts.ips);
                    self.deps.facts.ips = ips;
                }
            }
            Err(error) => {
                if self.address_error.as_ref() != Some(&error) {
                    warn!("{error}; the node keeps its addresses {:?}", self.deps.facts.ips);
                }
                self.address_error = Some(error);
            }
        }
    }

    fn status(&mut self, old: &NodeStatus) -> NodeStatus {
        let not_ready = self.deps.not_ready.reasons();
        let inputs = Inputs {
            machine: &self.deps.machine,
            facts: &self.deps.facts,
            settings: &self.deps.settings,
            runtime: self.probe.view(),
            not_ready: &not_ready,
            pressures: &self.deps.pressures.now(),
        };
        let status = status::compute(&inputs, old, Timestamp::now());
        self.was_ready |= status::is_ready(&status);
        status
    }

    /// Looks at everything and tells the API server what is new.
    async fn sync(&mut self) -> Outcome {
        self.probe.look().await;
        self.find_addresses().await;
        let Some(node) = self.latest.borrow().clone() else { return Outcome::Gone };
        self.tell_pod_cidr(&node).await;
        match self.update(&node).await {
            Ok(()) => {
                self.told = None;
                Outcome::Reported
            }
            Err(error) if error.is_not_found() => Outcome::Gone,
            Err(error) => {
                if self.told.as_ref() != Some(&error) {
                    warn!("the node's status can't be reported: {error}");
                }
                self.told = Some(error);
                Outcome::Failed
            }
        }
    }

    async fn update(&mut self, node: &Arc<Node>) -> Result<(), Error> {
        let api = self.deps.api.clone();
        let (settings, facts, architecture) = (&self.deps.settings, &self.deps.facts, self.deps.machine.architecture);
        if object::reconcile(&node.metadata, settings, facts, architecture, When::Running).is_some() {
            let node = put_right(api.as_ref(), Node::clone(node), settings, facts, architecture, When::Running).await?;
            self.accept_newer(node);
        }
        let known = node.status.clone().unwrap_or_default();
        let new = self.status(&known);
        let due = Instant::now() >= self.next_report;
        let Some(patch) = status::patch(&known, &new, due) else { return Ok(()) };
        let changed = status::patch(&known, &new, false).is_some();
        let node = api.patch_node_status(patch).await?;
        self.tell(&known, &new);
        self.accept_newer(node);
        self.next_report = Instant::now() + if changed { self.random_report() } else { self.deps.settings.report_frequency };
        Ok(())
    }

    fn event(&self, kind: EventType, reason: &'static str) {
        self.deps.recorder.node_event(kind, reason, format!("Node {} status is now: {reason}", self.deps.facts.name));
    }

    fn tell(&self, old: &NodeStatus, new: &NodeStatus) {
        for reason in transitions::of_conditions(old, new) {
            self.event(EventType::Normal, reason);
        }
    }

    fn tell_reboot(&mut self, known: &NodeStatus) {
        let last = known.node_info.as_ref().map(|info| info.boot_id.as_str()).unwrap_or_default();
        let boot = &self.deps.machine.boot_id;
        if !last.is_empty() && last != boot && !std::mem::replace(&mut self.rebooted_told, true) {
            let message = format!("Node {} has been rebooted, boot id: {boot}", self.deps.facts.name);
            self.deps.recorder.node_event(EventType::Warning, "Rebooted", message);
        }
    }

    /// Tells the runtime the pod CIDR when it is new; tries again with the next status when that fails.
    async fn tell_pod_cidr(&mut self, node: &Node) {
        let Some(spec) = &node.spec else { return };
        let Some(cidr) = spec.pod_cidrs.as_ref().map(|all| all.join(",")).or_else(|| spec.pod_cidr.clone()) else { return };
        if self.pod_cidr.as_ref() == Some(&cidr) {
            return;
        }
        match self.deps.runtime.update_pod_cidr(&cidr).await {
            Ok(()) => self.pod_cidr = Some(cidr),
            Err(error) => debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests;
