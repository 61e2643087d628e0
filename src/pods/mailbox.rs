//! What a worker is told, coalesced: a hundred updates that arrive while it is busy are one when it looks.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

use super::probes::Kind;
use super::resize::{Pending, Resources};
use super::stage::End;
use crate::model::ContainerId;

/// Letters to one worker.
#[derive(Default)]
pub struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Notify,
}

/// What came since the last time.
#[derive(Default, Debug)]
pub struct Letters {
    /// The newest object.
    pub desired: Option<Box<Pod>>,
    /// The object is gone from the API server. Stands above `desired`.
    pub gone: bool,
    /// The runtime has news of the pod.
    pub look: bool,
    /// Resources that were allocated to the pod since its object came.
    pub granted: Option<Resources>,
    /// What it asks for and does not get now; `None` inside if there is nothing.
    pub pending: Option<Option<Pending>>,
    /// The mirror of a static pod.
    pub mirror: Option<Box<Pod>>,
    /// What probes have come to, in order.
    pub probed: Vec<(ContainerId, Kind, bool)>,
    /// The node ends the pod. The first reason stands.
    pub end: Option<End>,
}

impl Mailbox {
    /// The object as it is now.
    pub fn desired(&self, pod: Pod) {
        self.put(|l| l.desired = Some(Box::new(pod)));
    }

    /// The object is gone.
    pub fn gone(&self) {
        self.put(|l| l.gone = true);
    }

    /// The runtime has news.
    pub fn look(&self) {
        self.put(|l| l.look = true);
    }

    /// The node ends the pod.
    pub fn end(&self, end: End) {
        self.put(|l| l.end = l.end.take().or(Some(end)));
    }

    /// The object as it is now, with the resources that are allocated, and why it gets no others.
    pub fn placed(&self, pod: Pod, pending: Option<Pending>) {
        self.put(|l| (l.desired, l.granted, l.pending) = (Some(Box::new(pod)), None, Some(pending)));
    }

    /// Resources are allocated to it now.
    pub fn granted(&self, resources: Resources) {
        self.put(|l| (l.granted, l.pending) = (Some(resources), Some(None)));
    }

    /// Why it does not get what it asks for.
    pub fn pending(&self, pending: Pending) {
        self.put(|l| l.pending = Some(Some(pending)));
    }

    /// The mirror of a static pod as it is now.
    pub fn mirror(&self, pod: Pod) {
        self.put(|l| l.mirror = Some(Box::new(pod)));
    }

    /// A probe of an instance has come to something new.
    pub fn probed(&self, id: ContainerId, kind: Kind, success: bool) {
        self.put(|l| l.probed.push((id, kind, success)));
    }

    fn put(&self, write: impl FnOnce(&mut Letters)) {
        write(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }

    /// Takes what is there, which may be nothing.
    pub fn take(&self) -> Letters {
        std::mem::take(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for letters. One reader only. May be dropped at any time.
    pub async fn wait(&self) {
        self.arrived.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_letters_are_one() {
        let mailbox = Mailbox::default();
        for generation in 0..5 {
            let mut pod = Pod::default();
            pod.metadata.generation = Some(generation);
            mailbox.desired(pod);
        }
        mailbox.look();
        mailbox.wait().await;
        let letters = mailbox.take();
        assert_eq!(letters.desired.and_then(|p| p.metadata.generation), Some(4));
        assert!(letters.look && !letters.gone);
        assert!(mailbox.take().desired.is_none());
    }
}
