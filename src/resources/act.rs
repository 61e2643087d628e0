//! Makes, limits and removes the cgroups of node, classes and pods.
//!
//! With the cgroupfs driver this file makes every directory. With the systemd driver it makes none: the runtime asks systemd for the
//! container's scope, and systemd makes the slices above it. Limits of slices are then written as files, at the first chance after the
//! slice is there, that is from a pod's second `set_up` on. What that leaves open until the agent speaks to systemd itself: systemd
//! knows nothing of these values and may reset them on `daemon-reload`, pods' limits are not in place before the first container
//! starts, and a removed pod's empty slice stays loaded as a unit.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

use super::fs::Tree;
use super::names::{CgroupPath, Layout};
use super::plan::{self, Limits, PodPolicy};
use super::{CgroupError, CgroupVersion, PodCgroups, PodMemory, Usage, detect};
use crate::config::KubeletConfiguration;
use crate::model::PodUid;
use crate::model::node::Totals;
use crate::model::qos::QosClass;
use crate::model::resources::{PodResources, shares_of_weight};
use crate::runtime::CgroupDriver;
use crate::sys::procfs;

const CLASSES: [QosClass; 3] = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
/// How long the kernel gets for letting killed processes go: sum of the pauses below, in milliseconds.
const REMOVAL_PAUSES: [u64; 10] = [2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];

/// The cgroups of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cgroups(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Layout,
    tree: Tree,
    policy: PodPolicy,
    /// Limits of all pods together, once known.
    all_pods: OnceLock<Limits>,
    /// CPU requests of the Burstable pods, in thousandths.
    burstable: Mutex<HashMap<PodUid, i64>>,
    /// What was said in the log already, so that it isn't said again at each look at a pod.
    warned: Mutex<BTreeSet<String>>,
}

impl Cgroups {
    /// Opens this host's hierarchies. `config.cgroup_driver` must be the runtime's.
    pub fn open(config: &KubeletConfiguration) -> Result<Self, CgroupError> {
        let mount_point = Path::new("/sys/fs/cgroup");
        Self::open_at(mount_point, detect(mount_point), page_sizes(Path::new("/sys/kernel/mm/hugepages")), config)
    }

    fn open_at(
        mount_point: &Path,
        version: CgroupVersion,
        page_sizes: Vec<String>,
        config: &KubeletConfiguration,
    ) -> Result<Self, CgroupError> {
        let policy =
            PodPolicy { cfs_quota: config.cpu_cfs_quota, cfs_period: config.cpu_cfs_quota_period, pids: config.pod_pids_limit, page_sizes };
        Ok(Self(Arc::new(Inner {
            layout: Layout::new(&config.cgroup_root, config.cgroup_driver, config.cgroups_per_qos),
            tree: Tree::open(mount_point, version)?,
            policy,
            all_pods: OnceLock::new(),
            burstable: Mutex::default(),
            warned: Mutex::default(),
        })))
    }

    /// Makes the cgroups above the pods' and sets their limits; to be called once, before the first pod. `Ok` holds limits that could
    /// not be set, which is no reason not to run: the kernel refuses limits below what is in use.
    pub async fn set_up_node(&self, capacity: Totals, config: &KubeletConfiguration) -> Result<Vec<CgroupError>, CgroupError> {
        let limits = plan::all_pods(&capacity, procfs::process_limit(Path::new("/proc")), config);
        let reserved = plan::reserved(config).into_iter().map(|(path, limits)| (CgroupPath::parse(path), limits)).collect();
        self.blocking(move |inner| inner.set_up_node(limits, reserved)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, CgroupError> + Send + 'static,
    ) -> Result<T, CgroupError> {
        let inner = Arc::clone(&self.0);
        let outcome = tokio::task::spawn_blocking(move || work(&inner)).await;
        outcome.unwrap_or_else(|error| Err(CgroupError { cgroup: self.0.layout.kubepods().to_string(), message: error.to_string() }))
    }
}

#[async_trait]
impl PodCgroups for Cgroups {
    async fn set_up(&self, pod: &Pod) -> Result<String, CgroupError> {
        let uid = PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default());
        let class = QosClass::of(pod);
        let limits = plan::pod(pod, &self.0.policy);
        let request = PodResources::of(pod).milli_cpu_request();
        self.blocking(move |inner| inner.set_up(&uid, class, &limits, request)).await
    }

