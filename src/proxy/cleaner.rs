//! Deletes stale UDP flows beside the programming of Services, which never waits for it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::conntrack::{Conntrack, UdpFlows};

/// The conntrack table may have hundreds of thousands of entries: reading it is worth collecting requests for this long.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes requests and carries them out together.
#[derive(Debug)]
pub struct Cleaner<C> {
    conntrack: C,
    requests: UnboundedReceiver<Vec<UdpFlows>>,
}

impl<C: Conntrack> Cleaner<C> {
    /// Nothing happens before [`Self::run`].
    pub fn new(conntrack: C, requests: UnboundedReceiver<Vec<UdpFlows>>) -> Self {
        Self { conntrack, requests }
    }

    /// Runs until nobody can send requests any more.
    pub async fn run(&mut self) {
        while let Some(first) = self.requests.recv().await {
            // Of several requests for one frontend the last one knows its endpoints.
            let mut latest: HashMap<_, UdpFlows> = first.into_iter().map(|f| (f.frontend, f)).collect();
            while let Ok(more) = self.requests.try_recv() {
                latest.extend(more.into_iter().map(|f| (f.frontend, f)));
            }
            match self.conntrack.delete_stale(latest.into_values().collect()).await {
                Ok(count) => debug!("deleted {count} stale UDP flows"),
                Err(error) => warn!("stale UDP flows of changed Services could not be deleted: {error}"),
            }
            sleep(PAUSE).await;
        }
    }
}
