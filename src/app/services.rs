//! Starts the Service proxy, and takes away what programs Services.

use std::ffi::OsString;
use std::future::Future;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::StartError;
use crate::api::Api;
use crate::api::events::Recorder;
use crate::config::ProxyConfiguration;
use crate::config::proxy::Mode;
use crate::nft::Family;
use crate::proxy::health::Health;
use crate::proxy::iptables::{Options, Rules, keep_hint};
use crate::proxy::plane::DataPlane;
use crate::proxy::surroundings::{self, Surroundings};
use crate::proxy::{Proxy, catalog::Catalog, cleanup, conntrack, hostcheck, sysctls};
use crate::server::services::ServiceServers;
use crate::{iptables, nft};

/// How long Services wait for the Node object at start.
const NODE_WAIT: Duration = Duration::from_secs(3);

/// What is wanted.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The settings.
    pub proxy: &'a ProxyConfiguration,
    /// Whether Services are programmed. Otherwise they are only known.
    pub serve: bool,
    /// Whether the chains are kept that a kubelet keeps for other programs.
    pub chains: bool,
    /// For what goes wrong.
    pub recorder: &'a Recorder,
}

/// Settings of the kernel that Services need.
pub fn prepare(proxy: &ProxyConfiguration) {
    sysctls::apply(&proxy.conntrack);
    if proxy.mode == (Mode::Iptables { localhost_node_ports: true }) {
        sysctls::route_localhost();
    }
}

/// Starts the Service proxy. It needs the Node object from the rest, and the rest only its list of Services.
pub fn start(
    asked: Asked<'_>,
    api: &Arc<dyn Api>,
    ips: Vec<IpAddr>,
    node: watch::Receiver<Option<Arc<Node>>>,
    tasks: &mut JoinSet<()>,
) -> Result<Catalog, StartError> {
    let Asked { proxy, serve, chains, recorder } = asked;
    let localhost = serve && proxy.mode == (Mode::Iptables { localhost_node_ports: true });
    if chains || localhost {
        tasks.spawn(keep_hint(iptables::Programs, hostcheck::families()));
    }
    let surroundings = Surroundings::new(proxy.clone(), ips);
    let parts = Start { proxy, serve, recorder, api, node, tasks };
    match proxy.mode {
        Mode::Nftables => parts.start(nft::Kernel::open, surroundings),
        Mode::Iptables { localhost_node_ports } => {
            let options = Options { localhost_node_ports, drop_invalid: !proxy.conntrack.tcp_be_liberal };
            let open = move || async move { Ok(Rules::new(iptables::Programs::open().await?, options)) };
            parts.start(open, surroundings)
        }
    }
}

struct Start<'a> {
    proxy: &'a ProxyConfiguration,
    serve: bool,
    recorder: &'a Recorder,
    api: &'a Arc<dyn Api>,
    node: watch::Receiver<Option<Arc<Node>>>,
    tasks: &'a mut JoinSet<()>,
}

impl Start<'_> {
    /// In a data plane that `open` opens.
    fn start<D, O, F>(self, open: O, surroundings: Surroundings) -> Result<Catalog, StartError>
    where
        D: DataPlane + 'static,
        O: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<D, D::Error>> + Send + 'static,
    {
        let Self { proxy: configuration, serve, recorder, api, mut node, tasks } = self;
        let (sender, terms) = watch::channel(surroundings.terms(None, &surroundings::addresses()));
        let families = if serve { hostcheck::families() } else { vec![] };
        let proxy = Proxy::new(open, conntrack::Kernel, families.clone(), terms);
        let catalog = proxy.catalog();
        if !serve {
            tracing::info!("Services are left to somebody else; the agent knows them for the environment of containers only");
            tasks.spawn(proxy.run(api.watch_services(), futures::stream::pending().boxed()));
            return Ok(catalog);
        }
        prepare(configuration);
        let servers = ServiceServers {
            healthz: configuration.healthz,
            metrics: configuration.metrics,
            mode: configuration.mode,
            status: proxy.status(),
            node: node.clone(),
            configz: configuration.configz(),
            recorder: recorder.clone(),
        };
        if configuration.hard_fail {
            servers.probe().map_err(|e| {
                format!("serve the Service proxy's health and metrics: {e}; set bindAddressHardFail: false to go on without")
            })?;
        }
        tasks.spawn(clean(configuration.mode, families, proxy.status().health));
        tasks.spawn(servers.run());
        tasks.spawn(surroundings.follow(node.clone(), api.watch_service_ranges(), sender));
        let run = proxy.run(api.watch_services(), api.watch_endpoint_slices());
        tasks.spawn(async move {
            // What the node is like decides about Services: without it, everything would be programmed twice.
            let _ = timeout(NODE_WAIT, node.wait_for(Option::is_some)).await;
            run.await;
        });
        Ok(catalog)
    }
}

/// Takes away what another proxy, or another mode of this one, left on the host: not before own rules stand, so that no connection finds none.
async fn clean(mode: Mode, families: Vec<Family>, mut health: watch::Receiver<Health>) {
    if health.wait_for(Health::is_programmed).await.is_err() {
        return;
    }
    let in_iptables = mode != Mode::Nftables;
    let what = Removal { own: in_iptables, kube_proxy: true, iptables: !in_iptables };
    match remove(&families, what).await {
        Ok(removed) => removed.iter().for_each(|what| tracing::info!("Removed what another proxy left: {what}")),
        Err(error) => tracing::warn!("Can't remove what another proxy may have left: {error}"),
    }
}

/// Whose rules to remove.
#[derive(Clone, Copy)]
struct Removal {
    /// Tables that this agent made.
    own: bool,
    /// Tables of kube-proxy's nftables mode.
    kube_proxy: bool,
    /// Rules in iptables, whoever made them.
    iptables: bool,
}

/// Returns what was removed.
async fn remove(families: &[Family], what: Removal) -> Result<Vec<String>, String> {
    let mut removed = Vec::new();
    match nft::Kernel::open().await {
        Ok(mut netfilter) => {
            removed.extend(cleanup::tables(&mut netfilter, what.own, what.kube_proxy).await.map_err(|error| error.to_string())?)
        }
        // A host that programs in iptables may have no nftables.
        Err(nft::Error::NotSupported) => {}
        Err(error) => return Err(error.to_string()),
    }
    if what.iptables {
        match iptables::Programs::open().await {
            Ok(mut programs) => removed.extend(cleanup::rules(&mut programs, families).await.map_err(|error| error.to_string())?),
            Err(iptables::Error::Missing { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(removed)
}

/// `kubelet-rs cleanup`. With `--own` only what nobody but this agent knows of, for nodes on which kube-proxy has taken over: it has replaced or
/// removed the rest.
pub fn cleanup(args: &[OsString]) -> ExitCode {
    let what = match args {
        [] => Removal { own: true, kube_proxy: true, iptables: true },
        [own] if own == "--own" => Removal { own: true, kube_proxy: false, iptables: false },
        [other, ..] => {
            eprintln!(
                "kubelet-rs cleanup removes the rules of Services from this host; it takes nothing more than --own, which leaves those of \
                 kube-proxy alone; got {other:?}"
            );
            return ExitCode::FAILURE;
        }
    };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let work = remove(&[Family::Ip, Family::Ip6], what);
    match tokio.map_err(|error| error.to_string()).and_then(|tokio| tokio.block_on(work)) {
        Ok(removed) => {
            removed.iter().for_each(|what| println!("removed {what}"));
            println!("Nothing more of it is left on this host. An agent that runs makes its own rules again.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("can't remove the rules of Services: {error}");
            ExitCode::FAILURE
        }
    }
}
