//! What all pod workers share.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Admission;
use super::directory::Directory;
use super::heartbeat::Heartbeat;
use super::images::Images;
use super::mirrors::Mirrors;
use super::orders::Orders;
use super::pleg::Pleg;
use super::status::Writer;
use super::turns::Turns;
use crate::api::Api;
use crate::api::events::Recorder;
use crate::model::clock::Clock;
use crate::proxy::catalog::Catalog;
use crate::resources::PodCgroups;
use crate::runtime::Runtime;
use crate::runtime::translate::TranslateSettings;
use crate::volumes::Volumes;
use crate::volumes::objects::ObjectCache;

/// The other rooms, and settings.
pub struct Context {
    /// The API server.
    pub api: Arc<dyn Api>,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Which pods may run here.
    pub admission: Admission,
    /// Ends that other rooms decide on.
    pub orders: Arc<Orders>,
    /// What the API server knows of the node's own pods.
    pub mirrors: Mirrors,
    /// Where they come from.
    pub sources: super::sources::Settings,
    /// Volumes.
    pub volumes: Arc<dyn Volumes>,
    /// Cgroups.
    pub cgroups: Arc<dyn PodCgroups>,
    /// Images.
    pub images: Images,
    /// ConfigMaps and Secrets.
    pub objects: ObjectCache,
    /// Services, for the environment.
    pub services: Catalog,
    /// Events.
    pub recorder: Recorder,
    /// Statuses.
    pub writer: Writer,
    /// What the server may read.
    pub directory: Arc<Directory>,
    /// Turns at the runtime.
    pub turns: Turns,
    /// That the manager lives.
    pub heartbeat: Arc<Heartbeat>,
    /// That the runtime tells what runs.
    pub pleg: Pleg,
    /// Wall clock.
    pub clock: Clock,
    /// For making runtime configurations.
    pub translate: TranslateSettings,
    /// The rest.
    pub settings: Settings,
}

/// Plain settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Node addresses, primary family first.
    pub node_ips: Vec<IpAddr>,
    /// The runtime's name, as it stands before container ids in the API.
    pub runtime_name: String,
    /// The host's resolver configuration, which pods inherit from; `None` for none.
    pub resolv_conf: Option<PathBuf>,
    /// Longest delay in a crash loop.
    pub crash_loop_max: Duration,
}
