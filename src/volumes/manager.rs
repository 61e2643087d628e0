//! The one implementation of [`Volumes`]: fetches what volumes hold, then puts it in place.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod, Volume};
use tokio::time::Instant;

use super::context::{PodContext, spread};
use super::empty_dir::{self, Medium};
use super::kind::{self, Kind};
use super::layout::{Layout, Plugin, make_dirs};
use super::mounts::Mounts;
use super::objects::{ObjectCache, TTL};
use super::problem::Problem;
use super::projected::{Fetched, Keys, Part, Projection};
use super::sub_path::{self, SubPath};
use super::token::Tokens;
use super::{MountedVolume, PodVolumes, SubPathMount, VolumeError, Volumes, atomic, host_path, nested, teardown};
use crate::api::{self, Api};
use crate::model::PodUid;
use crate::model::node::NodeFacts;
use crate::sys::blocking::Blocking;
use crate::sys::disk::{self, Held};

/// How long a look at a host path may take.
const HOST_PATH: Duration = Duration::from_secs(10);
/// How long counting what a volume holds may take.
const COUNT: Duration = Duration::from_secs(60);
/// Refreshes of a node's pods spread over this time beyond the objects' own life time.
const SPREAD: Duration = Duration::from_secs(30);
/// When to look again after the API server could not be asked.
const RETRY: Duration = Duration::from_secs(10);

/// Sets up and tears down the volumes of all pods.
pub struct VolumeManager {
    layout: Layout,
    objects: ObjectCache,
    tokens: Tokens,
    node: Arc<NodeFacts>,
    mounts: Arc<dyn Mounts>,
    blocking: Blocking,
    /// Pods whose volumes this process has set up completely, with the time of their next refresh.
    ready: Mutex<HashMap<PodUid, Option<Instant>>>,
}

/// A volume in place, and when its contents may need a refresh.
type Done = (MountedVolume, Option<Instant>);

impl VolumeManager {
    /// For the root directory (`/var/lib/kubelet` unless configured otherwise). `objects` is shared with whoever else reads them.
    pub fn new(root: &Path, api: Arc<dyn Api>, objects: ObjectCache, node: Arc<NodeFacts>, mounts: Arc<dyn Mounts>) -> Self {
        Self {
            layout: Layout::new(root),
            objects,
            tokens: Tokens::new(api),
            node,
            mounts,
            blocking: Blocking::default(),
            ready: Mutex::default(),
        }
    }

    /// Makes `<root>/pods` and lets mounts below the root directory propagate into containers. Once, before anything else; without it no
    /// pod can run. Blocks.
    pub fn prepare(&self) -> std::io::Result<()> {
        let pods = self.layout.pods();
        make_dirs(pods)?;
        self.mounts.share(pods.parent().unwrap_or(pods))
    }

    async fn volume(&self, context: &PodContext<'_>, volume: &Volume) -> Result<Done, Problem> {
        let place = |plugin| self.layout.volume(&context.names.uid, plugin, &volume.name);
        let (projection, plugin) = match kind::of(volume) {
            Kind::HostPath(source) => return self.host_path(context, source).await.map(|v| (v, None)),
            Kind::EmptyDir(source) => {
                let dir = place(Plugin::EmptyDir)?;
                if context.first {
                    let medium = empty_dir::medium(source, context.pod, &self.node)?;
                    let ready = self.layout.ready(&context.names.uid, &volume.name)?;
                    empty_dir::set_up(&dir, &ready, medium, context.fs_group, &*self.mounts)?;
                }
                return Ok((MountedVolume { host_path: dir, read_only: false }, None));
            }
            Kind::ConfigMap(source) => (Projection::of_config_map(source), Plugin::ConfigMap),
            Kind::Secret(source) => (Projection::of_secret(source), Plugin::Secret),
            Kind::DownwardApi(source) => (Projection::of_downward_api(source), Plugin::DownwardApi),
            Kind::Projected(source) => (Projection::of_projected(source)?, Plugin::Projected),
            Kind::Other(name) => return Err(Problem::Unsupported(name.to_owned())),
        };
        let dir = place(plugin)?;
        // Secrets and what may hold them never touch a disk.
        let medium = match plugin {
            Plugin::ConfigMap => Medium::Disk,
            _ => Medium::Memory(empty_dir::memory_size(None, context.pod, &self.node)?),
        };
        let refresh = self.project(context, &volume.name, &dir, medium, &projection).await?;
        Ok((MountedVolume { host_path: dir, read_only: true }, refresh))
    }

