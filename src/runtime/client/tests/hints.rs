//! Hints from the event stream, and what becomes of them when it breaks.

use super::*;

fn event(sandbox_uid: Option<&str>, label_uid: Option<&str>) -> ContainerEventResponse {
    let sandbox = sandbox_uid.map(|uid| {
        let metadata = Some(PodSandboxMetadata { uid: uid.into(), ..Default::default() });
        PodSandboxStatus { metadata, ..Default::default() }
    });
    let containers = label_uid.map(|uid| ContainerStatus { labels: labels(uid), ..Default::default() });
    ContainerEventResponse { pod_sandbox_status: sandbox, containers_statuses: containers.into_iter().collect(), ..Default::default() }
}

async fn take(client: &CriRuntime, count: usize) -> Vec<Option<String>> {
    let hints = client.events().take(count).map(|h| h.map(|uid| uid.to_string())).collect();
    tokio::time::timeout(Duration::from_secs(5), hints).await.expect("as many hints in five seconds")
}

fn named(uid: &str) -> Option<String> {
    Some(uid.into())
}

#[tokio::test]
async fn first_everything_then_pods() {
    let events = vec![vec![event(Some("u1"), None), event(Some(""), Some("u2")), event(None, Some("u3")), event(None, None)]];
    let setup = setup(Some(Server { version: containerd(), events, ..Default::default() }));
    assert_eq!(take(&setup.client, 5).await, [None, named("u1"), named("u2"), named("u3"), None]);
}

#[tokio::test]
async fn a_quiet_stream_still_says_to_look_once() {
    let setup = setup(Some(Server { version: containerd(), events: vec![vec![]], ..Default::default() }));
    assert_eq!(take(&setup.client, 1).await, [None]);
}

#[tokio::test]
async fn after_a_break_everything_is_looked_at() {
    let events = vec![vec![event(Some("u1"), None)], vec![event(Some("u2"), None)]];
    let server = Server { version: containerd(), events, ..Default::default() };
    let subscriptions = server.subscriptions.clone();
    let setup = setup(Some(server));
    assert_eq!(take(&setup.client, 4).await, [None, named("u1"), None, named("u2")]);
    assert_eq!(subscriptions.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_runtime_that_comes_late_is_found() {
    let setup = setup(None);
    let client = setup.client.clone();
    let hints = tokio::spawn(async move { take(&client, 2).await });
    tokio::time::sleep(Duration::from_millis(250)).await;
    listen(&setup.path, Server { version: containerd(), events: vec![vec![event(Some("u1"), None)]], ..Default::default() });
    assert_eq!(hints.await.unwrap(), [None, named("u1")]);
}

#[tokio::test]
async fn without_events_everything_is_looked_at_now_and_then() {
    let setup = setup(Some(Server { version: containerd(), ..Default::default() }));
    let mut hints = setup.client.events();
    assert_eq!(hints.next().await, Some(None));
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    // The refusal may come after the answer to the first question; then it counts as one more hint.
    while begin.elapsed() < Duration::from_secs(9) {
        assert_eq!(hints.next().await, Some(None));
    }
    assert_eq!(begin.elapsed().as_secs(), 10);
}
