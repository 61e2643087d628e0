//! Probes, by commands: what they say reaches the status, and ends containers.

use kubelet_rs::runtime::ExecOutput;
use kubelet_rs::runtime::fake::Life;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, run};

fn exit(code: i32) -> ExecOutput {
    ExecOutput { exit_code: code, output: b"because".to_vec() }
}

fn probe(period: i32, failures: i32) -> Value {
    json!({"exec": {"command": ["check"]}, "periodSeconds": period, "failureThreshold": failures})
}

fn probed(kinds: Value) -> Value {
    let mut container = json!({"name": "app", "image": "app:1"});
    container.as_object_mut().unwrap().extend(kinds.as_object().unwrap().clone());
    json!({"containers": [container], "terminationGracePeriodSeconds": 30})
}

fn messages(world: &World, reason: &str) -> Vec<String> {
    let events = world.api.events().into_iter().filter(|e| e.reason.as_deref() == Some(reason));
    events.filter_map(|e| e.message).collect()
}

#[test]
fn readiness_follows_its_probe_and_nothing_is_restarted() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", S / 10, exit(1));
        world.put_pod("web", probed(json!({"readinessProbe": probe(2, 2)})));
        sleep(MINUTE).await;
        assert!(!world.is_ready("web") && world.container("web", "app").started == Some(true));
        assert_eq!(messages(&world, "Unhealthy"), ["Readiness probe failed: because"]);
        world.runtime.commands("app", S / 10, exit(0));
        assert!(world.until_ready("web").await < 3 * S);
        world.runtime.commands("app", S / 10, exit(1));
        let took = world.until("it is not ready", MINUTE, || !world.is_ready("web")).await;
        assert!((2 * S..6 * S).contains(&took), "two failures in a row: {took:?}");
        assert_eq!(world.restarts("web", "app"), 0);
        world.check();
    });
}

#[test]
fn a_failed_liveness_probe_ends_the_container_and_another_follows_unless_none_ever_does() {
    for (policy, starts, said) in [
        ("Always", 2, "Container app failed liveness probe, will be restarted"),
        ("OnFailure", 2, "Container app failed liveness probe, will be restarted"),
        ("Never", 1, "Container app failed liveness probe"),
    ] {
        run(async {
            let world = World::new();
            let _agent = world.start();
            let mut spec = probed(json!({"livenessProbe": probe(1, 3)}));
            spec["restartPolicy"] = json!(policy);
            // It ends by itself when it is told to, and says that all is well.
            world.runtime.script("app", &[Life { after_term: Some(S), ..Life::RUNS }, Life::RUNS]);
            world.put_pod("web", spec);
            world.until_ready("web").await;
            world.runtime.commands("app", S / 10, exit(1));
            world.until("it is stopped", MINUTE, || !world.runtime.stopped().is_empty()).await;
            world.runtime.commands("app", S / 10, exit(0));
            sleep(30 * S).await;
            assert_eq!(world.runtime.starts("web", "app"), starts, "{policy}");
            assert_eq!(messages(&world, "Killing"), [said], "{policy}");
            world.check();
        });
    }
}

#[test]
fn startup_holds_the_others_back_and_counts_as_ready_only_after() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", S / 10, exit(1));
        world.put_pod("web", probed(json!({"startupProbe": probe(2, 20), "livenessProbe": probe(1, 1), "readinessProbe": probe(30, 1)})));
        sleep(20 * S).await;
        let status = world.container("web", "app");
        assert_eq!((status.started, status.ready, status.restart_count), (Some(false), false, 0), "liveness has not been asked");
        world.runtime.commands("app", S / 10, exit(0));
        assert!(world.until_ready("web").await < 4 * S, "readiness is asked at once");
        world.runtime.commands("app", S / 10, exit(1));
        world.until("liveness ends it", 5 * S, || world.restarts("web", "app") == 1).await;
        world.check();
    });
}