    async fn host_path(&self, context: &PodContext<'_>, source: &HostPathVolumeSource) -> Result<MountedVolume, Problem> {
        let path = PathBuf::from(&source.path);
        host_path::check_path(&path)?;
        let kind = source.type_.clone().unwrap_or_default();
        if context.first && host_path::needs_check(&kind) {
            let checked = path.clone();
            self.blocking.run(&path, HOST_PATH, move || host_path::check(&checked, &kind)).await??;
        }
        Ok(MountedVolume { host_path: path, read_only: false })
    }

    /// Brings a volume made of files up to date. While the API server can't be asked, what an earlier set-up left is good enough.
    async fn project(
        &self,
        context: &PodContext<'_>,
        volume: &str,
        dir: &Path,
        medium: Medium,
        projection: &Projection<'_>,
    ) -> Result<Option<Instant>, Problem> {
        let fetched = join_all(projection.parts.iter().map(|part| self.fetch(context, dir, part))).await;
        if fetched.iter().all(|f| f.as_ref().err().is_none_or(Problem::is_transient))
            && let Some(Err(problem)) = fetched.iter().find(|f| f.is_err())
            && atomic::is_written(dir)
        {
            tracing::debug!(pod = %context.names, volume, %problem, "volume not refreshed");
            return Ok(Some(Instant::now() + RETRY));
        }
        let fetched = fetched.into_iter().collect::<Result<Vec<_>, _>>()?;
        let payload = projection.payload(&fetched, context, &self.node).map_err(Problem::Spec)?;
        match medium {
            Medium::Disk => empty_dir::make_open_dir(dir)?,
            Medium::Memory(size) => empty_dir::make_tmpfs(dir, size, &*self.mounts)?,
        }
        nested::make(context.pod, volume, dir)?;
        atomic::write(dir, &payload, context.fs_group)?;
        Ok(fetched.iter().filter_map(|f| refresh_at(f, &context.names.uid)).min())
    }

    async fn fetch(&self, context: &PodContext<'_>, dir: &Path, part: &Part<'_>) -> Result<Fetched, Problem> {
        let (namespace, age) = (&*context.names.namespace, context.max_age());
        match part {
            Part::ConfigMap(keys) => {
                let object = self.objects.config_map(namespace, keys.name, age).await;
                Ok(Fetched::ConfigMap(found(object, "configmap", namespace, keys)?))
            }
            Part::Secret(keys) => {
                let object = self.objects.secret(namespace, keys.name, age).await;
                Ok(Fetched::Secret(found(object, "secret", namespace, keys)?))
            }
            Part::DownwardApi(_) => Ok(Fetched::Nothing),
            Part::Token(source) => {
                let on_disk = || std::fs::read_to_string(dir.join(atomic::DATA).join(&source.path)).ok();
                Ok(Fetched::Token(self.tokens.get(context, source, on_disk).await?))
            }
        }
    }

    fn ready(&self) -> MutexGuard<'_, HashMap<PodUid, Option<Instant>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object, or nothing where the spec calls a missing one optional.
fn found<T>(result: api::Result<Arc<T>>, kind: &'static str, namespace: &str, keys: &Keys<'_>) -> Result<Option<Arc<T>>, Problem> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(e) if e.is_not_found() && keys.optional => Ok(None),
        Err(e) if e.is_not_found() => Err(Problem::NotFound { kind, namespace: namespace.to_owned(), name: keys.name.to_owned() }),
        Err(e) => Err(e.into()),
    }
}

/// When a part may have changed. Metadata only changes with the pod object, and then the worker calls anyway.
fn refresh_at(fetched: &Fetched, uid: &PodUid) -> Option<Instant> {
    let immutable = match fetched {
        Fetched::Nothing => return None,
        Fetched::Token(token) => return Some(token.refresh_at),
        Fetched::ConfigMap(object) => object.as_ref().is_some_and(|o| o.immutable == Some(true)),
        Fetched::Secret(object) => object.as_ref().is_some_and(|o| o.immutable == Some(true)),
    };
    (!immutable).then(|| Instant::now() + TTL + spread(uid, SPREAD))
}

