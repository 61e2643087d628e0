//! Starting containers, one after the other.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use proto::cri::{ContainerConfig, PodSandboxConfig};
use tokio::time::timeout;

use super::hooks::POST_START_LIMIT;
use super::prepare::make_dir;
use super::stop::Stop;
use super::{RETRY, Run};
use crate::api::events::EventType;
use crate::model::service::{ServiceMap, ServiceName};
use crate::model::{ContainerId, SandboxId};
use crate::network::hostname::PodHostname;
use crate::network::hosts;
use crate::pods::log_files;
use crate::pods::memory::Subject;
use crate::pods::plan::{Start, Why};
use crate::pods::progress::Progress;
use crate::pods::spec;
use crate::runtime::translate::env::{EnvSources, ObjectKind, Objects, environment, files, references};
use crate::runtime::translate::{ContainerInput, container_config, mounts_hosts_file, sub_path, wants_recursive_read_only};
use crate::runtime::{Container, Image, Sandbox};
use crate::volumes::objects::FRESH;
use crate::volumes::{PodVolumes, SubPathMount, env_file};

/// How long a container waits for the first list of Services, which its environment is made from.
const SERVICES_WAIT: Duration = Duration::from_secs(10);

/// The hook after the start has failed. What people see of it is an event of its own.
const POST_START_ERROR: &str = "PostStartHookError";

/// Why a container did not start, as its status shows it.
struct StartError {
    reason: &'static str,
    message: String,
    /// The runtime may know the container all the same.
    uncertain: bool,
}

impl StartError {
    fn config(message: impl ToString) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.to_string(), uncertain: false }
    }
    fn runtime(reason: &'static str, error: &crate::runtime::Error) -> Self {
        Self { reason, message: error.kind.to_string(), uncertain: true }
    }
}

impl Run {
    pub(super) async fn start_containers(&self, list: Vec<Start>) {
        let (Some(pod), Some(sandbox), Some(volumes)) = (&self.job.pod, &self.job.sandbox, &self.job.volumes) else { return };
        let config = match self.sandbox_config(sandbox.attempt).await {
            Ok(config) => config,
            Err(message) => {
                for start in list {
                    self.failed(Subject::Container(start.name), "CreateContainerConfigError", message.clone(), RETRY);
                }
                return;
            }
        };
        for start in list {
            if self.is_cancelled() {
                return;
            }
            let (Some(container), Some(image)) = (spec::any_container(pod, &start.name), self.image(pod, &start.name, &config).await)
            else {
                continue;
            };
            let it = One { run: self, pod, container: &container, sandbox, volumes, config: &config, image: &image };
            if let Err(error) = it.start(&start).await {
                tracing::warn!(pod = %self.job.name, container = %start.name, reason = error.reason, error = %error.message, "Can't start a container, will try again");
                if error.reason != POST_START_ERROR {
                    self.event(Some(&start.name), EventType::Warning, "Failed", &format!("Error: {}", error.message));
                }
                self.failed(Subject::Container(start.name.clone()), error.reason, error.message, RETRY);
                if error.uncertain {
                    self.report(Progress::Uncertain);
                    return;
                }
            }
        }
    }
}

/// One container that is about to start.
struct One<'a> {
    run: &'a Run,
    pod: &'a Pod,
    container: &'a Spec,
    sandbox: &'a Sandbox,
    volumes: &'a PodVolumes,
    config: &'a PodSandboxConfig,
    image: &'a Image,
}

