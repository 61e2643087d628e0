use futures::stream::StreamExt;
use serde_json::json;

use super::*;
use crate::api::{Api, ErrorKind};
use crate::model::PodRef;

fn pod(name: &str) -> Pod {
    Pod { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, ..Pod::default() }
}

#[tokio::test]
async fn a_pods_life_as_a_watcher_sees_it() {
    let api = FakeApi::new("node-a");
    let mut watch = api.watch_pods();
    assert_eq!(watch.next().await, Some(WatchEvent::Snapshot(vec![])));
    let stored = api.put_pod(pod("web"));
    assert_eq!(watch.next().await, Some(WatchEvent::Applied(stored.clone())));
    let web = PodRef::of(&stored);

    let patch = json!({"metadata": {"uid": stored.metadata.uid}, "status": {"phase": "Running"}});
    let running = api.patch_pod_status(&web, patch.clone()).await.expect("patched");
    assert_ne!(running.metadata.resource_version, stored.metadata.resource_version);
    assert_eq!(watch.next().await, Some(WatchEvent::Applied(running.clone())));
    // A patch that changes nothing makes no noise.
    assert_eq!(api.patch_pod_status(&web, patch).await, Ok(running));

    api.request_deletion("default", "web", 30);
    let Some(WatchEvent::Applied(leaving)) = watch.next().await else { panic!("marked") };
    assert!(leaving.metadata.deletion_timestamp.is_some());
    assert_eq!(leaving.metadata.deletion_grace_period_seconds, Some(30));
    api.delete_pod(&web, 0).await.expect("deleted");
    assert!(matches!(watch.next().await, Some(WatchEvent::Deleted(_))));
    assert_eq!(api.pod("default", "web"), None);
    assert!(api.delete_pod(&web, 0).await.is_err_and(|e| e.is_not_found()));
}

#[tokio::test]
async fn another_pod_of_the_same_name_is_not_touched() {
    let api = FakeApi::new("n");
    let old = PodRef::of(&api.put_pod(pod("web")));
    api.request_deletion("default", "web", 0);
    api.put_pod(pod("web"));
    let patch = json!({"metadata": {"uid": old.uid.as_str()}, "status": {"phase": "Failed"}});
    assert!(matches!(api.patch_pod_status(&old, patch).await.map_err(|e| e.kind), Err(ErrorKind::Conflict(_))));
    assert!(matches!(api.delete_pod(&old, 0).await.map_err(|e| e.kind), Err(ErrorKind::Conflict(_))));
}

#[tokio::test]
async fn leases_conflict_on_old_versions() {
    let api = FakeApi::new("n");
    let first = api.create_lease(&Lease::default()).await.expect("created");
    api.update_lease(&first).await.expect("renewed");
    assert!(matches!(api.update_lease(&first).await.map_err(|e| e.kind), Err(ErrorKind::Conflict(_))));
    assert_eq!(api.create_lease(&first).await.map_err(|e| e.kind), Err(ErrorKind::AlreadyExists));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_tells_nothing_and_then_everything() {
    let api = FakeApi::new("n");
    let web = PodRef::of(&api.put_pod(pod("web")));
    let mut watch = api.watch_pods();
    assert!(matches!(watch.next().await, Some(WatchEvent::Snapshot(_))));
    api.go_away();
    assert!(matches!(watch.next().await, Some(WatchEvent::Failing(_))));
    assert!(api.delete_pod(&web, 0).await.is_err_and(|e| e.is_transient()));
    let (stored, mut late) = (api.put_pod(pod("web2")), api.watch_pods());
    for watch in [&mut watch, &mut late] {
        assert!(timeout(DEADLINE, watch.next()).await.is_err());
    }
    api.come_back();
    for watch in [&mut watch, &mut late] {
        let Some(WatchEvent::Snapshot(pods)) = watch.next().await else { panic!("a snapshot") };
        assert!(pods.len() == 2 && pods.contains(&stored));
    }
    api.injector().hang("api", "delete_pod");
    assert!(api.delete_pod(&web, 0).await.is_err_and(|e| e.is_transient()), "nobody waits for ever");
}
