//! Ends pods before the node runs out of memory, disk or process ids, and those that hold more of the disk than they may
//! (upstream: `pkg/kubelet/eviction`).
//!
//! In: levels from the kernel, what pods take. Out: the node's pressures, orders to end pods, events. Owns: since when something has been
//! short. Survives a restart: nothing; what is short is seen again.
//!
//! `levels` reads, `judge` decides whether something must be done, `rank` who goes first, `limits` who holds too much, `message` what is
//! said about it; all but the first are pure. Pods are measured only when somebody has to go, or when they have a limit to keep.

mod images;
mod judge;
mod levels;
mod limits;
mod measure;
mod message;
mod rank;
mod signal;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep};

use crate::api::events::{EventType, Recorder};
use crate::model::{PodRef, PodUid};
use crate::node::Pressures;
use crate::pods::directory::Directory;
use crate::pods::orders::Orders;
use crate::pods::spec;
use crate::pods::stage::End;
use crate::resources::PodCgroups;
use crate::runtime::{FileSystems, Runtime};
use crate::sys::blocking::Blocking;
use crate::volumes::Volumes;
use judge::{Judge, Level, Levels};
use levels::Places;
use measure::Meter;
use rank::Disks;
use usage::{PodUsage, number};

pub use judge::Limit;
pub use signal::Signal;

/// How often to look (upstream: `evictionMonitoringPeriod`).
const EVERY: Duration = Duration::from_secs(10);
/// How long to wait for a pod that was told to go, before the next one may have to.
const GONE_WITHIN: Duration = Duration::from_secs(30);
const GONE_LOOK: Duration = Duration::from_secs(1);
/// Grace of pods that go at once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long reading the levels may take.
const READ: Duration = Duration::from_secs(10);
/// Measuring pods' disks takes at most this share of the time: one in so many.
const SHARE: u32 = 20;
/// Pods measured at a time.
const TOGETHER: usize = 4;

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// When pods have to go.
    pub limits: Vec<Limit>,
    /// `evictionPressureTransitionPeriod`.
    pub transition: Duration,
    /// `evictionMaxPodGracePeriod`.
    pub max_grace: Duration,
    /// `localStorageCapacityIsolation`: pods' own limits of disk space are kept.
    pub keep_storage_limits: bool,
    /// The agent's root directory.
    pub root_dir: PathBuf,
    /// `podLogsDir`.
    pub logs_dir: PathBuf,
}

/// The rooms that this one works with.
pub struct Deps {
    /// Asked where files are and what containers take.
    pub runtime: Arc<dyn Runtime>,
    /// Asked what pods take.
    pub cgroups: Arc<dyn PodCgroups>,
    /// Asked what volumes hold.
    pub volumes: Arc<dyn Volumes>,
    /// The pods that are there.
    pub directory: Arc<Directory>,
    /// Who has to go is told here.
    pub orders: Arc<Orders>,
    /// What the node is short of is told here.
    pub pressures: Pressures,
    /// Events.
    pub recorder: Recorder,
}

/// Runs until dropped; ends at once if there is nothing to watch.
pub async fn run(deps: Deps, settings: Settings) {
    if settings.limits.is_empty() && !settings.keep_storage_limits {
        return;
    }
    let mut watcher = Watcher::new(deps, settings, Path::new("/"));
    loop {
        match watcher.look().await.as_slice() {
            [] => sleep(EVERY).await,
            told => watcher.wait_for(told).await,
        }
    }
}

struct Watcher {
    settings: Settings,
    judge: Judge,
    meter: Meter,
    places: Places,
    disks: Disks,
    orders: Arc<Orders>,
    pressures: Pressures,
    recorder: Recorder,
    /// Pods that were told to go.
    leaving: BTreeSet<PodUid>,
    /// The shortage that the log tells of already.
    said: Option<Signal>,
    /// Not before this time are pods' disks measured for their own limits again.
    measured: Instant,
}

impl Watcher {
    fn new(deps: Deps, settings: Settings, host: &Path) -> Self {
        let Deps { runtime, cgroups, volumes, directory, orders, pressures, recorder } = deps;
        let logs_dir = settings.logs_dir.clone();
        Self {
            judge: Judge::new(settings.limits.clone(), settings.transition),
            meter: Meter { runtime, cgroups, volumes, directory, logs_dir, blocking: Blocking::default() },
            places: Places { host: host.into(), root_dir: settings.root_dir.clone(), images: None },
            disks: Disks::One,
            settings,
            orders,
            pressures,
            recorder,
            leaving: BTreeSet::new(),
            said: None,
            measured: Instant::now(),
        }
    }

