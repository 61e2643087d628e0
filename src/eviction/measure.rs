//! Measures what pods take.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;

use super::usage::{ContainerUsage, Held, PodUsage, number};
use crate::model::{ContainerId, PodRef};
use crate::pods::directory::Directory;
use crate::resources::PodCgroups;
use crate::runtime::Runtime;
use crate::runtime::names::pod_log_dir;
use crate::sys::blocking::Blocking;
use crate::sys::disk;
use crate::volumes::Volumes;

/// How long counting a container's log files may take.
const LOGS: Duration = Duration::from_secs(10);

/// What is asked, and where logs are.
pub struct Meter {
    pub runtime: Arc<dyn Runtime>,
    pub cgroups: Arc<dyn PodCgroups>,
    pub volumes: Arc<dyn Volumes>,
    pub directory: Arc<Directory>,
    /// `podLogsDir`.
    pub logs_dir: PathBuf,
    pub blocking: Blocking,
}

impl Meter {
    /// What a pod takes; zero for what nobody tells.
    pub async fn measure(&self, pod: &Pod) -> PodUsage {
        let name = PodRef::of(pod);
        let logs = pod_log_dir(&self.logs_dir, &name);
        let newest = self.directory.newest(&name.uid);
        let containers = newest.iter().map(|(container, id)| self.container(container, id, &logs));
        let (containers, volumes, cgroup) = tokio::join!(join_all(containers), self.volumes.usage(pod), self.cgroups.usage(Some(pod)));
        let cgroup = cgroup.unwrap_or_default();
        PodUsage { memory: number(cgroup.working_set), pids: number(cgroup.pids), containers, volumes }
    }

    async fn container(&self, name: &str, id: &ContainerId, logs: &Path) -> ContainerUsage {
        let logs = logs.join(name);
        let dir = logs.clone();
        let (usage, logs) =
            tokio::join!(self.runtime.container_usage(id), self.blocking.run(&logs, LOGS, move || disk::held(&dir).unwrap_or_default()));
        // The runtime tells nothing of a container that has ended.
        let usage = usage.unwrap_or_default();
        ContainerUsage {
            name: name.to_owned(),
            memory: number(usage.working_set),
            writable: Held { bytes: number(usage.written_bytes), inodes: number(usage.written_inodes) },
            logs: logs.unwrap_or_default(),
        }
    }
}
