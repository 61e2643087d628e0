//! The rooms whose calls must be counted too: between any two of them the agent may be killed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kubelet_rs::inject::Injector;
use kubelet_rs::model::PodUid;
use kubelet_rs::resources::fake::FakeCgroups;
use kubelet_rs::resources::{CgroupError, PodCgroups};
use kubelet_rs::volumes::manager::VolumeManager;
use kubelet_rs::volumes::mounts::Mounts;
use kubelet_rs::volumes::mounts::fake::FakeMounts;
use kubelet_rs::volumes::{PodVolumes, SubPathMount, VolumeError, Volumes};
use tokio::time::Instant;

pub struct CountedCgroups(Arc<FakeCgroups>, Injector);

impl CountedCgroups {
    pub fn new(inner: &Arc<FakeCgroups>, injector: &Injector) -> Self {
        Self(Arc::clone(inner), injector.clone())
    }
}

#[async_trait]
impl PodCgroups for CountedCgroups {
    async fn set_up(&self, pod: &Pod) -> Result<String, CgroupError> {
        self.1.call("cgroups", "set_up", self.0.set_up(pod)).await
    }
    async fn tear_down(&self, uid: &PodUid) -> Result<(), CgroupError> {
        self.1.call("cgroups", "tear_down", self.0.tear_down(uid)).await
    }
    async fn pods_on_disk(&self) -> Result<Vec<PodUid>, CgroupError> {
        self.1.call("cgroups", "pods_on_disk", self.0.pods_on_disk()).await
    }
}

pub struct CountedVolumes(VolumeManager, Injector);

impl CountedVolumes {
    pub fn new(inner: VolumeManager, injector: &Injector) -> Self {
        Self(inner, injector.clone())
    }
}

#[async_trait]
impl Volumes for CountedVolumes {
    async fn set_up(&self, pod: &Pod) -> Result<PodVolumes, Vec<VolumeError>> {
        self.1.call("volumes", "set_up", self.0.set_up(pod)).await
    }
    async fn sub_path(&self, uid: &PodUid, mount: SubPathMount<'_>) -> Result<PathBuf, VolumeError> {
        self.1.call("volumes", "sub_path", self.0.sub_path(uid, mount)).await
    }
    async fn tear_down(&self, uid: &PodUid) -> Result<(), Vec<VolumeError>> {
        self.1.call("volumes", "tear_down", self.0.tear_down(uid)).await
    }
    async fn pods_on_disk(&self) -> io::Result<Vec<PodUid>> {
        self.1.call("volumes", "pods_on_disk", self.0.pods_on_disk()).await
    }
    fn next_refresh(&self, uid: &PodUid) -> Option<Instant> {
        self.0.next_refresh(uid)
    }
}

pub struct CountedMounts(Arc<FakeMounts>, Injector);

impl CountedMounts {
    pub fn new(inner: &Arc<FakeMounts>, injector: &Injector) -> Self {
        Self(Arc::clone(inner), injector.clone())
    }
}

impl Mounts for CountedMounts {
    fn tmpfs(&self, target: &Path, size: Option<u64>) -> io::Result<()> {
        self.1.call_now("mounts", "tmpfs", || self.0.tmpfs(target, size))
    }
    fn is_tmpfs(&self, path: &Path) -> io::Result<bool> {
        self.0.is_tmpfs(path)
    }
    fn bind(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.1.call_now("mounts", "bind", || self.0.bind(source, target))
    }
    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        self.1.call_now("mounts", "unmount", || self.0.unmount(target, lazy))
    }
    fn below(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.below(dir)
    }
    fn share(&self, dir: &Path) -> io::Result<()> {
        self.0.share(dir)
    }
}
