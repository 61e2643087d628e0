//! This node's object in the API server: registration, status and conditions, lease.
//!
//! In: what the machine is ([`machine`], [`address`]), the runtime's health, further reasons for not being ready. Out: the Node
//! object with its status, the Lease, node events; to other rooms the latest Node object. Owns: two tasks, one that registers and
//! reports, one that renews the Lease. Survives a restart: nothing here; the Node object is the memory.

pub mod address;
mod lease;
pub mod machine;
mod not_ready;
mod object;
mod pressures;
mod probe;
mod register;
mod report;
mod status;
mod transitions;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Taint};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::api::{Api, Recorder};
use crate::model::node::NodeFacts;
use crate::runtime::Runtime;
use address::Finder;
use machine::Machine;

pub use not_ready::NotReady;
pub use pressures::{Pressure, Pressures};

/// What the configuration says about the node's object.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Create the object when it is missing (`registerNode`). Otherwise wait for somebody else to do so.
    pub register: bool,
    /// `--node-labels`.
    pub labels: BTreeMap<String, String>,
    /// `registerWithTaints`: set at creation only.
    pub taints: Vec<Taint>,
    /// `providerID`; empty for none.
    pub provider_id: String,
    /// `--cloud-provider=external`: a controller sets the addresses and takes the first taint away.
    pub external_cloud_provider: bool,
    /// `--node-ip`; an unspecified address only chooses the family, and none means that a cloud controller may know better.
    pub node_ips: Vec<IpAddr>,
    /// `enableControllerAttachDetach`: a controller attaches volumes to the node.
    pub controller_attach_detach: bool,
    /// Port of the agent's server, for `daemonEndpoints`.
    pub server_port: u16,
    /// How often the status is computed (`nodeStatusUpdateFrequency`).
    pub update_frequency: Duration,
    /// How often it is sent though nothing changed (`nodeStatusReportFrequency`).
    pub report_frequency: Duration,
    /// `nodeLeaseDurationSeconds`; it is renewed four times as often.
    pub lease_duration: Duration,
    /// `nodeStatusMaxImages`; negative for all.
    pub max_images: i32,
    /// The Kubernetes version that the agent claims: `v1.36.3`.
    pub version: String,
}

/// What the tasks of this room work with.
pub struct NodeDeps {
    /// The API server.
    pub api: Arc<dyn Api>,
    /// The container runtime: asked for its health at each status, for images once a minute at most.
    pub runtime: Arc<dyn Runtime>,
    /// The machine as read at start.
    pub machine: Machine,
    /// Name, addresses, capacity, allocatable.
    pub facts: NodeFacts,
    /// Configuration.
    pub settings: NodeSettings,
    /// For events about the node.
    pub recorder: Recorder,
    /// Finds the node's addresses anew at each status: DHCP and people change them.
    pub addresses: Finder,
    /// Why the node is not ready, besides the runtime.
    pub not_ready: NotReady,
    /// What the node is short of.
    pub pressures: Pressures,
}

/// The running room. Dropping it ends its tasks.
pub struct NodeHandle {
    node: watch::Receiver<Option<Arc<Node>>>,
    refresh: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl NodeHandle {
    /// The latest Node object; `None` until it is registered, and again while it is deleted.
    pub fn node(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.node.clone()
    }

    /// For those who change what the status tells.
    pub fn refresher(&self) -> Refresher {
        Refresher(self.refresh.clone())
    }
}

/// Asks for a new status. Clones are cheap.
#[derive(Debug, Clone, Default)]
pub struct Refresher(Arc<Notify>);

impl Refresher {
    /// Images were pulled or removed, or the runtime was restarted: look again, and report soon.
    pub fn refresh(&self) {
        self.0.notify_one();
    }
}

/// Starts to register the node, to report its status and to renew its Lease. Both go on for ever, whatever fails.
pub fn run(deps: NodeDeps) -> NodeHandle {
    let (latest, node) = watch::channel(None);
    let refresh = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(lease::run(deps.api.clone(), deps.facts.name.clone(), deps.settings.lease_duration, node.clone()));
    tasks.spawn(report::run(deps, latest, refresh.clone()));
    NodeHandle { node, refresh, _tasks: tasks }
}