    async fn memory(&self, pod: &Pod) -> Option<PodMemory> {
        let path = self.0.layout.pod(QosClass::of(pod), &PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default()))?;
        let wanted = plan::pod(pod, &self.0.policy).memory.and_then(|bytes| u64::try_from(bytes).ok());
        self.blocking(move |inner| {
            let in_use = match inner.tree.version() {
                CgroupVersion::V1 => "memory.usage_in_bytes",
                CgroupVersion::V2 => "memory.current",
            };
            let in_use = inner.tree.read_number(&path, "memory", in_use);
            Ok(in_use.map(|in_use| PodMemory { in_use, limit: inner.memory_limit(&path), wanted }))
        })
        .await
        .ok()
        .flatten()
    }

    async fn usage(&self, pod: Option<&Pod>) -> Option<Usage> {
        let path = match pod {
            Some(pod) => self.0.layout.pod(QosClass::of(pod), &PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default()))?,
            None => self.0.layout.kubepods(),
        };
        self.blocking(move |inner| Ok(inner.usage(&path))).await.ok().flatten()
    }

    async fn tear_down(&self, uid: &PodUid) -> Result<(), CgroupError> {
        let Some(paths) = CLASSES.iter().map(|class| self.0.layout.pod(*class, uid)).collect::<Option<Vec<_>>>() else { return Ok(()) };
        let paths = Arc::new(paths);
        let mut pauses = REMOVAL_PAUSES.iter();
        loop {
            let (uid, all) = (uid.clone(), Arc::clone(&paths));
            if self.blocking(move |inner| inner.tear_down(&uid, &all)).await? {
                return Ok(());
            }
            let Some(pause) = pauses.next() else { break };
            tokio::time::sleep(Duration::from_millis(*pause)).await;
        }
        let cgroup = paths.iter().find(|path| self.0.tree.exists(path)).map(ToString::to_string).unwrap_or_default();
        Err(CgroupError { cgroup, message: "processes in it don't end although they were killed; look at their state with ps".to_owned() })
    }

    async fn pods_on_disk(&self) -> Result<Vec<PodUid>, CgroupError> {
        self.blocking(|inner| Ok(inner.pods()?.into_iter().map(|(_, uid)| uid).collect())).await
    }
}

impl Inner {
    fn usage(&self, path: &CgroupPath) -> Option<Usage> {
        let (in_use, idle) = match self.tree.version() {
            CgroupVersion::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
            CgroupVersion::V2 => ("memory.current", "inactive_file"),
        };
        let in_use = self.tree.read_number(path, "memory", in_use)?;
        let idle = self.tree.read_field(path, "memory", "memory.stat", idle).unwrap_or(0);
        let pids = self.tree.read_number(path, "pids", "pids.current").unwrap_or(0);
        Some(Usage { working_set: in_use.saturating_sub(idle), memory_limit: self.memory_limit(path), pids })
    }

    /// Without a limit version 2 says "max", and version 1 the greatest number of pages that it can count.
    fn memory_limit(&self, path: &CgroupPath) -> Option<u64> {
        let file = match self.tree.version() {
            CgroupVersion::V1 => "memory.limit_in_bytes",
            CgroupVersion::V2 => "memory.max",
        };
        self.tree.read_number(path, "memory", file).filter(|bytes| *bytes < 1 << 62)
    }

    fn set_up_node(&self, limits: Limits, reserved: Vec<(CgroupPath, Limits)>) -> Result<Vec<CgroupError>, CgroupError> {
        let mut refused = Vec::new();
        if self.layout.per_qos() {
            if self.layout.driver() == CgroupDriver::Cgroupfs {
                for class in CLASSES {
                    self.tree.create(&self.layout.tier(class))?;
                }
            }
            self.remember_burstable()?;
            refused.extend(self.limit_tiers(&limits));
            // Set once: a second call keeps the first one's limits for later use with systemd.
            let _ = self.all_pods.set(limits);
        }
        for (path, limits) in reserved {
            if path.name().is_empty() || !self.tree.exists(&path) {
                let message =
                    "systemReservedCgroup and kubeReservedCgroup must exist; make it or take its level out of enforceNodeAllocatable";
                return Err(CgroupError { cgroup: path.to_string(), message: message.to_owned() });
            }
            refused.extend(self.limit(&path, &limits).err());
        }
        Ok(refused)
    }

