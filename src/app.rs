//! The one wiring file: builds the parts, starts them, stops them in order.
//!
//! In: arguments. Out: an exit code. Owns: the order in which the parts start. Survives a restart: nothing.

mod alone;
mod logging;
mod services;
mod settings;

use std::ffi::OsString;
use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::api::events::{EventRates, Recorder};
use crate::api::{Api, KubeApi, kubeconfig};
use crate::config::{self, Config, Invocation, KUBERNETES_VERSION, hostcheck};
use crate::eviction;
use crate::model::clock::Clock;
use crate::node;
use crate::node::address::Finder;
use crate::node::machine::Machine;
use crate::node::{NodeDeps, NotReady, Pressures};
use crate::pods::admission::Admission;
use crate::pods::context::Context;
use crate::pods::directory::Directory;
use crate::pods::heartbeat::Heartbeat;
use crate::pods::images::Images;
use crate::pods::mirrors::Mirrors;
use crate::pods::orders::Orders;
use crate::pods::pleg::Pleg;
use crate::pods::turns::Turns;
use crate::pods::{manager, status};
use crate::resources::{Cgroups, PodCgroups};
use crate::runtime::client::CriRuntime;
use crate::runtime::log::rotate;
use crate::runtime::{ErrorKind, Runtime};
use crate::server::{HealthzServer, Parts, Server};
use crate::sys::{blocking, notify, process};
use crate::volumes::Volumes;
use crate::volumes::manager::VolumeManager;
use crate::volumes::mounts::LinuxMounts;
use crate::volumes::objects::ObjectCache;

/// Threads for work that may block: all that may hang on somebody's NFS, and some that always remain for the agent's own files. They
/// are started when they are needed, and idle ones end by themselves.
const BLOCKING_THREADS: usize = blocking::THREADS + 16;
/// Wait between tries to reach a runtime that is not there.
const RUNTIME_RETRY: Duration = Duration::from_millis(500);
/// How often freed memory is given back to the system.
const TRIM: Duration = Duration::from_secs(120);

/// Runs the agent with the given arguments (without the program's own name).
pub fn main(args: Vec<OsString>) -> ExitCode {
    match args.first().and_then(|first| first.to_str()) {
        Some("cleanup") => return services::cleanup(args.get(1..).unwrap_or_default()),
        Some("proxy") => return alone::main(args.into_iter().skip(1).collect()),
        _ => {}
    }
    let config = match config::load(args) {
        Ok(Invocation::Run(config)) => config,
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    logging::start(&config.kubelet.logging);
    let mut config = config;
    match hostcheck::check(&hostcheck::read(), &config.kubelet) {
        Ok(warnings) => config.warnings.extend(warnings),
        Err(refusals) => {
            refusals.iter().for_each(|refusal| tracing::error!("{refusal}"));
            return ExitCode::FAILURE;
        }
    }
    block_on(run(*config))
}

/// Runs what the agent does on its one thread, to its end.
fn block_on(work: impl Future<Output = Result<(), StartError>>) -> ExitCode {
    process::use_one_arena();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let tokio = match tokio {
        Ok(tokio) => tokio,
        Err(error) => {
            tracing::error!(%error, "Can't start: the kernel gives no event queue or thread; look at the limits of this process");
            return ExitCode::FAILURE;
        }
    };
    let code = match tokio.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    // A thread that hangs in a file system must not hold up the end.
    tokio.shutdown_background();
    code
}

/// What ends the agent before it has begun. Later problems are logged and tried again.
type StartError = Box<dyn std::error::Error>;

async fn run(mut config: Config) -> Result<(), StartError> {
    let mut tasks = JoinSet::new();
    let stop = until_told_to_stop();
    tokio::pin!(stop);
    tokio::select! {
        result = start(&mut config, &mut tasks) => result?,
        result = &mut stop => return result,
    }
    if let Err(error) = notify::send("READY=1") {
        tracing::warn!(%error, "Can't tell systemd that the agent is up; a unit of Type=notify will be stopped");
    }
    // Tasks end where they stand: the next start finds out what is there. That is the same as after a kill.
    stop.await
}

/// Ends when somebody wants the agent to end.
async fn until_told_to_stop() -> Result<(), StartError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("Told to stop; pods and Services go on without the agent"),
        _ = interrupt.recv() => tracing::info!("Interrupted; pods and Services go on without the agent"),
    }
    Ok(())
}

