//! Makes sure that a container's image is there before the container is made.
//!
//! In: containers. Out: images, or why not in the API's words, and events. Owns: pulls that are under way, and the back-off of those that
//! failed. Survives a restart: nothing; the runtime remembers images, and a first try is made at once.

mod keyring;
mod limits;
mod pull;
mod reference;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use proto::cri::PodSandboxConfig;
use tokio::time::Instant;

use super::backoff::Backoff;
use crate::api::events::EventType;
use crate::model::{PodRef, PodUid};
use crate::node::Refresher;
use crate::runtime::{Image, RegistryAuth, Runtime};
use crate::volumes::objects::{FRESH, ObjectCache};

use keyring::Keyring;
pub use limits::ImageSettings;
use pull::Puller;

/// Upstream's `imageBackOff`: 10 s, doubled up to 300 s.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// Why a container has no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImageProblem {
    /// The waiting reason as the API shows it: `ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull`, `InvalidImageName`, …
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Trying again before this is of no use; `None` when nothing but the usual pause is asked for.
    pub retry_at: Option<Instant>,
}

/// Where events about the container go: type, reason, message.
pub type EventSink<'a> = &'a (dyn Fn(EventType, &'static str, String) + Send + Sync);

/// The images of all pods.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    objects: ObjectCache,
    puller: Puller,
    failures: Mutex<Failures>,
    node: Refresher,
}

/// A pod and an image as its spec names it: one pod's failures don't hold up another pod.
type Key = (PodUid, String);

struct Failures {
    backoff: Backoff<Key>,
    last: HashMap<Key, String>,
}

impl Images {
    /// For a runtime. `objects` holds image pull secrets.
    /// `node` is told that there are other images now.
    pub fn new(runtime: Arc<dyn Runtime>, objects: ObjectCache, settings: &ImageSettings, node: Refresher) -> Self {
        let failures = Failures { backoff: Backoff::new(BACKOFF.0, BACKOFF.1), last: HashMap::new() };
        Self { puller: Puller::new(runtime.clone(), settings), runtime, objects, failures: Mutex::new(failures), node }
    }

    /// The container's image, pulled as its policy says. Dropping the future gives up its share in the pull.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox: &PodSandboxConfig,
        events: EventSink<'_>,
    ) -> Result<Image, ImageProblem> {
        let result = self.find_or_pull(pod, container, sandbox, events).await;
        if let Err(problem) = &result {
            events(EventType::Warning, "Failed", format!("Error: {}", problem.reason));
        }
        result
    }

    /// Forgets the failures of a pod that is gone.
    pub fn forget(&self, uid: &PodUid) {
        let mut failures = self.failures();
        failures.backoff.forget(|(pod, _)| pod == uid);
        failures.last.retain(|(pod, _), _| pod != uid);
    }

    async fn find_or_pull(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox: &PodSandboxConfig,
        events: EventSink<'_>,
    ) -> Result<Image, ImageProblem> {
        let name = container.image.as_deref().unwrap_or_default();
        let reference = reference::parse(name).map_err(|error| {
            let message = format!("Failed to apply default image tag {name:?}: {error}");
            events(EventType::Warning, "InspectFailed", message.clone());
            ImageProblem { reason: "InvalidImageName", message, retry_at: None }
        })?;
        let policy = container.image_pull_policy.as_deref().unwrap_or(if reference.latest { "Always" } else { "IfNotPresent" });
        if policy != "Always" {
            if let Some(image) = self.look(name, &reference.image, events).await? {
                events(EventType::Normal, "Pulled", format!("Container image {name:?} already present on machine"));
                return Ok(image);
            }
            if policy == "Never" {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                events(EventType::Warning, "ErrImageNeverPull", message.clone());
                return Err(ImageProblem { reason: "ErrImageNeverPull", message, retry_at: None });
            }
        }
        let key = (PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default()), name.to_owned());
        self.check_backoff(&key, events)?;
        self.pull(pod, &key, &reference, sandbox, events).await
    }

    async fn look(&self, name: &str, image: &str, events: EventSink<'_>) -> Result<Option<Image>, ImageProblem> {
        self.runtime.image(image).await.map_err(|error| {
            let message = format!("Failed to inspect image {name:?}: {}", error.kind);
            events(EventType::Warning, "InspectFailed", message.clone());
            ImageProblem { reason: "ImageInspectError", message, retry_at: None }
        })
    }

    fn check_backoff(&self, key: &Key, events: EventSink<'_>) -> Result<(), ImageProblem> {
        let failures = self.failures();
        let Some(until) = failures.backoff.wait(key, Instant::now()) else { return Ok(()) };
        let mut message = format!("Back-off pulling image {:?}", key.1);
        events(EventType::Normal, "BackOff", message.clone());
        if let Some(last) = failures.last.get(key) {
            message = format!("{message}: {last}");
        }
        Err(ImageProblem { reason: "ImagePullBackOff", message, retry_at: Some(until) })
    }

    async fn pull(
        &self,
        pod: &Pod,
        key: &Key,
        reference: &reference::Reference,
        sandbox: &PodSandboxConfig,
        events: EventSink<'_>,
    ) -> Result<Image, ImageProblem> {
        let (name, started) = (&key.1, Instant::now());
        events(EventType::Normal, "Pulling", format!("Pulling image {name:?}"));
        let auths = self.credentials(pod, &reference.repository, events).await;
        match self.puller.pull(&reference.image, auths, sandbox).await {
            Ok(pulled) => {
                self.node.refresh();
                let mut failures = self.failures();
                failures.backoff.forget(|k| k == key);
                failures.last.remove(key);
                let size = pulled.image.size;
                let (took, all) = (millis(pulled.took), millis(started.elapsed()));
                let text = format!("Successfully pulled image {name:?} in {took:?} ({all:?} including waiting). Image size: {size} bytes.");
                events(EventType::Normal, "Pulled", text);
                Ok(pulled.image)
            }
            Err(error) => {
                events(EventType::Warning, "Failed", format!("Failed to pull image {name:?}: {error}"));
                let (reason, message) = pull::explain(name, &error);
                let mut failures = self.failures();
                let until = failures.backoff.raise(key.clone(), Instant::now());
                failures.last.insert(key.clone(), format!("{reason}: {message}"));
                Err(ImageProblem { reason, message, retry_at: Some(until) })
            }
        }
    }

    /// Credentials from the pod's image pull secrets. Without one that is missing or broken the pull may still work.
    async fn credentials(&self, pod: &Pod, repository: &str, events: EventSink<'_>) -> Vec<RegistryAuth> {
        let names = PodRef::of(pod);
        let references = pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_deref()).unwrap_or_default();
        let secrets = join_all(references.iter().map(|r| self.objects.secret(&names.namespace, &r.name, FRESH))).await;
        let (mut keyring, mut wrong) = (Keyring::default(), Vec::new());
        for (reference, secret) in references.iter().zip(secrets) {
            let added = secret.map_err(|e| e.kind.to_string()).and_then(|s| keyring.add_secret(&s));
            wrong.extend(added.err().map(|why| format!("{} ({why})", reference.name)));
        }
        if !wrong.is_empty() {
            let wrong = wrong.join(", ");
            let text = format!("Unable to retrieve some image pull secrets: {wrong}; attempting to pull the image may not succeed.");
            events(EventType::Warning, "FailedToRetrieveImagePullSecret", text);
        }
        keyring.find(repository)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
