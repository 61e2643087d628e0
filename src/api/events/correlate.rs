//! Which events become one (pure): counts repetitions, joins floods of similar ones, silences objects that never stop.
//!
//! Numbers and keys are those of `k8s.io/client-go/tools/record/events_cache.go`.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::time::Instant;

use super::Record;

/// Events of one object in a row before it is held to one every [`SPAM_INTERVAL`].
const SPAM_BURST: f64 = 25.0;
const SPAM_INTERVAL: Duration = Duration::from_secs(300);
/// Different messages of one reason and object, within [`MEMORY`], before they are joined.
const SIMILAR: usize = 10;
/// How long an event is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Things remembered at a time, of each sort.
const CAPACITY: usize = 512;

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Tells repetitions of the same event.
    pub key: u64,
    /// The event with its count and times.
    pub event: Event,
    /// It was written before: only count, message and last time are new.
    pub again: bool,
}

struct Seen {
    event: Event,
    used: Instant,
}

struct Messages {
    hashes: HashSet<u64>,
    used: Instant,
}

/// A token bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    tokens: f64,
    burst: f64,
    interval: Duration,
    used: Instant,
}

impl Bucket {
    /// Full at first, gains one token every `interval`.
    pub fn new(burst: f64, interval: Duration, now: Instant) -> Self {
        Self { tokens: burst, burst, interval, used: now }
    }