    fn set_up(&self, uid: &PodUid, class: QosClass, limits: &Limits, request: i64) -> Result<String, CgroupError> {
        if !self.layout.per_qos() {
            return Ok(self.layout.shared_parent());
        }
        let path = self.layout.pod(class, uid).ok_or_else(|| CgroupError {
            cgroup: self.layout.tier(class).to_string(),
            message: format!("the pod's UID {:?} can't be part of a cgroup's name", uid.as_str()),
        })?;
        match self.layout.driver() {
            CgroupDriver::Cgroupfs => {
                self.tree.create(&path)?;
                self.limit(&path, limits)?;
            }
            CgroupDriver::Systemd => {
                if self.tree.exists(&path) {
                    self.limit(&path, limits)?;
                }
                self.warn(self.limit_tiers(self.all_pods.get().unwrap_or(&Limits::default())));
            }
        }
        if class == QosClass::Burstable && self.burstable().insert(uid.clone(), request) != Some(request) {
            self.warn(self.limit_burstable());
        }
        Ok(self.layout.cgroup_parent(&path))
    }

    /// `Ok(false)`: try again soon.
    fn tear_down(&self, uid: &PodUid, paths: &[CgroupPath]) -> Result<bool, CgroupError> {
        let mut all_gone = true;
        for path in paths {
            all_gone &= self.tree.kill_and_remove(path)?;
        }
        if all_gone && self.burstable().remove(uid).is_some() {
            self.warn(self.limit_burstable());
        }
        Ok(all_gone)
    }

    fn pods(&self) -> Result<Vec<(QosClass, PodUid)>, CgroupError> {
        let mut pods = Vec::new();
        for class in CLASSES {
            let children = self.tree.children(&self.layout.tier(class))?;
            pods.extend(children.iter().filter_map(|name| Some((class, self.layout.pod_uid(class, name)?))));
        }
        Ok(pods)
    }

    /// After a restart the pods that run are on disk long before their specs arrive: their shares tell what they had asked for.
    fn remember_burstable(&self) -> Result<(), CgroupError> {
        for (class, uid) in self.pods()? {
            let Some(path) = self.layout.pod(class, &uid).filter(|_| class == QosClass::Burstable) else { continue };
            let shares = match self.tree.version() {
                CgroupVersion::V1 => self.tree.read_number(&path, "cpu", "cpu.shares"),
                CgroupVersion::V2 => self.tree.read_number(&path, "cpu", "cpu.weight").map(shares_of_weight),
            };
            let milli = shares.and_then(|shares| i64::try_from(shares.saturating_mul(1000) / 1024).ok());
            self.burstable().entry(uid).or_insert(milli.unwrap_or(0));
        }
        Ok(())
    }

    /// Limits of everything above the pods; of slices only those that are there.
    fn limit_tiers(&self, all_pods: &Limits) -> Vec<CgroupError> {
        let mut errors = self.limit_burstable();
        let tiers =
            [(self.layout.kubepods(), all_pods.clone()), (self.layout.tier(QosClass::BestEffort), plan::tier(QosClass::BestEffort, 0))];
        errors.extend(tiers.iter().filter(|(path, _)| self.tree.exists(path)).filter_map(|(path, limits)| self.limit(path, limits).err()));
        errors
    }

    fn limit_burstable(&self) -> Vec<CgroupError> {
        let path = self.layout.tier(QosClass::Burstable);
        let sum = self.burstable().values().fold(0i64, |sum, milli| sum.saturating_add(*milli));
        let limits = plan::tier(QosClass::Burstable, sum);
        if self.tree.exists(&path) { self.limit(&path, &limits).err().into_iter().collect() } else { Vec::new() }
    }

    fn limit(&self, path: &CgroupPath, limits: &Limits) -> Result<(), CgroupError> {
        self.tree.apply(path, &plan::writes(self.tree.version(), limits))
    }

    /// A class's wrong weight is no reason to hold up a pod.
    fn warn(&self, errors: Vec<CgroupError>) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        for error in errors.into_iter().filter(|error| warned.insert(error.to_string())) {
            tracing::warn!(%error, "can't set the limits of a QoS class's cgroup; pods run, but may get another share of the CPU");
        }
    }

    fn burstable(&self) -> MutexGuard<'_, HashMap<PodUid, i64>> {
        self.burstable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sizes of huge pages that the host has, from names such as `hugepages-2048kB`.
fn page_sizes(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let kilobytes = |name: String| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    entries.filter_map(|entry| kilobytes(entry.file_name().into_string().ok()?)).map(|kb| plan::byte_label(kb << 10)).collect()
}

#[cfg(test)]
mod tests;
