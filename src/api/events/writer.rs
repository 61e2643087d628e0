//! The task that writes events: waits until the node has a moment for them, joins what is the same, sends two at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

use super::correlate::{Bucket, Correlator, Write};
use super::{EventRates, EventType, Record};
use crate::api::{Api, ErrorKind, Result};

/// Events of the start of a pod come within this time: it goes first, they follow together. While many pods start, each event takes CPU
/// from them, in the API server more than here, so events wait for the first moment in which none comes.
const QUIET: Duration = Duration::from_millis(200);
/// But not longer than this.
const LONGEST: Duration = Duration::from_secs(10);
/// A warning waits no longer than this: somebody may be looking for it.
const WARNING: Duration = Duration::from_millis(50);
const IN_FLIGHT: usize = 2;
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

pub async fn run(api: Arc<dyn Api>, node: String, rates: EventRates, mut records: mpsc::Receiver<Record>) {
    let mut correlator = Correlator::new(node);
    let failing = AtomicBool::new(false);
    let mut bucket = (rates.per_second > 0)
        .then(|| Bucket::new(f64::from(rates.burst.max(1)), Duration::from_secs(1) / rates.per_second, Instant::now()));
    while let Some(first) = records.recv().await {
        let mut batch: Vec<Write> = Vec::new();
        for record in collect(first, &mut records).await {
            if let Some(write) = correlator.observe(record, Instant::now()) {
                join(&mut batch, write);
            }
        }
        // The same event is at most once in a batch, so writes of a batch don't depend on each other.
        let mut paced = Vec::with_capacity(batch.len());
        for write in batch {
            let wait = bucket.as_mut().and_then(|bucket| bucket.take(Instant::now()).err());
            if let Some(wait) = wait {
                flush(&api, &failing, &mut paced).await;
                sleep(wait).await;
                let _ = bucket.as_mut().map(|bucket| bucket.take(Instant::now()));
            }
            paced.push(write);
        }
        flush(&api, &failing, &mut paced).await;
    }
}

/// A batch of records, the given one first.
async fn collect(first: Record, records: &mut mpsc::Receiver<Record>) -> Vec<Record> {
    let mut end = Instant::now() + LONGEST;
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(record) = next {
        if record.kind == EventType::Warning {
            end = end.min(Instant::now() + WARNING);
        }
        batch.push(record);
        let quiet = end.min(Instant::now() + QUIET);
        next = timeout_at(quiet, records.recv()).await.ok().flatten();
    }
    batch
}

async fn flush(api: &Arc<dyn Api>, failing: &AtomicBool, writes: &mut Vec<Write>) {
    stream::iter(writes.drain(..)).for_each_concurrent(IN_FLIGHT, |write| send(api.as_ref(), failing, write)).await;
}

fn join(batch: &mut Vec<Write>, write: Write) {
    match batch.iter_mut().find(|pending| pending.key == write.key) {
        Some(pending) => pending.event = write.event,
        None => batch.push(write),
    }
}

/// Writes one event; gives up after a few tries, or at once when the server refuses it. Says so once for each time of failure.
async fn send(api: &dyn Api, failing: &AtomicBool, mut write: Write) {
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=TRIES {
        let result = if write.again { patch(api, &write).await } else { api.create_event(&write.event).await.map(drop) };
        let error = match result {
            Ok(()) => return failing.store(false, Ordering::Relaxed),
            Err(error) => error,
        };
        match error.kind {
            ErrorKind::AlreadyExists => return, // the answer to an earlier try was lost
            // It expired (an hour after its last change by default): the repetition becomes a new one.
            ErrorKind::NotFound(_) if write.again => write.again = false,
            _ if !error.is_transient() => {
                debug!("event dropped: {error}");
                return;
            }
            _ if attempt == TRIES => {
                if !failing.swap(true, Ordering::Relaxed) {
                    warn!("events are dropped after {TRIES} tries each, until one can be written: {error}");
                }
            }
            _ => {
                sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

async fn patch(api: &dyn Api, write: &Write) -> Result<()> {
    let event = &write.event;
    let patch = json!({ "count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message });
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    api.patch_event(namespace, event.metadata.name.as_deref().unwrap_or_default(), patch).await.map(drop)
}