    /// Takes a token, or says how long to wait for one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let gained = now.saturating_duration_since(self.used).as_secs_f64() / self.interval.as_secs_f64();
        self.tokens = (self.tokens + gained).min(self.burst);
        self.used = now;
        if self.tokens < 1.0 {
            return Err(self.interval.mul_f64(1.0 - self.tokens));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

/// Remembers recent events.
pub struct Correlator {
    node: String,
    hasher: RandomState,
    seen: HashMap<u64, Seen>,
    similar: HashMap<u64, Messages>,
    spam: HashMap<u64, Bucket>,
}

impl Correlator {
    /// `node` becomes the events' `source.host`.
    pub fn new(node: String) -> Self {
        Self { node, hasher: RandomState::new(), seen: HashMap::new(), similar: HashMap::new(), spam: HashMap::new() }
    }

    /// What to write for a record; `None` when its object has said too much.
    pub fn observe(&mut self, record: Record, now: Instant) -> Option<Write> {
        self.forget(now);
        let o = &record.object;
        let object = self.hash((&o.kind, &o.namespace, &o.name, &o.uid));
        let group = self.hash((object, record.kind, &record.reason));
        let message = self.hash(&record.message);
        let known = self.similar.entry(group).or_insert_with(|| Messages { hashes: HashSet::new(), used: now });
        known.used = now;
        known.hashes.insert(message);
        let flood = known.hashes.len() > SIMILAR;
        if flood {
            known.hashes = std::iter::once(message).chain(known.hashes.iter().copied()).take(SIMILAR + 1).collect();
        }
        let key = if flood { group } else { self.hash((group, &o.field_path, message)) };
        let bucket = self.spam.entry(object).or_insert_with(|| Bucket::new(SPAM_BURST, SPAM_INTERVAL, now));
        bucket.take(now).ok()?;

        let text = if flood { format!("(combined from similar events): {}", record.message) } else { record.message.clone() };
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.used = now;
            seen.event.count = seen.event.count.map(|n| n.saturating_add(1));
            seen.event.last_timestamp = Some(Time(record.at));
            seen.event.message = Some(text);
            return Some(Write { key, event: seen.event.clone(), again: true });
        }
        let event = self.event(record, text);
        self.seen.insert(key, Seen { event: event.clone(), used: now });
        Some(Write { key, event, again: false })
    }

    fn event(&self, record: Record, message: String) -> Event {
        let object = record.object;
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let time = Some(Time(record.at));
        Event {
            metadata: ObjectMeta {
                // Unique for the object: two events of one object never fall into the same nanosecond.
                name: Some(format!("{}.{:x}", object.name.as_deref().unwrap_or_default(), record.at.as_nanosecond())),
                namespace: Some(namespace),
                annotations: (!record.annotations.is_empty()).then_some(record.annotations),
                ..ObjectMeta::default()
            },
            involved_object: object,
            type_: Some(record.kind.as_str().to_owned()),
            reason: Some(record.reason.to_string()),
            message: Some(message),
            source: Some(EventSource { component: Some("kubelet".into()), host: Some(self.node.clone()) }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(self.node.clone()),
            first_timestamp: time.clone(),
            last_timestamp: time,
            count: Some(1),
            ..Event::default()
        }
    }

    fn hash(&self, value: impl Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    fn forget(&mut self, now: Instant) {
        let old = |used: Instant| now.saturating_duration_since(used) > MEMORY;
        if self.seen.len() >= CAPACITY {
            self.seen.retain(|_, seen| !old(seen.used));
            if self.seen.len() >= CAPACITY {
                self.seen.clear(); // repetitions become new events: better than to hold more
            }
        }
        self.similar.retain(|_, messages| !old(messages.used));
        if self.similar.len() >= CAPACITY {
            self.similar.clear();
        }
        if self.spam.len() >= CAPACITY {
            self.spam.retain(|_, bucket| !old(bucket.used));
            if self.spam.len() >= CAPACITY {
                self.spam.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::super::EventType;
    use super::*;

    fn record(name: &str, message: &str) -> Record {
        let object = ObjectReference { name: Some(name.into()), namespace: Some("ns".into()), ..ObjectReference::default() };
        Record::new(object, EventType::Normal, "Pulled".into(), message.into())
    }

    #[tokio::test(start_paused = true)]
    async fn repetitions_are_counted() {
        let mut c = Correlator::new("node-a".into());
        let first = c.observe(record("web", "m"), Instant::now()).expect("written");
        let second = c.observe(record("web", "m"), Instant::now()).expect("written");
        let other = c.observe(record("web", "other"), Instant::now()).expect("written");
        assert!(!first.again && second.again && !other.again);
        assert_eq!(first.event.metadata.name, second.event.metadata.name);
        assert_eq!((first.event.count, second.event.count, other.event.count), (Some(1), Some(2), Some(1)));
        let source = first.event.source.expect("source");
        assert_eq!((source.component.as_deref(), source.host.as_deref()), (Some("kubelet"), Some("node-a")));
    }

    #[tokio::test(start_paused = true)]
    async fn many_messages_of_one_reason_become_one_event() {
        let mut c = Correlator::new("n".into());
        let all: Vec<_> = (0..14).filter_map(|i| c.observe(record("web", &format!("try {i}")), Instant::now())).collect();
        assert_eq!(all.len(), 14);
        assert!(all[..10].iter().all(|w| !w.again));
        assert!(!all[10].again && all[11..].iter().all(|w| w.again));
        assert_eq!(all[13].event.message.as_deref(), Some("(combined from similar events): try 13"));
        assert_eq!(all[13].event.count, Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spamming_object_is_silenced_alone() {
        let mut c = Correlator::new("n".into());
        let passed = (0..100).filter(|_| c.observe(record("loud", "m"), Instant::now()).is_some()).count();
        assert_eq!(passed, 25);
        assert!(c.observe(record("quiet", "m"), Instant::now()).is_some());
        tokio::time::advance(SPAM_INTERVAL).await;
        assert!(c.observe(record("loud", "m"), Instant::now()).is_some());
        assert!(c.observe(record("loud", "m"), Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let mut c = Correlator::new("n".into());
        for i in 0..5000 {
            c.observe(record(&format!("pod-{i}"), "m"), Instant::now());
        }
        assert!(c.seen.len() <= CAPACITY && c.similar.len() <= CAPACITY && c.spam.len() <= CAPACITY);
    }
}
