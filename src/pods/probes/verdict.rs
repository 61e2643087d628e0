//! What probes say about a pod's containers, an input of its plan and its status.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Probe};

use super::Kind;
use crate::model::ContainerId;

/// Which probe has said that a container must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadly {
    /// livenessProbe.
    Liveness,
    /// startupProbe.
    Startup,
}

/// What is to be believed of one running instance of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The startup probe has succeeded, or there is none.
    pub started: bool,
    /// The readiness probe succeeds, or there is none. Never true before `started`.
    pub ready: bool,
    /// A probe has failed so often that the instance is to be stopped, with the probe's own grace period if it has one.
    pub failed: Option<(Deadly, Option<Duration>)>,
}

/// What the API was told of the same instance before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    /// `started`.
    pub started: bool,
    /// `ready`.
    pub ready: bool,
}

/// The results of one instance's probes; `None` for those that have not said anything yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Results([Option<bool>; 3]);

impl Results {
    fn of(&self, kind: Kind) -> Option<bool> {
        self.0[kind as usize]
    }

    /// What follows from them for a running instance. Where a probe has not spoken, what the API was told before holds, so that
    /// nothing changes when the agent starts again (upstream: `prober_manager.go`, `UpdatePodStatus`). On the way down startup
    /// and liveness don't count any more.
    pub fn verdict(&self, spec: &Spec, before: Before, going_down: bool) -> Verdict {
        let started = match self.of(Kind::Startup) {
            _ if going_down || spec.startup_probe.is_none() => true,
            Some(success) => success,
            None => before.started,
        };
        let ready = match self.of(Kind::Readiness) {
            _ if spec.readiness_probe.is_none() => true,
            Some(success) => success,
            None => before.ready,
        };
        let failed = |kind: Kind, deadly| (self.of(kind) == Some(false)).then(|| (deadly, kind.of(spec).and_then(own_grace)));
        let failed = failed(Kind::Liveness, Deadly::Liveness).or_else(|| failed(Kind::Startup, Deadly::Startup));
        Verdict { started, ready: started && ready, failed: failed.filter(|_| !going_down) }
    }
}

/// A probe's own grace period.
fn own_grace(probe: &Probe) -> Option<Duration> {
    probe.termination_grace_period_seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// The results of a pod's instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts(BTreeMap<ContainerId, Results>);

impl Verdicts {
    /// About one instance.
    pub fn of(&self, id: &ContainerId) -> Results {
        self.0.get(id).copied().unwrap_or_default()
    }

    /// Takes a result in.
    pub fn set(&mut self, id: ContainerId, kind: Kind, success: bool) {
        self.0.entry(id).or_default().0[kind as usize] = Some(success);
    }

    /// Forgets instances that `keep` doesn't name.
    pub fn retain(&mut self, keep: impl Fn(&ContainerId) -> bool) {
        self.0.retain(|id, _| keep(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kinds: &[Kind]) -> Spec {
        let probe = |kind| kinds.contains(&kind).then(|| Probe { termination_grace_period_seconds: Some(5), ..Default::default() });
        Spec {
            startup_probe: probe(Kind::Startup),
            liveness_probe: probe(Kind::Liveness),
            readiness_probe: probe(Kind::Readiness),
            ..Default::default()
        }
    }

    fn results(list: &[(Kind, bool)]) -> Results {
        let mut verdicts = Verdicts::default();
        list.iter().for_each(|(kind, success)| verdicts.set("c".into(), *kind, *success));
        verdicts.of(&"c".into())
    }

    #[test]
    fn table() {
        use Kind::{Liveness, Readiness, Startup};
        let (new, was) = (Before::default(), Before { started: true, ready: true });
        for (name, kinds, said, before, want) in [
            ("no probes", &[][..], &[][..], new, (true, true)),
            ("readiness has not spoken", &[Readiness], &[], new, (true, false)),
            ("readiness has not spoken since a restart of the agent", &[Readiness], &[], was, (true, true)),
            ("readiness fails", &[Readiness], &[(Readiness, false)], was, (true, false)),
            ("readiness succeeds", &[Readiness], &[(Readiness, true)], new, (true, true)),
            ("startup has not spoken", &[Startup], &[], new, (false, false)),
            ("startup has not spoken since a restart of the agent", &[Startup], &[], was, (true, true)),
            ("startup holds readiness back", &[Startup, Readiness], &[(Readiness, true)], new, (false, false)),
            ("startup succeeds", &[Startup, Readiness], &[(Startup, true)], new, (true, false)),
            ("liveness says nothing about readiness", &[Liveness], &[(Liveness, false)], new, (true, true)),
        ] {
            let verdict = results(said).verdict(&spec(kinds), before, false);
            assert_eq!((verdict.started, verdict.ready), want, "{name}");
        }
    }

    #[test]
    fn a_failure_ends_the_container_with_the_probes_grace_unless_it_ends_anyway() {
        let spec = spec(&[Kind::Startup, Kind::Liveness]);
        let grace = Some(Duration::from_secs(5));
        for (kind, deadly) in [(Kind::Liveness, Deadly::Liveness), (Kind::Startup, Deadly::Startup)] {
            let said = results(&[(kind, false)]);
            assert_eq!(said.verdict(&spec, Before::default(), false).failed, Some((deadly, grace)));
            assert_eq!(said.verdict(&spec, Before::default(), true).failed, None);
        }
        assert_eq!(results(&[(Kind::Readiness, false)]).verdict(&spec, Before::default(), false).failed, None);
    }

    #[test]
    fn on_the_way_down_a_container_counts_as_started() {
        let verdict = results(&[(Kind::Startup, false)]).verdict(&spec(&[Kind::Startup]), Before::default(), true);
        assert!(verdict.started);
    }
}