    /// Looks once, and does what has to be done. Tells which pods have to go.
    async fn look(&mut self) -> Vec<PodUid> {
        self.find_disks().await;
        let levels = self.levels().await;
        let verdict = self.judge.look(&levels, Instant::now());
        self.pressures.set(verdict.short);
        if self.settings.keep_storage_limits {
            let told = self.keep_storage_limits().await;
            if !told.is_empty() {
                return told;
            }
        }
        let Some(first) = verdict.due.first() else {
            self.said = None;
            return vec![];
        };
        let resource = first.signal.resource().as_str();
        if self.said.replace(first.signal) != Some(first.signal) {
            tracing::warn!(signal = first.signal.as_str(), level = ?levels.get(&first.signal), "The node is low on {resource}");
        }
        self.recorder.node_event(EventType::Warning, "EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
        if self.disks.holds_images(first.signal) && self.relieve_by_images().await {
            return vec![];
        }
        self.evict(first, &verdict.due, &levels).await
    }

    /// Finds out once which file systems there are.
    async fn find_disks(&mut self) {
        if self.places.images.is_some() {
            return;
        }
        match self.meter.runtime.file_systems().await {
            Ok(places) => {
                self.disks = disks(&self.settings.root_dir, &places);
                tracing::debug!(?places, disks = ?self.disks, "Found the runtime's file systems");
                self.places.images = Some(places.images);
            }
            Err(error) => tracing::debug!(%error, "Images' file system is not watched until the runtime tells where it is"),
        }
    }

    async fn levels(&self) -> Levels {
        let places = self.places.clone();
        let read = self.meter.blocking.run(&self.places.root_dir, READ, move || levels::read(&places));
        let (read, pods) = tokio::join!(read, self.meter.cgroups.usage(None));
        let mut levels = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "Can't see how much of its resources the node has left");
            Levels::new()
        });
        if let Some((usage, limit)) = pods.and_then(|usage| Some((usage, usage.memory_limit?))) {
            let level = Level { available: number(limit).saturating_sub(number(usage.working_set)), capacity: number(limit) };
            levels.insert(Signal::AllocatableMemory, level);
        }
        levels
    }

    /// Ends pods that hold more of the disk than they may.
    async fn keep_storage_limits(&mut self) -> Vec<PodUid> {
        let began = Instant::now();
        if began < self.measured {
            return vec![];
        }
        let limited = self.active(limits::has_any);
        let shared = self.disks != Disks::Images;
        let mut told = vec![];
        for (pod, usage) in self.measure(limited).await {
            if let Some(why) = limits::exceeded(&pod, &usage, shared) {
                told.extend(self.end(&pod, why, BTreeMap::new(), AT_ONCE, false));
            }
        }
        self.measured = Instant::now() + began.elapsed() * SHARE;
        told
    }

    /// Whether removing images was enough.
    async fn relieve_by_images(&self) -> bool {
        let pods = self.meter.directory.active(|_| true);
        match images::remove_unused(self.meter.runtime.as_ref(), &pods).await {
            Ok(true) => self.judge.is_relieved(&self.levels().await),
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(%error, "Can't remove images that nothing uses");
                false
            }
        }
    }

    /// Ends the one pod that is the first to go.
    async fn evict(&mut self, first: &Limit, due: &[Limit], levels: &Levels) -> Vec<PodUid> {
        // Critical ones stay, however much they use (upstream: `evictPod`).
        let pods = self.active(|pod| !spec::is_critical(pod));
        let mut pods: Vec<(Arc<Pod>, Option<PodUsage>)> =
            self.measure(pods).await.into_iter().map(|(pod, usage)| (pod, Some(usage))).collect();
        rank::rank(&mut pods, first.signal, self.disks);
        let Some((pod, usage)) = pods.first() else {
            tracing::debug!("The node has no pod that may go");
            return vec![];
        };
        let grace = if first.grace.is_zero() { AT_ONCE } else { self.settings.max_grace.min(Duration::from_secs(spec::grace_period(pod))) };
        let (why, annotations) = message::message(first.signal, due, levels, pod, usage.as_ref());
        self.end(pod, why, annotations, grace, true).into_iter().collect()
    }

    fn active(&self, filter: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        self.meter.directory.active(|pod| filter(pod) && !self.leaving.contains(&PodRef::of(pod).uid))
    }

    async fn measure(&self, pods: Vec<Arc<Pod>>) -> Vec<(Arc<Pod>, PodUsage)> {
        let one = |pod: Arc<Pod>| async move {
            let usage = self.meter.measure(&pod).await;
            (pod, usage)
        };
        stream::iter(pods).map(one).buffered(TOGETHER).collect().await
    }

    /// Tells a pod to go. Pods for lack of something on the node carry a condition that says so; those that hold too much don't.
    fn end(&mut self, pod: &Pod, why: String, annotations: BTreeMap<String, String>, grace: Duration, node: bool) -> Option<PodUid> {
        let name = PodRef::of(pod);
        if spec::is_critical(pod) {
            tracing::warn!(pod = %name, %why, "A critical pod can't be evicted");
            return None;
        }
        tracing::warn!(pod = %name, %why, "Pod is evicted");
        self.recorder.annotated_pod_event(&name, annotations, EventType::Warning, "Evicted", why.clone());
        let disruption = node.then(|| why.clone().into());
        let end = End { reason: "Evicted".to_owned(), message: why, grace: Some(grace), disruption, fails: true, rejected: false };
        self.orders.end(name.uid.clone(), end);
        self.leaving.insert(name.uid.clone());
        Some(name.uid)
    }

    /// Waits until pods have ended, so that what they held can be counted as free.
    async fn wait_for(&mut self, told: &[PodUid]) {
        let end = Instant::now() + GONE_WITHIN;
        let still = |this: &Self| told.iter().any(|uid| this.meter.directory.is_active(uid));
        while still(self) && Instant::now() < end {
            sleep(GONE_LOOK).await;
        }
        let directory = Arc::clone(&self.meter.directory);
        self.leaving.retain(|uid| directory.is_active(uid));
    }
}

/// Which of the node's directories share a file system.
fn disks(root_dir: &Path, places: &FileSystems) -> Disks {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let (root, images, containers) = (device(root_dir), device(&places.images), device(&places.containers));
    match (images == root, containers == images) {
        (true, _) => Disks::One,
        (false, true) => Disks::Images,
        (false, false) => Disks::ImagesAlone,
    }
}
