//! The benchmark: kubelet-rs beside upstream's kubelet and kube-proxy, in one lab and one run, with a floor where there is one.
//!
//! In: [`Options`], and the programs of the lab. Out: [`Figures`], which [`report`] prints as a table, one row for each entry of
//! [`rows::ROWS`]. Owns: a lab of two nodes, one for each agent, of which one works at a time; the order changes from round to round,
//! so that a slow minute of the machine meets both. Survives a run: `docs/BENCHMARKS.md`, if the run was a whole one.

pub mod changes;
pub mod contender;
pub mod figures;
pub mod floor;
pub mod format;
pub mod host;
pub mod life;
pub mod options;
pub mod plot;
pub mod pods;
pub mod probe;
pub mod probes;
pub mod report;
pub mod resident;
pub mod rows;
pub mod services;
pub mod start;
pub mod usage;
pub mod watch;

use std::fmt::Display;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::error::{Doing as _, Result};
use crate::lab::{Lab, PATIENCE};
use contender::Contender;
use figures::{Figures, Who};
use options::{Options, Part};
use services::Services;

/// The namespace of the pods. Services are elsewhere: their names would go into each pod's environment.
pub const PODS: &str = "bench-pods";
/// The namespace of the Services.
pub const SERVICES: &str = "bench-services";

/// The share of the machine that the control plane and a few daemons may use while no agent runs.
pub const QUIET: f64 = 0.15;

/// Everything that the parts share.
pub struct Bench {
    /// The lab: node 1 for upstream, node 2 for kubelet-rs.
    pub lab: Lab,
    /// Those that are compared.
    pub contenders: Vec<Contender>,
    /// The Services of the cluster.
    pub services: Services,
    /// What has been measured.
    pub figures: Figures,
    /// What was asked for.
    pub options: Options,
    /// The greatest share of the machine that others were seen to use, from 0 to 1.
    pub busy: f64,
    started: Instant,
}

impl Bench {
    /// Starts the lab.
    pub async fn start(options: Options) -> Result<Self> {
        let started = Instant::now();
        // The node of kubelet-rs gets its own specs below.
        let builder = Lab::builder("bench").nodes(2).agent(Agent::Upstream).without_agents();
        let lab = builder.progress(move |what| say(started, &format!("lab: {what}"))).start().await?;
        for name in [PODS, SERVICES] {
            make_namespace(&lab, name).await?;
        }
        let mut contenders = Vec::new();
        for who in &options.agents {
            contenders.push(Contender::new(&lab, *who)?);
        }
        let services = Services::new(&lab)?;
        Ok(Self { lab, contenders, services, figures: Figures::default(), options, busy: 0.0, started })
    }

    /// Runs the chosen parts. What one agent fails at is written down, and the others go on.
    pub async fn run(&mut self) {
        for part in Part::ALL {
            if !self.options.parts.contains(&part) {
                continue;
            }
            match part {
                // Thousands of Services are made once, for all rounds.
                Part::Services => {
                    for count in services::SIZES {
                        changes::prepare(self, count).await;
                        self.rounds(part, count).await;
                    }
                }
                _ => self.rounds(part, 0).await,
            }
        }
        for index in 0..self.contenders.len() {
            self.stop(index).await;
        }
    }

    /// No agent runs between two rounds: what keeps the machine busy then would have made the figures worse.
    async fn look_for_others(&mut self) {
        let busy = host::busy(Duration::from_secs(2)).await;
        if busy > QUIET {
            self.say(format!("other programs keep {:.0} % of this machine busy: times will be longer than they need be", busy * 100.0));
        }
        self.busy = self.busy.max(busy);
    }

    async fn rounds(&mut self, part: Part, services: usize) {
        let rounds = if part.repeats() { self.options.counts.rounds } else { 1 };
        for round in 0..rounds {
            self.look_for_others().await;
            self.say(format!("{}: round {} of {rounds}", part.name(), round + 1));
            self.round(part, services, round).await;
        }
    }

    async fn round(&mut self, part: Part, services: usize, round: usize) {
        match part {
            Part::Size => start::sizes(self),
            Part::Start => {
                for index in self.order(round) {
                    let result = start::cold(self, index).await;
                    self.note_failure(part, index, result).await;
                }
            }
            Part::Pods => pods::round(self, round).await,
            Part::Life => {
                for index in self.order(round) {
                    let result = life::measure(self, index, round).await;
                    self.note_failure(part, index, result).await;
                }
            }
            Part::Probes => {
                for index in self.order(round) {
                    let result = probes::measure(self, index).await;
                    self.note_failure(part, index, result).await;
                }
            }
            Part::Memory => {
                for index in self.order(round) {
                    let result = resident::measure(self, index).await;
                    self.note_failure(part, index, result).await;
                }
            }
            Part::Services => {
                for index in self.order(round) {
                    let result = changes::measure(self, index, services).await;
                    self.note_failure(part, index, result).await;
                }
            }
        }
    }

    /// Indexes of the contenders, forwards in even rounds and backwards in odd ones.
    pub fn order(&self, round: usize) -> Vec<usize> {
        let forwards = 0..self.contenders.len();
        if round.is_multiple_of(2) { forwards.collect() } else { forwards.rev().collect() }
    }

    /// Says what is being done, with the time since the start.
    pub fn say(&self, what: impl Display) {
        say(self.started, &what.to_string());
    }

    /// Writes a failure down and clears up after it.
    pub async fn note_failure(&mut self, part: Part, index: usize, result: Result<()>) {
        let Err(error) = result else { return };
        let who = self.contenders[index].who;
        let state = self.contenders[index].check().err().map(|error| format!("\n{error}")).unwrap_or_default();
        self.say(format!("{}: {} FAILED: {error}{state}", part.name(), who.name()));
        self.figures.fail(format!("{}: {}: {error}", part.name(), who.name()));
        self.stop(index).await;
        if let Err(error) = pods::forget(self, index).await {
            self.say(format!("the pods of {} stay: {error}", who.name()));
        }
    }

    /// Adds a sample and shows it.
    pub fn add(&mut self, series: figures::Series, who: Who, value: f64) {
        self.figures.add(series, who, value);
        self.say(format!("    {}: {} {}", who.name(), series, rows::unit(series).show(value)));
    }

    /// Ends an agent if it runs; one that does not want to is killed.
    pub async fn stop(&mut self, index: usize) {
        if let Err(error) = self.contenders[index].stop().await {
            self.say(format!("ending {}: {error}", self.contenders[index].who.name()));
        }
    }
}

fn say(started: Instant, what: &str) {
    println!("[{:6.1} s] {what}", started.elapsed().as_secs_f64());
}

async fn make_namespace(lab: &Lab, name: &str) -> Result<()> {
    let object = Namespace { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..Namespace::default() };
    Api::all(lab.client()).create(&PostParams::default(), &object).await.doing(|| format!("creating namespace {name}"))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(lab.client(), name);
    // Without it the API server takes no pods.
    lab.wait_for("the namespace's service account", PATIENCE, async || {
        accounts.get("default").await.map(drop).map_err(|error| error.to_string())
    })
    .await
}