async fn start(config: &mut Config, tasks: &mut JoinSet<()>) -> Result<(), StartError> {
    let root = config.options.root_dir.clone();
    // Upstream's mode: pods' Secrets are below.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&root)
        .map_err(|e| format!("make the root directory {}: {e}; choose another with --root-dir", root.display()))?;
    if config.kubelet.healthz_port != 0 {
        let healthz = HealthzServer::bind(config.kubelet.healthz_bind_address, config.kubelet.healthz_port)?;
        tasks.spawn(healthz.run());
    }
    let machine = Machine::read(Path::new("/"), &root)?;
    let name = config.options.node_name(&machine.hostname).ok_or("the host has no name; give the node one with --hostname-override")?;
    let addresses = Finder::Host { given: config.options.node_ips.clone(), name: name.clone() };
    let ips = addresses.wait().await;
    let capacity = machine.capacity(config.kubelet.max_pods, config.kubelet.pods_per_core);
    let withheld = settings::withheld(&config.kubelet, &capacity);
    let too_much = settings::overcommitted(&capacity, &withheld);
    if !too_much.is_empty() {
        return Err(too_much.join("; ").into());
    }
    let facts = machine.facts(name.clone(), ips, capacity, withheld);
    let kubeconfig =
        config.options.kubeconfig.as_deref().ok_or("--kubeconfig is missing: running without an API server is not supported yet")?;
    let api: Arc<dyn Api> = Arc::new(KubeApi::new(kubeconfig::load(kubeconfig)?, &name, KUBERNETES_VERSION)?);
    let endpoint = config.kubelet.container_runtime_endpoint.clone();
    let runtime: Arc<dyn Runtime> =
        Arc::new(CriRuntime::new(&endpoint, Some(config.kubelet.image_endpoint()), config.kubelet.runtime_request_timeout)?);
    announce(config);
    let rates = EventRates { per_second: config.kubelet.event_record_qps, burst: config.kubelet.event_burst };
    let recorder = Recorder::start(Arc::clone(&api), &name, rates);

    // For the rooms that may have a reason why no pods should come.
    let not_ready = NotReady::default();
    let pressures = Pressures::default();
    let node = node::run(NodeDeps {
        api: Arc::clone(&api),
        runtime: Arc::clone(&runtime),
        machine,
        facts: facts.clone(),
        settings: settings::node(config),
        recorder: recorder.clone(),
        addresses,
        not_ready: not_ready.clone(),
        pressures: pressures.clone(),
    });
    let asked = services::Asked {
        proxy: &config.proxy,
        serve: config.options.service_proxy,
        chains: config.kubelet.make_iptables_util_chains,
        recorder: &recorder,
    };
    let services = services::start(asked, &api, facts.ips.clone(), node.node(), tasks)?;

    let version = reach_runtime(runtime.as_ref(), &endpoint).await;
    match runtime.cgroup_driver().await {
        Ok(driver) => config.kubelet.cgroup_driver = driver,
        Err(error) if error.kind == ErrorKind::Unimplemented => {
            tracing::info!(driver = ?config.kubelet.cgroup_driver, "The runtime doesn't tell its cgroup driver; the configured one is used");
        }
        Err(error) => return Err(error.into()),
    }
    let cgroups = Cgroups::open(&config.kubelet)?;
    for problem in cgroups.set_up_node(capacity, &config.kubelet).await? {
        tracing::warn!(%problem, "A limit of the node's cgroups can't be set");
    }
    let objects = ObjectCache::new(Arc::clone(&api));
    let volumes = VolumeManager::new(&root, Arc::clone(&api), objects.clone(), Arc::new(facts.clone()), Arc::new(LinuxMounts::default()));
    volumes.prepare().map_err(|e| format!("share mounts below {}: {e}; pods can't get volumes without that", root.display()))?;

    let directory = Arc::new(Directory::default());
    let heartbeat = Arc::new(Heartbeat::default());
    let watched = Arc::clone(&heartbeat);
    let parts = Parts {
        api: Arc::clone(&api),
        runtime: Arc::clone(&runtime),
        pods: Arc::clone(&directory) as _,
        configz: settings::configz(config),
        sync_loop: Arc::new(move || watched.check()),
    };
    if config.kubelet.enable_server {
        tasks.spawn(Server::bind(settings::server(config, &facts), parts)?.run());
    }
    if let Some(policy) = settings::log_rotation(&config.kubelet) {
        let logs = Arc::clone(&directory);
        tasks.spawn(rotate::run(Arc::clone(&runtime), policy, move || logs.running_logs()));
    }
    let (writer, writing) = status::Writer::new(Arc::clone(&api));
    tasks.spawn(writing);
    let images = Images::new(Arc::clone(&runtime), objects.clone(), &settings::images(&config.kubelet), node.refresher());
    let unsafe_sysctls = &config.kubelet.allowed_unsafe_sysctls;
    let admission = Admission::new(Arc::clone(&api), node.node(), facts.allocatable, pressures.clone(), unsafe_sysctls);
    let (mirrors, mirroring) = Mirrors::new(Arc::clone(&api), node.node());
    tasks.spawn(mirroring);
    let (volumes, cgroups): (Arc<dyn Volumes>, Arc<dyn PodCgroups>) = (Arc::new(volumes), Arc::new(cgroups));
    let orders = Arc::<Orders>::default();
    let watched = eviction::Deps {
        runtime: Arc::clone(&runtime),
        cgroups: Arc::clone(&cgroups),
        volumes: Arc::clone(&volumes),
        directory: Arc::clone(&directory),
        orders: Arc::clone(&orders),
        pressures,
        recorder: recorder.clone(),
    };
    tasks.spawn(eviction::run(watched, settings::eviction(config)));
    let ctx = Context {
        mirrors,
        sources: settings::sources(config, &facts.name),
        api,
        admission,
        orders,
        runtime,
        volumes,
        cgroups,
        images,
        objects,
        services,
        recorder,
        writer,
        directory,
        turns: Turns::default(),
        heartbeat,
        pleg: Pleg::new(not_ready),
        clock: Clock::System,
        translate: settings::translate(config, facts.clone()),
        settings: settings::pods(config, &facts, version.name),
    };
    tasks.spawn(manager::run(Arc::new(ctx), watch::Sender::new(false)));
    tasks.spawn(async move {
        // The node room lives as long as its handle.
        let _kept = node;
        loop {
            sleep(TRIM).await;
            process::trim_heap();
        }
    });
    Ok(())
}

/// What is worth saying once it is clear that the agent can run: before that, only the reason why it can't.
fn announce(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    process::set_oom_score_adj(config.kubelet.oom_score_adj);
    if let Err(error) = process::raise_open_files(config.kubelet.max_open_files) {
        let wanted = config.kubelet.max_open_files;
        tracing::warn!(%error, wanted, "Can't raise the limit of open files; a node with many pods may run out of them");
    }
}

/// Waits for the container runtime. The node says meanwhile that it is not ready, and why.
async fn reach_runtime(runtime: &dyn Runtime, endpoint: &str) -> crate::runtime::RuntimeVersion {
    let mut said = String::new();
    loop {
        match runtime.version().await {
            Ok(version) => {
                tracing::info!(runtime = %version.name, version = %version.version, "Found the container runtime");
                return version;
            }
            Err(error) => {
                let text = error.to_string();
                if text != said {
                    tracing::error!("{text}; the agent waits for {endpoint}");
                    said = text;
                }
                sleep(RUNTIME_RETRY).await;
            }
        }
    }
}
