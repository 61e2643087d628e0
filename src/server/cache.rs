//! A bounded map whose entries expire.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Answers of the API server, kept for a while. Looking an entry up does not prolong its life.
#[derive(Debug)]
pub struct Cache<V> {
    capacity: usize,
    entries: HashMap<String, (V, Instant)>,
}

impl<V: Clone> Cache<V> {
    /// An empty cache for `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new() }
    }

    /// The value, unless it has expired.
    pub fn get(&self, key: &str, now: Instant) -> Option<V> {
        self.entries.get(key).filter(|(_, end)| *end > now).map(|(value, _)| value.clone())
    }

    /// Keeps a value for `ttl`. When full, expired entries go, and if there is none, the one that would expire first.
    pub fn put(&mut self, key: String, value: V, ttl: Duration, now: Instant) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            self.entries.retain(|_, (_, end)| *end > now);
        }
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            let first = self.entries.iter().min_by_key(|(_, (_, end))| *end).map(|(key, _)| key.clone());
            first.and_then(|key| self.entries.remove(&key));
        }
        self.entries.insert(key, (value, now + ttl));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_and_stays_small() {
        let now = Instant::now();
        let at = |s| now + Duration::from_secs(s);
        let mut cache = Cache::new(2);
        cache.put("a".into(), 1, Duration::from_secs(10), now);
        cache.put("b".into(), 2, Duration::from_secs(20), now);
        assert_eq!(cache.get("a", at(9)), Some(1));
        assert_eq!(cache.get("a", at(10)), None);
        cache.put("a".into(), 3, Duration::from_secs(30), now);
        assert_eq!((cache.get("a", at(10)), cache.get("b", at(10))), (Some(3), Some(2)));
        cache.put("c".into(), 4, Duration::from_secs(30), now);
        assert_eq!((cache.get("a", now), cache.get("b", now), cache.get("c", now)), (Some(3), None, Some(4)));
        cache.put("d".into(), 5, Duration::from_secs(1), at(60));
        assert_eq!(cache.entries.len(), 1);
    }
}
