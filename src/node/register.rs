//! Makes sure that the Node object exists and carries this node's labels.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::time::sleep;
use tracing::{info, warn};

use super::object::{self, When};
use super::{NodeDeps, NodeSettings};
use crate::api::{Api, Backoff, Error, ErrorKind};
use crate::model::node::NodeFacts;

/// `pkg/kubelet/kubelet_node_status.go`, registerWithAPIServer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(7);

/// The object as the API server has it.
#[derive(Debug, PartialEq)]
pub enum Registered {
    /// It is new, with the status that it was created with.
    Created(Node),
    /// It was there before.
    Existing(Node),
}

/// Creates `node`, or brings the existing object's labels up to date. Tries for ever.
pub async fn register(deps: &NodeDeps, node: &Node) -> Registered {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut told: Option<Error> = None;
    loop {
        match attempt(deps, node).await {
            Ok(registered) => return registered,
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    warn!("node {} can't be registered yet: {error}", deps.facts.name);
                }
                told = Some(error);
            }
        }
        sleep(backoff.pause()).await;
    }
}

async fn attempt(deps: &NodeDeps, node: &Node) -> Result<Registered, Error> {
    let api = deps.api.as_ref();
    if deps.settings.register {
        match api.create_node(node).await {
            Ok(node) => {
                info!("node {} registered", deps.facts.name);
                return Ok(Registered::Created(node));
            }
            Err(Error { kind: ErrorKind::AlreadyExists, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let existing = api.node().await?;
    info!("node {} is registered already", deps.facts.name);
    put_right(api, existing, &deps.settings, &deps.facts, deps.machine.architecture, When::Registering).await.map(Registered::Existing)
}

/// Patches metadata that is not as it should be.
pub async fn put_right(
    api: &dyn Api,
    node: Node,
    settings: &NodeSettings,
    facts: &NodeFacts,
    architecture: &str,
    when: When,
) -> Result<Node, Error> {
    match object::reconcile(&node.metadata, settings, facts, architecture, when) {
        Some(patch) => api.patch_node(patch).await,
        None => Ok(node),
    }
}
