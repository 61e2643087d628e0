//! Where a pod worker is in its life. It only ever goes forward: syncing → terminating → terminated → finished
//! (upstream: `pkg/kubelet/pod_workers.go`).

use std::borrow::Cow;
use std::time::Duration;

/// Why a pod goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its containers are done and its restart policy starts none again.
    Completed,
    /// Somebody deleted it: the object carries a deletion timestamp.
    Deleted,
    /// The object is gone from the API server, or never was known to this agent.
    Gone,
}

/// An end that the node decides on, whatever the containers do: rejected, evicted, preempted, out of time. The pod's phase will be `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// Grace period in place of the pod's own.
    pub grace: Option<Duration>,
    /// The condition DisruptionTarget with reason TerminationByKubelet goes with it, and this message.
    pub disruption: Option<Cow<'static, str>>,
    /// The pod has failed, however its containers end. Otherwise it may still have ended well.
    pub fails: bool,
    /// The pod never ran here: there is nothing to tell of containers.
    pub rejected: bool,
}

/// The stage of a pod worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Containers are started and kept running. Next: `Terminating`.
    Syncing,
    /// Containers are being stopped. Next: `Terminated`, once the runtime shows that none runs.
    Terminating {
        /// Why.
        cause: Cause,
        /// Grace period for the containers that still run. It can only shrink.
        grace: Duration,
    },
    /// No container runs; volumes and cgroup are on their way out. Next: `Finished`, once the API object is gone too.
    Terminated {
        /// Why.
        cause: Cause,
        /// Volumes are unmounted and the cgroup is removed.
        released: bool,
    },
    /// Nothing of the pod is left on the node. The worker ends.
    Finished,
}

/// What moves a worker on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The pod shall go down.
    Terminate {
        /// Why.
        cause: Cause,
        /// Grace period asked for; at least a second is given (`pod_workers.go`, calculateEffectiveGracePeriod).
        grace: Duration,
    },
    /// The runtime shows that no container runs and no sandbox is ready.
    Stopped,
    /// Volumes are unmounted and the cgroup is removed.
    Released,
    /// The containers' and sandboxes' records are removed from the runtime.
    Removed,
}

impl Stage {
    /// The next stage. Events that don't fit the stage leave it as it is.
    pub fn step(self, event: Event) -> Self {
        match (self, event) {
            (Self::Syncing, Event::Terminate { cause, grace }) => Self::Terminating { cause, grace: grace.max(MIN_GRACE) },
            (Self::Terminating { cause: old, grace: before }, Event::Terminate { cause, grace }) => {
                Self::Terminating { cause: later(old, cause), grace: before.min(grace.max(MIN_GRACE)) }
            }
            (Self::Terminating { cause, .. }, Event::Stopped) => Self::Terminated { cause, released: false },
            (Self::Terminated { cause, .. }, Event::Released) => Self::Terminated { cause, released: true },
            (Self::Terminated { cause: old, released }, Event::Terminate { cause, .. }) => {
                Self::Terminated { cause: later(old, cause), released }
            }
            (Self::Terminated { cause: Cause::Gone, released: true }, Event::Removed) => Self::Finished,
            (stage, _) => stage,
        }
    }

    /// Why the pod goes down, if it does.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::Terminating { cause, .. } | Self::Terminated { cause, .. } => Some(cause),
            Self::Syncing | Self::Finished => None,
        }
    }
}

/// The shortest grace period of a pod.
const MIN_GRACE: Duration = Duration::from_secs(1);

/// A completed pod can be deleted, and a deleted one's object goes in the end; never the other way round.
fn later(old: Cause, new: Cause) -> Cause {
    let rank = |c| match c {
        Cause::Completed => 0,
        Cause::Deleted => 1,
        Cause::Gone => 2,
    };
    if rank(new) > rank(old) { new } else { old }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELETE: Event = Event::Terminate { cause: Cause::Deleted, grace: Duration::from_secs(30) };
    const GONE: Event = Event::Terminate { cause: Cause::Gone, grace: Duration::from_secs(30) };

    #[test]
    fn a_deleted_pod_goes_down_step_by_step() {
        let stage = Stage::Syncing.step(DELETE);
        assert_eq!(stage, Stage::Terminating { cause: Cause::Deleted, grace: Duration::from_secs(30) });
        let stage = stage.step(Event::Stopped);
        assert_eq!(stage, Stage::Terminated { cause: Cause::Deleted, released: false });
        let stage = stage.step(Event::Released);
        assert_eq!(stage.step(Event::Removed), stage, "records stay until the object is gone");
        assert_eq!(stage.step(GONE).step(Event::Removed), Stage::Finished);
    }

    #[test]
    fn grace_only_shrinks_and_is_at_least_a_second() {
        let grace = |s, stage: Stage| stage.step(Event::Terminate { cause: Cause::Deleted, grace: Duration::from_secs(s) });
        let of = |stage| match stage {
            Stage::Terminating { grace, .. } => grace.as_secs(),
            other => panic!("{other:?}"),
        };
        let stage = grace(30, Stage::Syncing);
        assert_eq!(of(grace(60, stage)), 30);
        assert_eq!(of(grace(5, stage)), 5);
        assert_eq!(of(grace(0, stage)), 1);
    }

    #[test]
    fn never_goes_back() {
        let terminated = Stage::Syncing.step(DELETE).step(Event::Stopped);
        assert_eq!(terminated.step(DELETE), terminated);
        assert_eq!(terminated.step(Event::Stopped), terminated);
        assert_eq!(Stage::Finished.step(DELETE), Stage::Finished);
        let gone = Stage::Syncing.step(GONE);
        assert_eq!(gone.step(DELETE).cause(), Some(Cause::Gone));
        assert_eq!(Stage::Syncing.step(Event::Stopped), Stage::Syncing);
    }
}
