//! What the node's status needs from the runtime, asked for as rarely as it may be.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::runtime::{Image, Runtime, RuntimeHealth, RuntimeVersion};

/// A runtime that needs longer than this to say how it is, is not well.
const DEADLINE: Duration = Duration::from_secs(5);
/// The last good answer counts for this long (`pkg/kubelet/runtime.go`, 30 s).
const FRESH: Duration = Duration::from_secs(30);
/// Images and version, unless told sooner. Upstream looks every half minute, whether a status is due or not.
const LIST_IMAGES_EVERY: Duration = Duration::from_secs(60);

/// What is known of the runtime.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuntimeView {
    /// Last good answer about its health.
    pub health: Option<RuntimeHealth>,
    /// That answer is too old to count.
    pub stale: bool,
    /// Why there is no newer one.
    pub error: Option<String>,
    /// Name and version.
    pub version: Option<RuntimeVersion>,
    /// Images present.
    pub images: Vec<Image>,
}

impl RuntimeView {
    /// Why the runtime keeps the node from being ready; one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let why = self.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        match &self.health {
            None => vec![format!("container runtime has not answered yet{why}")],
            Some(_) if self.stale => vec![format!("container runtime is down{why}")],
            Some(health) => {
                let runtime = health.runtime_error.as_ref().map(|e| format!("container runtime not ready: {e}"));
                let network = health.network_error.as_ref().map(|e| format!("container runtime network not ready: {e}"));
                runtime.into_iter().chain(network).collect()
            }
        }
    }
}

/// Asks the runtime.
pub struct Probe {
    runtime: Arc<dyn Runtime>,
    view: RuntimeView,
    answered: Option<Instant>,
    listed: Option<Instant>,
}

impl Probe {
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, view: RuntimeView::default(), answered: None, listed: None }
    }

    /// Looks at images again the next time.
    pub fn forget_images(&mut self) {
        self.listed = None;
    }

    /// What was seen last.
    pub fn view(&self) -> &RuntimeView {
        &self.view
    }

    /// Asks for the health, and for images and version when it is time.
    pub async fn look(&mut self) {
        match timeout(DEADLINE, self.runtime.health()).await {
            Ok(Ok(health)) => {
                self.view.health = Some(health);
                if self.view.error.take().is_some() {
                    // It may be another version by now.
                    self.listed = None;
                }
                self.answered = Some(Instant::now());
            }
            Ok(Err(error)) => self.view.error = Some(error.to_string()),
            Err(_) => self.view.error = Some(format!("no answer within {DEADLINE:?}")),
        }
        self.view.stale = self.answered.is_none_or(|at| at.elapsed() > FRESH);
        let due = self.listed.is_none_or(|at| at.elapsed() >= LIST_IMAGES_EVERY);
        if due && self.view.error.is_none() {
            self.list().await;
        }
    }

    async fn list(&mut self) {
        let both = async { tokio::join!(self.runtime.version(), self.runtime.images()) };
        let Ok((version, images)) = timeout(DEADLINE, both).await else {
            debug!("the runtime did not list its images within {DEADLINE:?}");
            return;
        };
        match (version, images) {
            (Ok(version), Ok(images)) => {
                self.view.version = Some(version);
                self.view.images = images;
                self.listed = Some(Instant::now());
            }
            (Err(error), _) | (_, Err(error)) => debug!("{error}"),
        }
    }
}