impl One<'_> {
    async fn start(&self, start: &Start) -> Result<(), StartError> {
        let ctx = &self.run.job.ctx;
        let config = self.configure(start).await?;
        let turn = ctx.turns.containers().await;
        let log = Path::new(&self.config.log_directory).join(&config.log_path);
        let made = log.parent().map_or(Ok(()), |dir| make_dir(dir, 0o755));
        made.map_err(|e| StartError::config(format!("make the directory of {}: {e}", log.display())))?;
        let sandbox: &SandboxId = &self.sandbox.id;
        let id = ctx.runtime.create_container(sandbox, config, self.config.clone()).await;
        let id = id.map_err(|e| StartError::runtime("CreateContainerError", &e))?;
        self.run.event(Some(&start.name), EventType::Normal, "Created", "Container created");
        let started = ctx.runtime.start_container(&id).await;
        if started.is_ok() {
            self.run.report(Progress::Succeeded(Subject::Container(start.name.clone())));
            self.run.event(Some(&start.name), EventType::Normal, "Started", "Container started");
        }
        drop(turn);
        let hook = self.container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let hook = match hook.filter(|_| started.is_ok()) {
            // A container counts as running once its hook is done. Who takes the pod down does not wait for that.
            Some(handler) => tokio::select! {
                done = self.run.hook(&id, self.container, handler, POST_START_LIMIT) => done,
                () = self.run.cancelled() => Ok(()),
            },
            None => Ok(()),
        };
        // The record is worth having even after a failure: the runtime keeps the end of a container that could not start.
        if let Ok(record) = ctx.runtime.container(&id).await {
            log_files::link(&ctx.translate.pod_logs_dir, &self.run.job.name, &start.name, &id, &record.log_path);
            let record = Container { sandbox: self.sandbox.id.clone(), ..record };
            self.run.report(Progress::Started(start.clone(), record));
        } else if started.is_ok() {
            self.run.report(Progress::Uncertain);
        }
        started.map_err(|e| StartError::runtime("RunContainerError", &e))?;
        match hook {
            Ok(()) => Ok(()),
            Err(message) => {
                // Without the message: it may hold what not everybody who reads events should see.
                self.run.event(Some(&start.name), EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
                let grace = Duration::from_secs(spec::grace_period(self.pod));
                let (name, why) = (start.name.clone(), Why::FailedPostStart);
                self.run.stop_container(Stop { id, name, grace, why, after: vec![], hook: true }).await;
                Err(StartError { reason: POST_START_ERROR, message, uncertain: false })
            }
        }
    }

    async fn configure(&self, start: &Start) -> Result<ContainerConfig, StartError> {
        let ctx = &self.run.job.ctx;
        let objects = self.objects().await?;
        let services = self.services().await?;
        let host_network = spec::host_network(self.pod);
        let pod_ips: &[IpAddr] = if host_network { &ctx.settings.node_ips } else { &self.sandbox.ips };
        let sources = EnvSources { objects: &objects, services: &services, facts: &ctx.translate.facts, pod_ips };
        let environment = environment(self.pod, self.container, sources).map_err(StartError::config)?;
        let hosts_file = self.hosts_file(pod_ips)?;
        let termination_log = self.termination_log(start.restart_count);
        let termination_log = termination_log.map_err(|e| StartError::config(format!("make the termination message's file: {e}")))?;
        let target = self.target()?;
        let sub_paths = self.sub_paths(&environment).await?;
        let input = ContainerInput {
            pod: self.pod,
            container: self.container,
            restart_count: start.restart_count,
            image: self.image,
            environment: &environment,
            volumes: self.volumes,
            sub_paths: &sub_paths,
            hosts_file: hosts_file.as_deref(),
            termination_log: Some(&termination_log),
            target: target.as_ref(),
            recursive_read_only: self.recursive_read_only().await?,
        };
        container_config(input, &ctx.translate).map_err(StartError::config)
    }

    /// Makes the parts of volumes ready that the container's mounts show.
    async fn sub_paths(&self, environment: &[(String, Vec<u8>)]) -> Result<BTreeMap<usize, PathBuf>, StartError> {
        let mut found = BTreeMap::new();
        let container = &self.container.name;
        for (index, mount) in self.container.volume_mounts.iter().flatten().enumerate() {
            let Some(path) = sub_path(mount, environment).map_err(StartError::config)? else { continue };
            // A volume that is not there is named when the mounts are put together.
            let Some(volume) = self.volumes.get(&mount.name) else { continue };
            let asked = SubPathMount { container, index, volume: &mount.name, root: &volume.host_path, path: &path };
            let prepared = self.run.job.ctx.volumes.sub_path(&self.run.job.name.uid, asked).await;
            let prepared = prepared.map_err(|error| {
                StartError::config(format!(
                    "failed to prepare subPath for volumeMount {:?} of container {container:?}: {}",
                    mount.name, error.message
                ))
            })?;
            found.insert(index, prepared);
        }
        Ok(found)
    }

    /// Whether the pod's runtime handler can make mounts read-only with everything below them. Asked only where it matters.
    async fn recursive_read_only(&self) -> Result<bool, StartError> {
        if !wants_recursive_read_only(self.container) {
            return Ok(false);
        }
        let handler = self.run.runtime_handler(self.pod).await.map_err(StartError::config)?;
        let health = self.run.job.ctx.runtime.health().await.map_err(StartError::config)?;
        Ok(health.handlers.iter().any(|h| h.name == handler && h.recursive_read_only_mounts))
    }

    /// The instance whose processes an ephemeral container sees.
    fn target(&self) -> Result<Option<ContainerId>, StartError> {
        let Some(name) = spec::target(self.pod, &self.container.name) else { return Ok(None) };
        let newest = self.run.job.records.values().filter(|r| *r.name == *name).max_by_key(|r| r.created_at);
        newest.map(|r| Some(r.id.clone())).ok_or_else(|| StartError::config(format!("unable to find target container {name}")))
    }

    /// ConfigMaps and Secrets that the environment is made from. What does not exist is left out; whether that matters is not decided here.
    async fn objects(&self) -> Result<Objects, StartError> {
        let cache = &self.run.job.ctx.objects;
        let namespace = &self.run.job.name.namespace;
        let mut objects = Objects::default();
        for wanted in references(self.container) {
            let found = match wanted.kind {
                ObjectKind::ConfigMap => {
                    let found = cache.config_map(namespace, &wanted.name, FRESH).await;
                    found.map(|object| drop(objects.config_maps.insert(wanted.name, object)))
                }
                ObjectKind::Secret => {
                    let found = cache.secret(namespace, &wanted.name, FRESH).await;
                    found.map(|object| drop(objects.secrets.insert(wanted.name, object)))
                }
            };
            if let Err(error) = found.or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) }) {
                return Err(StartError::config(error));
            }
        }
        for (volume, path) in files(self.container) {
            // A volume that is not there is not left out silently: who needs the file says so.
            let Some(mounted) = self.volumes.get(volume) else { continue };
            let content = env_file::read(&mounted.host_path, path).map_err(|error| error.to_string());
            objects.files.insert((volume.to_owned(), path.to_owned()), content);
        }
        Ok(objects)
    }

    /// Services whose addresses become variables: those of the pod's namespace, and the API server's own.
    async fn services(&self) -> Result<ServiceMap, StartError> {
        let catalog = &self.run.job.ctx.services;
        // The node's own pods may be what makes the Services' source.
        if !spec::is_static(self.pod) && timeout(SERVICES_WAIT, catalog.wait_synced()).await.is_err() {
            return Err(StartError::config("services have not yet been read at least once, cannot construct envvars"));
        }
        let api = ServiceName { namespace: "default".into(), name: "kubernetes".into() };
        let own = catalog.services_in(&self.run.job.name.namespace);
        Ok(own.into_iter().chain(catalog.get(&api)).map(|s| (s.id.clone(), s)).collect())
    }

    /// Writes the hosts file anew, as upstream does at each start of a container.
    fn hosts_file(&self, pod_ips: &[IpAddr]) -> Result<Option<PathBuf>, StartError> {
        if !mounts_hosts_file(self.pod, self.container, !pod_ips.is_empty()) {
            return Ok(None);
        }
        let ctx = &self.run.job.ctx;
        let content = if spec::host_network(self.pod) {
            hosts::host_network_hosts(self.pod, &std::fs::read_to_string(hosts::CONTAINER_PATH).unwrap_or_default())
        } else {
            let name = PodHostname::of(self.pod, &ctx.translate.cluster_dns.domain).map_err(StartError::config)?;
            hosts::pod_hosts(self.pod, &name, pod_ips)
        };
        let path = hosts::path(&ctx.translate.root_dir, &self.run.job.name.uid);
        let written = path.parent().map_or(Ok(()), |dir| make_dir(dir, 0o750)).and_then(|()| write(&path, content.as_bytes(), 0o644));
        written.map_err(|e| StartError::config(format!("write {}: {e}", path.display())))?;
        Ok(Some(path))
    }

    /// An empty file, writable for whoever the container runs as, named after the instance in eight hexadecimal digits.
    fn termination_log(&self, restart_count: u32) -> io::Result<PathBuf> {
        let root = &self.run.job.ctx.translate.root_dir;
        let dir = root.join("pods").join(self.run.job.name.uid.as_str()).join("containers").join(&self.container.name);
        make_dir(&dir, 0o750)?;
        let path = dir.join(format!("{restart_count:08x}"));
        write(&path, b"", 0o666)?;
        Ok(path)
    }
}

/// Writes a file of the given mode, whatever the umask says.
fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    std::fs::write(path, content)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
