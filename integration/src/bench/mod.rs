//! Measurements: the same scenes with kubelet-rs and with upstream's agents, one after the other in labs of their own, and with
//! no agent at all where there is a floor.
//!
//! Pods are pinned to the node, so that no scheduler is measured; they run the pause image and have a service-account token, as
//! pods have. Times are taken by a watch, as any client would see them.

pub mod floor;
pub mod pods;
pub mod report;
pub mod services;
pub mod usage;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::error::{Doing as _, Error, Result};
use crate::lab::{Lab, PATIENCE};
use report::Figures;

/// How large the scenes are.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Pods started one after the other.
    pub singles: usize,
    /// Pods started at once.
    pub burst: usize,
    /// Pods that a node may have.
    pub full: usize,
    /// Services of an ordinary cluster.
    pub services: usize,
    /// Services of a large one.
    pub many_services: usize,
    /// Endpoint changes that are timed at each size.
    pub changes: usize,
    /// For how long an idle node is watched.
    pub idle: Duration,
}

impl Sizes {
    /// What `docs/BENCHMARKS.md` shows.
    pub const FULL: Self =
        Self { singles: 20, burst: 50, full: 110, services: 1_000, many_services: 10_000, changes: 10, idle: Duration::from_secs(60) };
    /// To see in two minutes that everything is measured.
    pub const SMALL: Self =
        Self { singles: 3, burst: 10, full: 20, services: 100, many_services: 500, changes: 3, idle: Duration::from_secs(5) };
}

/// After which an agent is taken to be at rest.
const SETTLE: Duration = Duration::from_secs(20);

/// All scenes with one agent.
pub async fn measure(agent: Agent, sizes: Sizes, say: fn(&str)) -> Result<Figures> {
    let mut figures = Figures::default();
    let lab = Lab::builder("bench").agent(agent).without_agents().start().await?;
    let node = lab.node(0);

    say("cold start");
    let start = Instant::now();
    node.start_agent().await?;
    lab.nodes_ready().await?;
    figures.time("start_ready", start.elapsed());
    sleep(SETTLE).await;
    usage::memory(node, "idle", &mut figures).await?;

    say("one pod after the other");
    let times = pods::Times::watch(&lab).await?;
    pods::singles(&lab, &times, sizes.singles, &mut figures).await?;
    say("many pods at once");
    pods::burst(&lab, &times, sizes.burst, &mut figures).await?;

    say("a full node at rest");
    // Two of them answer for all Services of the next scene.
    let servers = services::servers(&lab).await?;
    pods::fill(&lab, &times, sizes.full - servers.len()).await?;
    sleep(SETTLE).await;
    usage::memory(node, "full", &mut figures).await?;
    usage::at_rest(node, sizes.idle, &mut figures).await?;

    say("a full node and Services");
    services::create(&lab, &servers, 0..sizes.services).await?;
    services::programmed(&lab, sizes.services).await?;
    sleep(SETTLE).await;
    usage::memory(node, "services", &mut figures).await?;
    services::changes(&lab, &servers, "few", sizes.changes, &mut figures).await?;

    say("a great many Services");
    services::create(&lab, &servers, sizes.services..sizes.many_services).await?;
    services::programmed(&lab, sizes.many_services).await?;
    sleep(SETTLE).await;
    services::changes(&lab, &servers, "many", sizes.changes, &mut figures).await?;
    usage::memory(node, "many", &mut figures).await?;
    services::from_nothing(&lab, sizes.many_services, &mut figures).await?;
    Ok(figures)
}

/// The same CRI calls by a client that does nothing else.
pub async fn measure_floor(sizes: Sizes, say: fn(&str)) -> Result<Figures> {
    say("the same CRI calls without an agent");
    let mut figures = Figures::default();
    let lab = Lab::builder("floor").agent(Agent::Upstream).without_agents().start().await?;
    let floor = floor::Floor::connect(&lab).await?;
    floor.singles(sizes.singles, &mut figures).await?;
    floor.burst(sizes.burst, &mut figures).await?;
    Ok(figures)
}

/// Size of the program on disk.
pub fn binary_size(path: &std::path::Path) -> Result<u64> {
    std::fs::metadata(path).map(|metadata| metadata.len()).doing(|| format!("looking at {}", path.display()))
}

/// The middle one.
fn median(mut times: Vec<Duration>) -> Result<Duration> {
    times.sort();
    times.get(times.len() / 2).copied().ok_or_else(|| Error::Other("nothing was measured".into()))
}

/// Longer than anything that is measured.
const LONG: Duration = PATIENCE.saturating_mul(5);
