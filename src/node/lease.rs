//! The node's Lease: its renewal is what tells the control plane that the node lives.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::api::{Api, Backoff, Error, ErrorKind, LEASE_NAMESPACE, jittered};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// `k8s.io/component-helpers/apimachinery/lease`: maxBackoff.
const LONGEST_PAUSE: Duration = Duration::from_secs(7);
const RENEWALS_IN_A_LIFE: u32 = 4;

/// Keeps the Lease fresh for as long as the node is registered.
pub async fn run(api: Arc<dyn Api>, name: String, duration: Duration, mut node: watch::Receiver<Option<Arc<Node>>>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut held = None;
    let mut failing = false;
    loop {
        let owner = match node.wait_for(Option::is_some).await {
            Ok(node) => node.as_ref().and_then(|node| node.metadata.uid.clone()).unwrap_or_default(),
            Err(_) => return, // the room is being shut down
        };
        match renew(api.as_ref(), held.take(), &name, &owner, duration).await {
            Ok(lease) => {
                if std::mem::take(&mut failing) {
                    info!("lease {LEASE_NAMESPACE}/{name} renewed again");
                }
                held = Some(lease);
                backoff.reset();
                sleep(jittered(duration / RENEWALS_IN_A_LIFE, 0.04)).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!("{error}; the control plane takes the node for dead after {duration:?}");
                }
                sleep(backoff.pause()).await;
            }
        }
    }
}

/// Renews `held`, the Lease as the server last had it; reads or creates it when nothing is held or somebody else changed it.
async fn renew(api: &dyn Api, held: Option<Lease>, name: &str, owner: &str, duration: Duration) -> Result<Lease, Error> {
    if let Some(held) = held {
        match api.update_lease(&fresh(Some(held), name, owner, duration, Timestamp::now())).await {
            Err(Error { kind: ErrorKind::Conflict(_) | ErrorKind::NotFound(_), .. }) => {}
            other => return other,
        }
    }
    match api.lease().await {
        Ok(found) => api.update_lease(&fresh(Some(found), name, owner, duration, Timestamp::now())).await,
        Err(error) if error.is_not_found() => api.create_lease(&fresh(None, name, owner, duration, Timestamp::now())).await,
        Err(error) => Err(error),
    }
}

/// The Lease to write (pure).
fn fresh(held: Option<Lease>, name: &str, owner: &str, duration: Duration, now: Timestamp) -> Lease {
    let mut lease = held.unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(name.into()), namespace: Some(LEASE_NAMESPACE.into()), ..ObjectMeta::default() },
        ..Lease::default()
    });
    // The garbage collector removes the Lease with its node; a node that was registered anew has another UID.
    lease.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.into(),
        uid: owner.into(),
        ..OwnerReference::default()
    }]);
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.into());
    spec.lease_duration_seconds = i32::try_from(duration.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fake::FakeApi;

    const LIFE: Duration = Duration::from_secs(40);

    fn node(uid: &str) -> Option<Arc<Node>> {
        let metadata = ObjectMeta { uid: Some(uid.into()), ..ObjectMeta::default() };
        Some(Arc::new(Node { metadata, ..Node::default() }))
    }

    fn owner(api: &FakeApi) -> Option<String> {
        api.stored_lease()?.metadata.owner_references?.first().map(|o| o.uid.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_the_node_then_renews_every_quarter_of_its_life() {
        let api = FakeApi::new("n");
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(run(Arc::new(api.clone()), "n".into(), LIFE, receiver));
        sleep(LIFE).await;
        assert_eq!(api.stored_lease(), None);
        sender.send_replace(node("u1"));
        sleep(Duration::from_secs(62)).await;
        assert_eq!((api.injector().count("api", "create_lease"), api.injector().count("api", "lease")), (1, 1));
        assert!((5..=6).contains(&api.injector().count("api", "update_lease")));
        let spec = api.stored_lease().and_then(|l| l.spec).expect("lease");
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some("n"), Some(40)));
        assert_eq!(owner(&api).as_deref(), Some("u1"));
        sender.send_replace(node("u2"));
        sleep(Duration::from_secs(11)).await;
        assert_eq!(owner(&api).as_deref(), Some("u2"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_survives_conflicts_and_a_server_that_is_away() {
        let api = FakeApi::new("n");
        let (_sender, receiver) = watch::channel(node("u1"));
        tokio::spawn(run(Arc::new(api.clone()), "n".into(), LIFE, receiver));
        sleep(Duration::from_secs(1)).await;
        api.update_lease(&Lease { metadata: ObjectMeta::default(), spec: None }).await.expect("somebody else writes");
        sleep(Duration::from_secs(11)).await;
        assert!(api.stored_lease().and_then(|l| l.spec).is_some_and(|s| s.renew_time.is_some()));
        for _ in 0..8 {
            let down = Error { action: "renew".into(), kind: ErrorKind::Unavailable("down".into()) };
            api.injector().fail("api", "update_lease", down.clone());
            api.injector().fail("api", "lease", down);
        }
        // Waits between tries are random: sixteen of them may take two minutes.
        sleep(Duration::from_secs(180)).await;
        let renewed = |api: &FakeApi| api.stored_lease().and_then(|l| l.metadata.resource_version);
        let before = renewed(&api);
        sleep(Duration::from_secs(11)).await;
        assert_ne!(renewed(&api), before);
    }
}
