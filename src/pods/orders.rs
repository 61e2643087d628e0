//! Ends of pods that other rooms decide on, on their way to the manager, which alone knows the workers.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::stage::End;
use crate::model::PodUid;

/// What was ordered and not done yet.
#[derive(Default)]
pub struct Orders {
    waiting: Mutex<Vec<(PodUid, End)>>,
    arrived: Notify,
}

impl Orders {
    /// The pod shall end, if it is still there.
    pub fn end(&self, uid: PodUid, end: End) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((uid, end));
        self.arrived.notify_one();
    }

    /// Ends when there is something to take. One reader only. May be dropped at any time.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes what is there.
    pub fn take(&self) -> Vec<(PodUid, End)> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
