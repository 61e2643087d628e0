//! Objects of one kind and those who watch them.

use std::collections::BTreeMap;

use futures::stream::{Stream, unfold};
use tokio::sync::mpsc;

use crate::api::WatchEvent;

/// Objects by key, with their watchers.
pub struct Store<K, T> {
    objects: BTreeMap<K, T>,
    watchers: Vec<mpsc::UnboundedSender<WatchEvent<T>>>,
    away: bool,
}

impl<K, T> Default for Store<K, T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), watchers: Vec::new(), away: false }
    }
}

impl<K: Ord, T: Clone + Send + 'static> Store<K, T> {
    pub fn get(&self, key: &K) -> Option<&T> {
        self.objects.get(key)
    }

    pub fn all(&self) -> Vec<T> {
        self.objects.values().cloned().collect()
    }

    pub fn put(&mut self, key: K, object: T) {
        self.tell(|| WatchEvent::Applied(object.clone()));
        self.objects.insert(key, object);
    }

    pub fn remove(&mut self, key: &K) {
        if let Some(object) = self.objects.remove(key) {
            self.tell(|| WatchEvent::Deleted(object.clone()));
        }
    }

    pub fn tell(&mut self, event: impl Fn() -> WatchEvent<T>) {
        if !self.away {
            self.watchers.retain(|watcher| watcher.send(event()).is_ok());
        }
    }

    /// Watchers hear nothing while the server is away, and everything at once when it is back.
    pub fn set_away(&mut self, away: bool) {
        if std::mem::replace(&mut self.away, away) && !away {
            let all = self.all();
            self.tell(|| WatchEvent::Snapshot(all.clone()));
        }
    }

    /// A snapshot, then every change.
    pub fn watch(&mut self) -> impl Stream<Item = WatchEvent<T>> + Send + use<K, T> {
        let (sender, receiver) = mpsc::unbounded_channel();
        if !self.away {
            let _ = sender.send(WatchEvent::Snapshot(self.all()));
        }
        self.watchers.push(sender);
        unfold(receiver, |mut receiver| async { receiver.recv().await.map(|event| (event, receiver)) })
    }
}
