use std::time::Duration;

use super::*;
use crate::api::fake::FakeApi;
use crate::api::{Error, ErrorKind};

fn pod() -> PodRef {
    PodRef { namespace: "default".into(), name: "web".into(), uid: "u1".into() }
}

fn unavailable() -> Error {
    Error { action: "create event".into(), kind: ErrorKind::Unavailable("down".into()) }
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(20)).await;
}

#[tokio::test(start_paused = true)]
async fn events_arrive_joined_and_later_ones_are_patched() {
    let api = Arc::new(FakeApi::new("node-a"));
    let recorder = Recorder::start(api.clone(), "node-a", EventRates::default());
    for _ in 0..3 {
        recorder.pod_event(&pod(), Some("spec.containers{web}"), EventType::Normal, "Pulled", "have it");
    }
    recorder.node_event(EventType::Normal, "Starting", "Starting kubelet.");
    settle().await;
    assert_eq!((api.injector().count("api", "create_event"), api.injector().count("api", "patch_event")), (2, 0));
    recorder.pod_event(&pod(), Some("spec.containers{web}"), EventType::Normal, "Pulled", "have it");
    settle().await;
    let events = api.events();
    let pulled = events.iter().find(|e| e.reason.as_deref() == Some("Pulled")).expect("pod event");
    assert_eq!((pulled.count, pulled.metadata.namespace.as_deref()), (Some(4), Some("default")));
    assert_eq!(pulled.involved_object.field_path.as_deref(), Some("spec.containers{web}"));
    let starting = events.iter().find(|e| e.reason.as_deref() == Some("Starting")).expect("node event");
    assert_eq!(starting.involved_object.uid.as_deref(), Some("node-a"));
    assert_eq!(starting.metadata.namespace.as_deref(), Some("default"));
}

#[tokio::test(start_paused = true)]
async fn transient_failures_are_retried_and_refusals_are_not() {
    let api = Arc::new(FakeApi::new("n"));
    let recorder = Recorder::start(api.clone(), "n", EventRates::default());
    api.injector().fail("api", "create_event", unavailable());
    recorder.pod_event(&pod(), None, EventType::Warning, "Failed", "first");
    settle().await;
    assert_eq!(api.events().len(), 1);
    api.injector().fail("api", "create_event", Error { action: String::new(), kind: ErrorKind::Refused(422, "no".into()) });
    recorder.pod_event(&pod(), None, EventType::Warning, "Failed", "second");
    settle().await;
    assert_eq!(api.events().len(), 1);
    assert_eq!(api.injector().count("api", "create_event"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_no_second_event_and_an_expired_one_is_made_anew() {
    let api = Arc::new(FakeApi::new("n"));
    let recorder = Recorder::start(api.clone(), "n", EventRates::default());
    api.injector().fail_after("api", "create_event", unavailable());
    recorder.pod_event(&pod(), None, EventType::Normal, "Started", "m");
    settle().await;
    assert_eq!(api.events().len(), 1);
    api.forget_events();
    recorder.pod_event(&pod(), None, EventType::Normal, "Started", "m");
    settle().await;
    assert_eq!(api.events().first().and_then(|e| e.count), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_blocks_nobody() {
    let api = Arc::new(FakeApi::new("n"));
    let recorder = Recorder::start(api.clone(), "n", EventRates::default());
    for _ in 0..200 {
        api.injector().hang("api", "create_event");
    }
    for i in 0..2000 {
        let pod = PodRef { name: format!("p{i}").into(), ..pod() };
        recorder.pod_event(&pod, None, EventType::Normal, "Started", "m".repeat(5000));
    }
    assert_eq!(recorder.dropped(), 1000);
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept() {
    let api = Arc::new(FakeApi::new("n"));
    let recorder = Recorder::start(api.clone(), "n", EventRates { per_second: 10, burst: 20 });
    for i in 0..60 {
        let pod = PodRef { name: format!("p{i}").into(), ..pod() };
        recorder.pod_event(&pod, None, EventType::Normal, "Started", "m");
    }
    tokio::time::sleep(Duration::from_millis(1210)).await;
    let soon = api.events().len();
    assert!((20..=31).contains(&soon), "{soon}");
    settle().await;
    assert_eq!(api.events().len(), 60);
}

#[tokio::test(start_paused = true)]
async fn events_wait_for_a_moment_in_which_none_comes_but_warnings_and_patience_end_it() {
    let api = Arc::new(FakeApi::new("n"));
    let recorder = Recorder::start(api.clone(), "n", EventRates::default());
    let tell = |n: usize, kind| recorder.pod_event(&PodRef { name: format!("p{n}").into(), ..pod() }, None, kind, "Started", "m");
    for n in 0..20 {
        tell(n, EventType::Normal);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(api.events().len(), 0, "pods are being started");
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(api.events().len(), 20);
    tell(20, EventType::Normal);
    tell(21, EventType::Warning);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(api.events().len(), 22, "somebody may be looking for the warning");
    for n in 22..140 {
        tell(n, EventType::Normal);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(api.events().len() > 100, "a node that is never quiet tells its events all the same");
}
