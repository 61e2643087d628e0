//! ConfigMaps and Secrets, read once for all pods that use them.
//!
//! In: names. Out: shared objects. Owns: what was read lately. 110 pods that share `kube-root-ca.crt` cost one GET a minute, and
//! requests for one object at the same time are one GET. Objects that nobody asks for leave the memory again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tokio::time::Instant;

use super::authorizer;
use crate::api::{Api, Result};

/// How old a copy may be for a pod that starts: what existed when the pod was made must be seen, and one GET serves a whole Deployment.
pub const FRESH: Duration = Duration::from_secs(1);
/// How old a copy may be for a pod that runs.
pub const TTL: Duration = Duration::from_secs(60);
/// How long to leave the API server alone about an object after it gave no answer.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Unused objects leave the memory after this; longer than the time between two refreshes of one pod.
const UNUSED: Duration = Duration::from_secs(180);

/// A kind of object that this cache holds.
trait Stored: Sized + Send + Sync + 'static {
    fn get(api: Arc<dyn Api>, key: Key) -> BoxFuture<'static, Result<Self>>;
    /// Drops what no pod can see.
    fn slim(self) -> Self;
    fn immutable(&self) -> bool;
    fn table(tables: &mut Tables) -> &mut Table<Self>;
}

/// Namespace and name.
type Key = Arc<(String, String)>;
type Flight<T> = BoxFuture<'static, Result<Arc<T>>>;
type Table<T> = HashMap<Key, Entry<T>>;

struct Entry<T> {
    /// The object, and when it was asked for: it is at least as new as that.
    value: Option<(Arc<T>, Instant)>,
    /// A GET that is under way. It ends early when nobody waits for it any more.
    flight: Option<(WeakShared<Flight<T>>, Instant)>,
    failed: Option<Instant>,
    used: Instant,
}

#[derive(Default)]
struct Tables {
    config_maps: Table<ConfigMap>,
    secrets: Table<Secret>,
    sweeping: bool,
}

struct Inner {
    api: Arc<dyn Api>,
    tables: Mutex<Tables>,
}

/// The cache. Clones share one memory.
#[derive(Clone)]
pub struct ObjectCache {
    inner: Arc<Inner>,
}

impl ObjectCache {
    /// An empty cache.
    pub fn new(api: Arc<dyn Api>) -> Self {
        Self { inner: Arc::new(Inner { api, tables: Mutex::default() }) }
    }

    /// A ConfigMap that is at most `max_age` old: [`FRESH`] for containers that start, [`TTL`] for those that run.
    ///
    /// While the API server gives no answer, an older copy is better than none. That an object does not exist is never remembered.
    pub async fn config_map(&self, namespace: &str, name: &str, max_age: Duration) -> Result<Arc<ConfigMap>> {
        self.find(namespace, name, max_age).await
    }

    /// The same for a Secret.
    pub async fn secret(&self, namespace: &str, name: &str, max_age: Duration) -> Result<Arc<Secret>> {
        self.find(namespace, name, max_age).await
    }

    async fn find<T: Stored>(&self, namespace: &str, name: &str, max_age: Duration) -> Result<Arc<T>> {
        let key: Key = Arc::new((namespace.to_owned(), name.to_owned()));
        let (flight, started) = match self.look_up::<T>(&key, max_age) {
            Found::Value(value) => return Ok(value),
            Found::Flight(flight, started) => (flight, started),
        };
        let result = flight.await;
        let mut tables = self.inner.lock();
        // The sweep keeps entries that were used lately, so this one is still there.
        let Some(entry) = T::table(&mut tables).get_mut(&key) else { return result };
        match &result {
            Ok(value) if entry.value.as_ref().is_none_or(|(_, at)| *at < started) => {
                entry.value = Some((value.clone(), started));
                entry.failed = None;
            }
            Err(error) if error.is_transient() => {
                entry.failed = Some(Instant::now());
                if let Some((old, _)) = &entry.value {
                    return Ok(old.clone());
                }
            }
            Err(_) => entry.value = None,
            Ok(_) => {}
        }
        result
    }

    fn look_up<T: Stored>(&self, key: &Key, max_age: Duration) -> Found<T> {
        let now = Instant::now();
        let mut tables = self.inner.lock();
        if !std::mem::replace(&mut tables.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.inner)));
        }
        let table = T::table(&mut tables);
        let entry = table.entry(key.clone()).or_insert(Entry { value: None, flight: None, failed: None, used: now });
        entry.used = now;
        if let Some((value, at)) = &entry.value {
            let resting = entry.failed.is_some_and(|f| now - f < AFTER_FAILURE);
            // What can't change is only read anew for pods that start: it may have been deleted and made again.
            let good_for = if value.immutable() && max_age < TTL { TTL } else { max_age };
            let forever = max_age >= TTL && (value.immutable() || resting);
            if forever || now - *at <= good_for {
                return Found::Value(value.clone());
            }
        }
        if let Some((flight, started)) = &entry.flight
            && now - *started <= max_age
            && let Some(flight) = flight.upgrade()
        {
            return Found::Flight(flight, *started);
        }
        let (api, key) = (self.inner.api.clone(), key.clone());
        let get = move || T::get(api.clone(), key.clone());
        let flight = async move { authorizer::once_it_knows(get).await.map(|object| Arc::new(object.slim())) }.boxed().shared();
        entry.flight = flight.downgrade().map(|weak| (weak, now));
        Found::Flight(flight, now)
    }

    /// How many objects are held.
    #[cfg(test)]
    fn len(&self) -> usize {
        let tables = self.inner.lock();
        tables.config_maps.len() + tables.secrets.len()
    }
}

enum Found<T> {
    Value(Arc<T>),
    Flight(Shared<Flight<T>>, Instant),
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives for as long as there is something to forget.
async fn sweep(cache: Weak<Inner>) {
    loop {
        tokio::time::sleep(UNUSED).await;
        let Some(cache) = cache.upgrade() else { return };
        let mut tables = cache.lock();
        let now = Instant::now();
        tables.config_maps.retain(|_, e| now - e.used < UNUSED);
        tables.secrets.retain(|_, e| now - e.used < UNUSED);
        if tables.config_maps.is_empty() && tables.secrets.is_empty() {
            *tables = Tables::default();
            return;
        }
    }
}

impl Stored for ConfigMap {
    fn get(api: Arc<dyn Api>, key: Key) -> BoxFuture<'static, Result<Self>> {
        async move { api.config_map(&key.0, &key.1).await }.boxed()
    }
    fn slim(mut self) -> Self {
        self.metadata = Default::default();
        self
    }
    fn immutable(&self) -> bool {
        self.immutable == Some(true)
    }
    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.config_maps
    }
}

impl Stored for Secret {
    fn get(api: Arc<dyn Api>, key: Key) -> BoxFuture<'static, Result<Self>> {
        async move { api.secret(&key.0, &key.1).await }.boxed()
    }
    fn slim(mut self) -> Self {
        self.metadata = Default::default();
        self
    }
    fn immutable(&self) -> bool {
        self.immutable == Some(true)
    }
    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.secrets
    }
}

#[cfg(test)]
mod tests;
