use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::inject::Crash;
use crate::model::{ContainerId, SandboxId};
use crate::runtime::translate::tests::{first, pod, settings};
use crate::runtime::translate::{ContainerInput, SandboxInput, container_config, sandbox_config};
use crate::runtime::{Error, ErrorKind, Result, Runtime};

const SECOND: Duration = Duration::from_secs(1);

async fn sandbox(fake: &FakeRuntime, attempt: u32) -> Result<SandboxId> {
    let pod = pod(json!({"containers": [{"name": "app"}]}));
    let input = SandboxInput { pod: &pod, attempt, cgroup_parent: "/x", host_dns: None };
    fake.run_sandbox(sandbox_config(input, &settings()).unwrap().0, "").await
}

async fn create(fake: &FakeRuntime, sandbox: &SandboxId, restart_count: u32) -> Result<ContainerId> {
    let pod = pod(json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "app", "image": "app:1"}]}));
    fake.add_image("app:1");
    let image = fake.image("app:1").await?.unwrap();
    let input = SandboxInput { pod: &pod, attempt: 0, cgroup_parent: "/x", host_dns: None };
    let sandbox_config = sandbox_config(input, &settings()).unwrap().0;
    let input = ContainerInput {
        pod: &pod,
        container: first(&pod),
        restart_count,
        image: &image,
        environment: &[],
        volumes: &Default::default(),
        hosts_file: None,
        termination_log: None,
    };
    fake.create_container(sandbox, container_config(input, &settings()).unwrap(), sandbox_config).await
}

async fn start(fake: &FakeRuntime, sandbox: &SandboxId, restart_count: u32) -> ContainerId {
    let id = create(fake, sandbox, restart_count).await.unwrap();
    fake.start_container(&id).await.unwrap();
    id
}

#[tokio::test(start_paused = true)]
async fn a_life_with_its_hints() {
    let fake = FakeRuntime::default();
    fake.script("app", [Script::exits(5 * SECOND, 3), Script::default()]);
    let mut hints = fake.events();
    assert_eq!(hints.next().await, Some(None));
    let sandbox = sandbox(&fake, 0).await.unwrap();
    let id = start(&fake, &sandbox, 0).await;
    assert_eq!(fake.running("u-1"), ["app"]);
    let begin = Instant::now();
    for _ in 0..4 {
        assert_eq!(hints.next().await, Some(Some("u-1".into())));
    }
    assert_eq!(begin.elapsed(), 5 * SECOND, "sandbox, created, started, and five seconds later the end");
    let ended = fake.container(&id).await.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_str(), ended.restart_count), (3, "Error", 0));
    assert_eq!(ended.finished_at - ended.started_at, 5_000_000_001, "the clock never tells the same twice");
    let second = start(&fake, &sandbox, 1).await;
    let observed = fake.observe_pod(&"u-1".into()).await.unwrap().unwrap();
    assert_eq!(observed.containers.iter().map(|c| &c.id).collect::<Vec<_>>(), [&second, &id]);
    assert_eq!((observed.grace_period, observed.sandboxes[0].ips.len()), (Some(7), 1));
    fake.remove_sandbox(&sandbox).await.unwrap();
    assert_eq!((fake.pods(), fake.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn stopping_takes_what_the_script_says() {
    let graceful = Script { on_term: Some(2 * SECOND), ..Script::default() };
    for (script, grace, took, code) in [
        (Script::default(), 30, 0, 0),
        (graceful.clone(), 30, 2, 0),
        (graceful, 1, 1, 137),
        (Script::ignores_term(), 30, 30, 137),
        (Script::default(), 0, 0, 137),
    ] {
        let fake = FakeRuntime::default();
        fake.script("app", [script.clone()]);
        let sandbox = sandbox(&fake, 0).await.unwrap();
        let id = start(&fake, &sandbox, 0).await;
        let begin = Instant::now();
        fake.stop_container(&id, grace * SECOND).await.unwrap();
        let state = fake.container(&id).await.unwrap();
        // The paused clock steps in whole milliseconds.
        assert_eq!((begin.elapsed().as_secs(), state.exit_code), (took, code), "{script:?} {grace}");
        fake.stop_container(&id, grace * SECOND).await.unwrap();
        fake.stop_container(&"none".into(), grace * SECOND).await.unwrap();
    }
}

#[tokio::test]
async fn what_an_agent_must_not_do_is_noted() {
    let fake = FakeRuntime::default();
    let first = sandbox(&fake, 0).await.unwrap();
    assert!(sandbox(&fake, 0).await.is_err(), "the name is taken");
    let second = sandbox(&fake, 1).await.unwrap();
    start(&fake, &first, 0).await;
    assert!(create(&fake, &first, 0).await.is_err(), "the name is taken");
    let double = start(&fake, &second, 1).await;
    fake.remove_container(&double).await.unwrap();
    let want =
        ["a second ready sandbox of shop/web", "a second live container app of shop/web", "removed the running container app of shop/web"];
    assert_eq!(fake.violations(), want);
    fake.kill_sandboxes("u-1");
    assert_eq!((fake.ready_sandboxes("u-1"), fake.running("u-1")), (0, vec![]));
    assert!(create(&fake, &first, 2).await.is_err(), "nothing starts in a dead sandbox");
}

#[tokio::test(start_paused = true)]
async fn images_are_pulled_or_not() {
    let fake = FakeRuntime::default();
    fake.on_pull("a:1", Pull::Takes(3 * SECOND));
    fake.on_pull("b:1", Pull::Fails("denied".into()));
    let config = Default::default();
    let begin = Instant::now();
    let reference = fake.pull_image("a:1", None, &config).await.unwrap();
    assert_eq!((begin.elapsed(), fake.image(&reference).await.unwrap().unwrap().tags), (3 * SECOND, vec!["a:1".to_owned()]));
    assert_eq!(fake.pull_image("b:1", None, &config).await.unwrap_err().kind, ErrorKind::Failed("denied".into()));
    assert!(fake.pull_image("c:1", None, &config).await.unwrap_err().is_not_found());
    fake.remove_image("a:1").await.unwrap();
    assert_eq!(fake.image("a:1").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn faults() {
    let fake = FakeRuntime::default();
    let failure = Error { action: "x".into(), kind: ErrorKind::Failed("no".into()) };
    fake.injector.fail_after("runtime", "run_sandbox", failure.clone());
    assert_eq!(sandbox(&fake, 0).await, Err(failure));
    assert_eq!(fake.ready_sandboxes("u-1"), 1, "the answer was lost, not the sandbox");
    fake.injector.crash_at(fake.injector.calls().len(), Crash::After);
    let agent = tokio::spawn({
        let fake = fake.clone();
        async move { sandbox(&fake, 1).await }
    });
    fake.injector.crashed().await;
    agent.abort();
    fake.injector.restart();
    assert_eq!((fake.ready_sandboxes("u-1"), fake.violations().len()), (2, 1));
    fake.set_down(true);
    assert!(matches!(fake.version().await.unwrap_err().kind, ErrorKind::Unavailable(_)));
    let mut hints = fake.events();
    fake.exit("u-1", "app", 1);
    fake.set_down(false);
    assert_eq!((hints.next().await, hints.next().await), (Some(None), Some(None)));
    fake.forget();
    assert_eq!(fake.pods(), vec![]);
}
