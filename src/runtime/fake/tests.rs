use futures::stream::StreamExt;
use proto::cri::{ContainerConfig, ContainerMetadata, PodSandboxConfig, PodSandboxMetadata};

use super::*;
use crate::model::SandboxId;
use crate::runtime::Runtime;

const S: Duration = Duration::from_secs(1);

fn runtime() -> FakeRuntime {
    FakeRuntime::new(Clock::tokio(1_000_000_000), Injector::default())
}

fn pod(attempt: u32) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata { name: "web".into(), uid: "u".into(), namespace: "default".into(), attempt };
    PodSandboxConfig { metadata: Some(metadata), ..Default::default() }
}

async fn container(r: &FakeRuntime, sandbox: &SandboxId, attempt: u32) -> Result<ContainerId> {
    let metadata = Some(ContainerMetadata { name: "c".into(), attempt });
    r.create_container(sandbox, ContainerConfig { metadata, ..Default::default() }, pod(0)).await
}

#[tokio::test(start_paused = true)]
async fn a_container_lives_as_its_script_says() {
    let r = runtime();
    r.script("c", &[Life::exits(5 * S, 3), Life::STUBBORN, Life::UNSTARTABLE]);
    let sandbox = r.run_sandbox(pod(0), "").await.expect("made");
    let first = container(&r, &sandbox, 0).await.expect("made");
    let mut hints = r.events();
    assert_eq!(hints.next().await, Some(None));
    r.start_container(&first).await.expect("started");
    assert_eq!(hints.next().await, Some(Some("u".into())));
    assert_eq!(r.running("web", "c").map(|c| c.id), Some(first.clone()));
    assert_eq!(hints.next().await, Some(Some("u".into())), "its end");
    assert_eq!(r.container(&first).await.map(|c| (c.exit_code, c.finished_at)), Ok((3, 6_000_000_000)));

    let second = container(&r, &sandbox, 1).await.expect("made");
    r.start_container(&second).await.expect("started");
    let before = tokio::time::Instant::now();
    r.stop_container(&second, 7 * S).await.expect("stopped");
    assert_eq!((before.elapsed(), r.container(&second).await.map(|c| c.exit_code)), (7 * S, Ok(137)));

    let third = container(&r, &sandbox, 2).await.expect("made");
    assert!(r.start_container(&third).await.is_err());
    assert_eq!(r.starts("web", "c"), 3);
    let seen = r.observe_pod(&"u".into()).await.expect("seen").expect("there");
    assert_eq!(seen.containers.iter().map(|c| c.exit_code).collect::<Vec<_>>(), [128, 137, 3]);
    assert_eq!(seen.containers.first().map(|c| &c.sandbox), Some(&sandbox));
    assert!(r.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_no_agent_may_do_is_noted() {
    let r = runtime();
    let one = r.run_sandbox(pod(0), "").await.expect("made");
    assert!(r.run_sandbox(pod(0), "").await.is_err(), "the name is reserved");
    let a = container(&r, &one, 0).await.expect("made");
    assert!(container(&r, &one, 0).await.is_err(), "the name is reserved");
    let b = container(&r, &one, 1).await.expect("made");
    assert!(r.violations().is_empty());
    r.start_container(&a).await.expect("started");
    r.start_container(&b).await.expect("started all the same");
    let two = r.run_sandbox(pod(1), "").await.expect("made all the same");
    r.stop_sandbox(&one).await.expect("stopped");
    assert!(container(&r, &one, 2).await.is_err());
    r.remove_sandbox(&two).await.expect("removed");
    r.doom(&"u".into());
    let _ = r.run_sandbox(pod(2), "").await;
    let want = ["a second running", "a second ready", "stopped while c, c runs", "in a sandbox that is down", "removed while", "is gone"];
    let noted = r.violations();
    assert_eq!(noted.len(), want.len(), "{noted:?}");
    assert!(noted.iter().zip(want).all(|(n, w)| n.contains(w)), "{noted:?}");
}

#[tokio::test(start_paused = true)]
async fn faults_hold_up_one_pod_or_all() {
    let r = runtime();
    r.hold("run_sandbox", "web");
    assert_eq!(r.run_sandbox(pod(0), "").await.map_err(|e| e.kind), Err(ErrorKind::Deadline(DEADLINE)));
    r.release("run_sandbox", "web");
    let sandbox = r.run_sandbox(pod(0), "").await.expect("made");
    let mut hints = r.events();
    assert_eq!(hints.next().await, Some(None));
    r.go_away(ErrorKind::Unavailable("no socket".into()));
    r.kill_sandbox("web");
    assert!(r.list_pods().await.is_err());
    r.come_back();
    assert_eq!(hints.next().await, Some(None), "hints were lost");
    assert_eq!(r.sandbox(&sandbox).await.map(|s| s.ready), Ok(false));
}

/// Nobody waits for the stop any more, so nobody sends the KILL.
#[tokio::test(start_paused = true)]
async fn a_stop_that_was_given_up_ends_nothing() {
    let r = runtime();
    r.script("c", &[Life::STUBBORN]);
    let sandbox = r.run_sandbox(pod(0), "").await.expect("made");
    let id = container(&r, &sandbox, 0).await.expect("made");
    r.start_container(&id).await.expect("started");
    assert!(timeout(S, r.stop_container(&id, 7 * S)).await.is_err());
    sleep(60 * S).await;
    assert!(r.running("web", "c").is_some());
}
