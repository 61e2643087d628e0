//! Whether the runtime still tells what runs: without that no pod can be looked after, and the node must say so
//! (upstream: `pkg/kubelet/pleg/generic.go`, Healthy).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::node::NotReady;

/// So long may lists fail (`relistThreshold`).
const THRESHOLD: Duration = Duration::from_secs(180);
/// As upstream says it, without the part that would change with each try.
const UNHEALTHY: &str = "PLEG is not healthy: pleg was last seen active 3m0s ago; threshold is 3m0s";
const KEY: &str = "pleg";

/// When lists began to fail.
#[derive(Debug, Default)]
pub struct Pleg {
    node: NotReady,
    failing: Mutex<Option<Instant>>,
}

impl Pleg {
    /// Tells `node`.
    pub fn new(node: NotReady) -> Self {
        Self { node, failing: Mutex::default() }
    }

    /// The runtime has told all that runs, or has not.
    pub fn listed(&self, well: bool) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if well {
            *failing = None;
            self.node.clear(KEY);
        } else if failing.get_or_insert_with(Instant::now).elapsed() >= THRESHOLD {
            self.node.set(KEY, UNHEALTHY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_minutes_without_a_list_make_the_node_not_ready_until_the_next() {
        let node = NotReady::default();
        let pleg = Pleg::new(node.clone());
        pleg.listed(false);
        tokio::time::advance(THRESHOLD - Duration::from_secs(1)).await;
        pleg.listed(false);
        assert!(node.reasons().is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        pleg.listed(false);
        assert_eq!(node.reasons(), [UNHEALTHY]);
        pleg.listed(true);
        assert!(node.reasons().is_empty());
        pleg.listed(false);
        assert!(node.reasons().is_empty(), "counted anew");
    }
}
