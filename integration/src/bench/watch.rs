//! Watches that know when each event arrived.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use kube::Resource;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::error::{Doing as _, Error, Result};

/// An open watch. Its events are taken from the connection as they arrive, whatever the measuring task does meanwhile.
pub struct Watch<K> {
    events: UnboundedReceiver<(Instant, WatchEvent<K>)>,
    task: JoinHandle<()>,
}

impl<K> Drop for Watch<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Watches the objects that a field selector matches (all with an empty one), from now on, for 290 s.
    pub async fn open(api: &Api<K>, fields: &str) -> Result<Self> {
        let doing = || format!("watching objects of kind {}", K::kind(&()));
        let version = api.list_metadata(&ListParams::default().limit(1).fields(fields)).await.doing(doing)?.metadata.resource_version;
        let params = WatchParams::default().fields(fields);
        let mut stream = Box::pin(api.watch(&params, &version.unwrap_or_default()).await.doing(doing)?);
        let (sender, events) = unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(Ok(event)) = stream.next().await {
                if sender.send((Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { events, task })
    }

    /// When the first event arrived that `wanted` says yes to. Events before it are used up.
    pub async fn until(&mut self, what: &str, patience: Duration, mut wanted: impl FnMut(&WatchEvent<K>) -> bool) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.events.recv()).await {
                Ok(Some((at, event))) if wanted(&event) => return Ok(at),
                Ok(Some((_, WatchEvent::Error(status)))) => {
                    return Err(Error::Other(format!("waiting for {what}: the watch says {}", status.message)));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::Other(format!("waiting for {what}: the API server ended the watch"))),
                Err(_) => return Err(Error::Other(format!("waited {patience:?} for {what}"))),
            }
        }
    }
}
