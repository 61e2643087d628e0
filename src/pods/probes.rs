//! Probes: what they say about a pod's containers, an input of its plan and its status.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::ContainerId;
use crate::runtime::Container;

/// Which probe has said that a container must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadly {
    /// livenessProbe.
    Liveness,
    /// startupProbe.
    Startup,
}

/// What probes say about one instance of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The startup probe has succeeded, or there is none.
    pub started: bool,
    /// The readiness probe succeeds, or there is none. Never true before `started`.
    pub ready: bool,
    /// A probe has failed so often that the instance is to be stopped, with the probe's own grace period if it has one.
    pub failed: Option<(Deadly, Option<Duration>)>,
}

impl Verdict {
    /// Of an instance that nobody probes.
    pub const UNPROBED: Self = Self { started: true, ready: true, failed: None };
}

/// What probes say about the instances of a pod's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts(BTreeMap<ContainerId, Verdict>);

impl Verdicts {
    /// About an instance that runs.
    pub fn of(&self, record: &Container) -> Verdict {
        self.0.get(&record.id).copied().unwrap_or(Verdict::UNPROBED)
    }

    /// Sets what is said about an instance.
    pub fn set(&mut self, id: ContainerId, verdict: Verdict) {
        self.0.insert(id, verdict);
    }

    /// Forgets instances that `keep` doesn't name.
    pub fn retain(&mut self, keep: impl Fn(&ContainerId) -> bool) {
        self.0.retain(|id, _| keep(id));
    }
}
