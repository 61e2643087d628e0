//! Why the node is not ready, besides the runtime's own word: each room may say so for itself.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The reasons that other rooms gave, by the room's own key. Clones share them. The node's condition shows each text as it is.
#[derive(Debug, Clone, Default)]
pub struct NotReady(watch::Sender<BTreeMap<&'static str, String>>);

impl NotReady {
    /// Says that the node is not ready: `set("pleg", "PLEG is not healthy: …")`. Another text under the same key replaces the first
    /// one. Each new text is reported at once, so a text with a running clock in it should be made anew rarely.
    pub fn set(&self, key: &'static str, why: impl Into<String>) {
        let why = why.into();
        self.0.send_if_modified(|reasons| reasons.insert(key, why.clone()).as_ref() != Some(&why));
    }

    /// Takes the reason back.
    pub fn clear(&self, key: &'static str) {
        self.0.send_if_modified(|reasons| reasons.remove(key).is_some());
    }

    /// Told of each change.
    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeMap<&'static str, String>> {
        self.0.subscribe()
    }

    /// The texts, in the order of their keys.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.0.borrow().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let not_ready = NotReady::default();
        let mut seen = not_ready.subscribe();
        not_ready.clear("pleg");
        assert!(!seen.has_changed().unwrap());
        not_ready.set("pleg", "PLEG is not healthy");
        not_ready.clone().set("disk", "full");
        seen.mark_unchanged();
        not_ready.set("disk", "full");
        assert_eq!((seen.has_changed().unwrap(), not_ready.reasons()), (false, vec!["full".to_owned(), "PLEG is not healthy".to_owned()]));
        not_ready.clear("disk");
        assert_eq!((seen.has_changed().unwrap(), not_ready.reasons().len()), (true, 1));
    }
}