#[test]
fn a_startup_probe_that_never_succeeds_ends_the_container() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", S / 10, exit(1));
        world.put_pod("web", probed(json!({"startupProbe": probe(1, 3)})));
        world.until("it is restarted", MINUTE, || world.restarts("web", "app") == 1).await;
        world.runtime.commands("app", S / 10, exit(0));
        sleep(20 * S).await;
        assert_eq!(messages(&world, "Killing"), ["Container app failed startup probe, will be restarted"]);
        world.check();
    });
}

#[test]
fn a_probes_own_grace_period_counts() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let mut liveness = probe(1, 1);
        liveness["terminationGracePeriodSeconds"] = json!(5);
        world.runtime.script("app", &[Life { after_term: None, ..Life::RUNS }]);
        world.put_pod("web", probed(json!({"livenessProbe": liveness})));
        world.until_ready("web").await;
        world.runtime.commands("app", S / 10, exit(1));
        let took = world.until("it is restarted", MINUTE, || world.restarts("web", "app") == 1).await;
        assert!((5 * S..10 * S).contains(&took), "{took:?}");
        world.check();
    });
}

#[test]
fn a_new_agent_changes_nothing_before_it_has_asked() {
    run(async {
        let world = World::new();
        let agent = world.start();
        world.put_pod("web", probed(json!({"startupProbe": probe(2, 2), "readinessProbe": probe(20, 3), "livenessProbe": probe(20, 3)})));
        world.until_ready("web").await;
        sleep(30 * S).await;
        agent.kill().await;
        let before = (world.status("web"), world.runtime.executed().len());
        let _agent = world.start();
        let until = async { sleep(S).await };
        let last = crate::world::last_status(&world, "web", until).await;
        assert_eq!(last, None, "nothing is written");
        sleep(MINUTE).await;
        assert_eq!(world.status("web"), before.0);
        assert!(world.runtime.executed().len() > before.1 + 2, "and it goes on asking");
        world.check();
    });
}

#[test]
fn nobody_is_asked_once_the_container_is_gone_and_readiness_alone_on_the_way_down() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[Life { after_term: Some(10 * S), ..Life::RUNS }]);
        let pod = world.put_pod("web", probed(json!({"readinessProbe": probe(1, 1), "livenessProbe": probe(1, 1)})));
        world.until_ready("web").await;
        world.delete(&pod, 30);
        sleep(S).await;
        world.runtime.commands("app", S / 10, exit(1));
        world.until("readiness still counts", 5 * S, || !world.is_ready("web")).await;
        world.until_gone("web").await;
        let asked = world.runtime.executed().len();
        sleep(MINUTE).await;
        assert_eq!(world.runtime.executed().len(), asked);
        assert_eq!(messages(&world, "Killing"), ["Stopping container app"]);
        world.check_empty().await;
    });
}

#[test]
fn the_next_init_container_waits_until_the_sidecar_before_it_is_started() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("side", S / 10, exit(1));
        world.runtime.script("init", &[Life::exits(S, 0)]);
        let side = json!({"name": "side", "image": "side:1", "restartPolicy": "Always", "startupProbe": probe(1, 100)});
        world.put_pod(
            "web",
            json!({"initContainers": [side, {"name": "init", "image": "init:1"}], "containers": [{"name": "app", "image": "app:1"}]}),
        );
        sleep(20 * S).await;
        assert_eq!([world.runtime.starts("web", "side"), world.runtime.starts("web", "init")], [1, 0]);
        world.runtime.commands("side", S / 10, exit(0));
        world.until_ready("web").await;
        world.check();
    });
}

#[test]
fn a_command_that_takes_too_long_has_failed() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.commands("app", 10 * S, exit(0));
        world.put_pod("web", probed(json!({"readinessProbe": probe(5, 1)})));
        sleep(30 * S).await;
        assert!(!world.is_ready("web"));
        assert_eq!(messages(&world, "Unhealthy"), ["Readiness probe failed: command timed out: \"check\" timed out after 1s"]);
        world.check();
    });
}