#[async_trait]
impl Volumes for VolumeManager {
    async fn set_up(&self, pod: &Pod) -> Result<PodVolumes, Vec<VolumeError>> {
        let uid = PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default());
        let first = !self.ready().contains_key(&uid);
        let context = PodContext::new(pod, first);
        let of_pod = |problem: Problem| vec![VolumeError { volume: String::new(), message: problem.to_string() }];
        let dir = self.layout.pod(&uid).map_err(|e| of_pod(e.into()))?;
        if first {
            make_dirs(&dir).map_err(|e| of_pod(Problem::io("make directory", &dir)(e)))?;
        }
        let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
        let results = join_all(volumes.iter().map(|v| self.volume(&context, v))).await;

        let (mut mounted, mut errors, mut refresh) = (PodVolumes::new(), Vec::new(), None::<Instant>);
        for (volume, result) in volumes.iter().zip(results) {
            match result {
                Ok((place, at)) => {
                    mounted.insert(volume.name.clone(), place);
                    refresh = refresh.into_iter().chain(at).min();
                }
                Err(problem) => errors.push(VolumeError { volume: volume.name.clone(), message: problem.to_string() }),
            }
        }
        if !errors.is_empty() {
            if let Some(at) = self.ready().get_mut(&uid) {
                *at = Some(Instant::now() + RETRY);
            }
            return Err(errors);
        }
        self.ready().insert(uid, refresh);
        Ok(mounted)
    }

    async fn sub_path(&self, uid: &PodUid, mount: SubPathMount<'_>) -> Result<PathBuf, VolumeError> {
        let SubPathMount { container, index, volume, root, path } = mount;
        let failed = |problem: Problem| VolumeError { volume: volume.to_owned(), message: problem.to_string() };
        let target = self.layout.sub_path(uid, volume, container, index).map_err(|e| failed(e.into()))?;
        let wanted = SubPath { root: root.to_owned(), path: path.to_owned(), target: target.clone() };
        let mounts = self.mounts.clone();
        let done = self.blocking.run(&target, HOST_PATH, move || sub_path::bind(&wanted, mounts.as_ref())).await;
        let done = done.map_err(|e| failed(e.into()))?;
        // Where it was to be bound, no container knows.
        done.map_err(|e| failed(Problem::io("find subPath", Path::new(path))(e)))?;
        Ok(target)
    }

    async fn tear_down(&self, uid: &PodUid) -> Result<(), Vec<VolumeError>> {
        self.ready().remove(uid);
        self.tokens.forget(uid);
        // Of a pod whose UID can't be a directory's name, there is none.
        let Ok(dir) = self.layout.pod(uid) else { return Ok(()) };
        teardown::tear_down(&dir, &self.mounts, &self.blocking).await
    }

    async fn usage(&self, pod: &Pod) -> BTreeMap<String, Held> {
        let uid = PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default());
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let on_disk = volumes.filter(|volume| match kind::of(volume) {
            Kind::EmptyDir(source) => source.is_none_or(|source| source.medium.as_deref().unwrap_or_default().is_empty()),
            _ => false,
        });
        let count = on_disk.map(|volume| async {
            let dir = self.layout.volume(&uid, Plugin::EmptyDir, &volume.name).ok()?;
            let counted = dir.clone();
            let held = self.blocking.run(&dir, COUNT, move || disk::held(&counted)).await;
            let why = match held {
                Ok(Ok(held)) => return Some((volume.name.clone(), held)),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::debug!(dir = %dir.display(), %why, "Can't count what a volume holds");
            None
        });
        join_all(count).await.into_iter().flatten().collect()
    }

    async fn pods_on_disk(&self) -> std::io::Result<Vec<PodUid>> {
        let entries = match std::fs::read_dir(self.layout.pods()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result?,
        };
        let mut uids = Vec::new();
        for entry in entries {
            // Names that are no text were not made by any kubelet.
            uids.extend(entry?.file_name().into_string().ok().map(PodUid::from));
        }
        Ok(uids)
    }

    fn next_refresh(&self, uid: &PodUid) -> Option<Instant> {
        match self.ready().get(uid) {
            Some(at) => *at,
            None => Some(Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests;
