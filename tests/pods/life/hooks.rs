//! Lifecycle hooks, by commands and sleeps.

use kubelet_rs::runtime::ExecOutput;
use kubelet_rs::runtime::fake::Life;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{MINUTE, S, World, run};

fn exit(code: i32) -> ExecOutput {
    ExecOutput { exit_code: code, output: b"a secret".to_vec() }
}

/// Two containers; the first has this lifecycle.
fn with(lifecycle: Value) -> Value {
    json!({"containers": [{"name": "app", "image": "app:1", "lifecycle": lifecycle}, {"name": "other", "image": "app:1"}]})
}

fn exec(command: &str) -> Value {
    json!({"exec": {"command": [command]}})
}

fn messages(world: &World, reason: &str) -> Vec<String> {
    let events = world.api.events().into_iter().filter(|e| e.reason.as_deref() == Some(reason));
    events.filter_map(|e| e.message).collect()
}

fn commands(world: &World) -> Vec<String> {
    world.runtime.executed().into_iter().map(|(container, command)| format!("{container}: {}", command.join(" "))).collect()
}

#[test]
fn the_next_container_and_the_running_state_wait_for_the_hook_after_the_start() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", 20 * S, exit(0));
        world.put_pod("web", with(json!({"postStart": exec("hello")})));
        sleep(15 * S).await;
        assert_eq!([world.runtime.starts("web", "app"), world.runtime.starts("web", "other")], [1, 0]);
        assert_eq!(world.waiting("web", "app"), "ContainerCreating");
        assert!(world.until_ready("web").await < 10 * S);
        assert_eq!(commands(&world), ["app: hello"]);
        world.check();
    });
}

#[test]
fn a_failed_hook_after_the_start_ends_the_container_and_tells_nothing_of_its_output_to_events() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", S, exit(3));
        world.put_pod("web", with(json!({"postStart": exec("hello")})));
        world.until("the other one runs all the same", MINUTE, || world.runtime.starts("web", "other") == 1).await;
        world.until("it is tried again", MINUTE, || world.runtime.starts("web", "app") == 2).await;
        sleep(3 * S).await;
        assert!(
            ["PostStartHookError", "CrashLoopBackOff"].contains(&world.waiting("web", "app").as_str()),
            "{}",
            world.waiting("web", "app")
        );
        world.runtime.commands("app", S, exit(0));
        world.until_ready("web").await;
        assert_eq!(messages(&world, "FailedPostStartHook"), ["PostStartHook failed"]);
        assert_eq!(messages(&world, "Killing"), ["FailedPostStartHook"]);
        let told = world.api.events().iter().any(|e| e.message.as_deref().is_some_and(|m| m.contains("secret")));
        assert!(!told);
        world.check();
    });
}

#[test]
fn a_deletion_does_not_wait_for_a_hook_after_the_start() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", 10 * MINUTE, exit(0));
        let pod = world.put_pod("web", with(json!({"postStart": exec("hello")})));
        sleep(15 * S).await;
        world.delete(&pod, 30);
        assert!(world.until_gone("web").await < 10 * S);
        world.check_empty().await;
    });
}

#[test]
fn the_hook_before_the_end_has_its_part_of_the_grace_period() {
    // How long the hook takes, whether the process heeds TERM, how long all of it takes at least and at most, how the container ends.
    for (hook, heeds, least, most, code) in
        [(5, true, 5, 8, 143), (60, true, 30, 34, 143), (10, false, 30, 33, 137), (29, false, 31, 33, 137)]
    {
        run(async {
            let world = World::new();
            let _agent = world.start();
            world.runtime.commands("app", hook * S, exit(0));
            world.runtime.script("app", &[Life { after_term: heeds.then_some(S / 10), ..Life::RUNS }]);
            let pod = world.put_pod("web", with(json!({"preStop": exec("bye")})));
            world.until_ready("web").await;
            let start = Instant::now();
            world.delete(&pod, 30);
            let last = crate::world::last_status(&world, "web", async { _ = world.until_gone("web").await }).await;
            let took = start.elapsed();
            assert!((least * S..=most * S).contains(&took), "hook {hook} s, {took:?}");
            let statuses = last.and_then(|s| s.container_statuses).unwrap_or_default();
            let end = statuses.into_iter().find(|c| c.name == "app").and_then(|c| c.state?.terminated);
            assert_eq!(end.map(|t| t.exit_code), Some(code), "hook {hook} s");
            assert_eq!(commands(&world), ["app: bye"]);
            assert_eq!(messages(&world, "FailedPreStopHook").len(), 0);
            world.check_empty().await;
        });
    }
}

#[test]
fn a_sleep_is_a_hook_too_and_its_container_may_end_meanwhile() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let pod = world.put_pod("web", with(json!({"preStop": {"sleep": {"seconds": 12}}})));
        world.until_ready("web").await;
        world.delete(&pod, 30);
        let took = world.until_gone("web").await;
        assert!((12 * S..15 * S).contains(&took), "{took:?}");
        world.check_empty().await;
    });
}

#[test]
fn a_failed_hook_before_the_end_is_told_and_changes_nothing() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", S, exit(1));
        let pod = world.put_pod("web", with(json!({"preStop": exec("bye")})));
        world.until_ready("web").await;
        world.delete(&pod, 30);
        assert!(world.until_gone("web").await < 5 * S);
        sleep(MINUTE).await;
        assert_eq!(messages(&world, "FailedPreStopHook"), ["PreStopHook failed"]);
        world.check_empty().await;
    });
}

#[test]
fn a_second_deletion_shortens_the_hook_too_and_does_not_begin_it_again() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", 10 * MINUTE, exit(0));
        let pod = world.put_pod("web", with(json!({"preStop": exec("bye")})));
        world.until_ready("web").await;
        world.delete(&pod, 300);
        sleep(20 * S).await;
        world.delete(&pod, 5);
        let took = world.until_gone("web").await;
        assert!((5 * S..9 * S).contains(&took), "{took:?}");
        assert_eq!(commands(&world), ["app: bye"]);
        world.check_empty().await;
    });
}

#[test]
fn a_container_that_fails_its_liveness_probe_gets_its_hook() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let mut spec = with(json!({"preStop": exec("bye")}));
        spec["containers"][0]["livenessProbe"] = json!({"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1});
        world.put_pod("web", spec);
        world.until_ready("web").await;
        world.runtime.commands("app", S / 10, exit(1));
        world.until("it is restarted", MINUTE, || world.restarts("web", "app") == 1).await;
        assert_eq!(commands(&world).iter().filter(|c| *c == "app: bye").count(), 1);
        world.check();
    });
}

#[test]
fn a_pod_that_is_gone_when_the_agent_starts_gets_its_hook_from_the_runtimes_records() {
    run(async {
        let world = World::new();
        let agent = world.start();
        let pod = world.put_pod("web", with(json!({"preStop": exec("bye")})));
        world.until_ready("web").await;
        agent.kill().await;
        world.api.request_deletion(&pod.namespace, &pod.name, 0);
        let _agent = world.start();
        world.check_empty().await;
        assert_eq!(commands(&world), ["app: bye"]);
    });
}
