//! Pulling: one pull for all pods that want the same image with the same credentials.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use proto::cri::PodSandboxConfig;
use tokio::time::Instant;

use super::limits::{ImageSettings, Limits};
use crate::runtime::{Image, RegistryAuth, Runtime};

/// A pull that worked.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    pub(super) image: Image,
    /// Without the time in the queue.
    pub(super) took: Duration,
}

/// A pull's end; the error is in the runtime's words.
type Outcome = Result<Pulled, String>;
type Flight = BoxFuture<'static, Outcome>;

/// A pull under way, for whoever wants the same. It ends early when nobody waits for it any more.
struct UnderWay {
    image: String,
    auths: Vec<RegistryAuth>,
    flight: WeakShared<Flight>,
}

pub(super) struct Puller {
    runtime: Arc<dyn Runtime>,
    limits: Arc<Limits>,
    under_way: Mutex<Vec<UnderWay>>,
}

impl Puller {
    pub(super) fn new(runtime: Arc<dyn Runtime>, settings: &ImageSettings) -> Self {
        Self { runtime, limits: Arc::new(Limits::new(settings)), under_way: Mutex::default() }
    }

    /// Pulls an image with the first credentials that work; without any when there are none.
    pub(super) async fn pull(&self, image: &str, auths: Vec<RegistryAuth>, sandbox: &PodSandboxConfig) -> Outcome {
        self.join(image, auths, sandbox).await
    }

    fn join(&self, image: &str, auths: Vec<RegistryAuth>, sandbox: &PodSandboxConfig) -> Shared<Flight> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // A flight that is done can't be joined: with policy Always each start asks the registry.
        under_way.retain(|u| u.flight.upgrade().is_some_and(|f| f.peek().is_none()));
        let same = under_way.iter().find(|u| u.image == image && u.auths == auths);
        if let Some(flight) = same.and_then(|u| u.flight.upgrade()) {
            return flight;
        }
        let work = pull(self.runtime.clone(), self.limits.clone(), image.to_owned(), auths.clone(), sandbox.clone());
        let flight = work.boxed().shared();
        under_way.extend(flight.downgrade().map(|flight| UnderWay { image: image.to_owned(), auths, flight }));
        flight
    }
}

async fn pull(
    runtime: Arc<dyn Runtime>,
    limits: Arc<Limits>,
    image: String,
    auths: Vec<RegistryAuth>,
    sandbox: PodSandboxConfig,
) -> Outcome {
    let _turn = limits.turn().await;
    let started = Instant::now();
    let tries = auths.iter().map(Some).chain(auths.is_empty().then_some(None));
    let mut errors = Vec::new();
    for auth in tries {
        match runtime.pull_image(&image, auth, &sandbox).await {
            Ok(id) => {
                let pulled = find(&*runtime, &image, &id).await?;
                return Ok(Pulled { image: pulled, took: started.elapsed() });
            }
            Err(error) => errors.push(error.kind.to_string()),
        }
    }
    errors.dedup();
    Err(errors.join(", "))
}

/// The image's record: what it was pulled as, or what the runtime calls it.
async fn find(runtime: &dyn Runtime, image: &str, id: &str) -> Result<Image, String> {
    for name in [image, id] {
        match runtime.image(name).await {
            Ok(Some(image)) => return Ok(image),
            Ok(None) => {}
            Err(error) => return Err(format!("pulled, but the runtime can't show it: {}", error.kind)),
        }
    }
    Err(format!("the runtime pulled it as {id:?} but does not know it; is something else removing images?"))
}

/// The waiting reason and message for a failed pull. Runtimes mark two kinds of failure by their first word
/// (k8s.io/cri-api/pkg/errors).
pub(super) fn explain(image: &str, error: &str) -> (&'static str, String) {
    let marked = [
        ("RegistryUnavailable", "because the registry is unavailable"),
        ("SignatureValidationFailed", "because the signature validation failed"),
    ];
    for (mark, text) in marked {
        if let Some(rest) = error.strip_prefix(mark) {
            return (mark, format!("image pull failed for {image} {text}{rest}"));
        }
    }
    ("ErrImagePull", error.to_owned())
}
