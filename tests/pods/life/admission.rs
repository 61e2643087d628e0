//! Pods that may not run, and pods that others make room for.

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, run};

fn with_cpu(cpu: &str, extra: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "app", "image": "app:1", "resources": {"requests": {"cpu": cpu}}}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

#[test]
fn a_pod_that_does_not_fit_fails_at_once_and_never_reaches_the_runtime() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("first", with_cpu("3", json!({})));
        world.until_ready("first").await;
        let pod = world.put_pod("second", with_cpu("2", json!({})));
        world.until("it is rejected", 5 * S, || world.phase("second") == "Failed").await;
        let status = world.status("second");
        assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
        let message = "Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000";
        assert_eq!((status.message.as_deref(), status.container_statuses), (Some(message), None));
        assert_eq!(world.runtime.pods().len(), 1);
        sleep(MINUTE).await;
        assert!(world.events("second").contains(&"OutOfcpu".to_owned()));
        world.delete(&pod, 30);
        world.until_gone("second").await;
        world.check();
    });
}

#[test]
fn what_a_pod_takes_is_free_again_when_it_has_ended() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[kubelet_rs::runtime::fake::Life::exits(5 * S, 0)]);
        world.put_pod("job", with_cpu("4", json!({"restartPolicy": "Never"})));
        world.until("it has ended", MINUTE, || world.phase("job") == "Succeeded").await;
        world.put_pod("next", with_cpu("4", json!({"restartPolicy": "Never"})));
        world.until("the next one runs", MINUTE, || world.phase("next") == "Succeeded").await;
        world.check();
    });
}

#[test]
fn a_new_agent_leaves_what_was_let_in_and_counts_it() {
    run(async {
        let world = World::new();
        let agent = world.start();
        world.put_pod("first", with_cpu("3", json!({})));
        world.until_ready("first").await;
        agent.kill().await;
        world.put_pod("second", with_cpu("2", json!({})));
        let _agent = world.start();
        world.until("the second is rejected", 5 * S, || world.phase("second") == "Failed").await;
        sleep(MINUTE).await;
        assert!(world.is_ready("first") && world.runtime.starts("first", "app") == 1);
        world.check();
    });
}

#[test]
fn others_make_room_for_a_critical_pod() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("small", with_cpu("1", json!({})));
        world.put_pod("big", with_cpu("3", json!({})));
        world.until_ready("big").await;
        world.put_pod("critical", with_cpu("2", json!({"priority": 2_000_000_000})));
        world.until("it runs", MINUTE, || world.is_ready("critical")).await;
        let status = world.status("big");
        assert_eq!([status.phase.as_deref(), status.reason.as_deref()], [Some("Failed"), Some("Preempting")]);
        assert_eq!(status.message.as_deref(), Some("Preempted in order to admit critical pod"));
        let disrupted = status.conditions.into_iter().flatten().find(|c| c.type_ == "DisruptionTarget");
        assert_eq!(disrupted.and_then(|c| c.reason).as_deref(), Some("TerminationByKubelet"));
        assert!(world.is_ready("small"));
        world.check();
    });
}
