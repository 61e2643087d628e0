//! Policies and rules of single containers, ephemeral containers, and pods that begin anew.

use k8s_openapi::api::core::v1::ContainerStatus;
use kubelet_rs::runtime::fake::Life;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, run};

fn app(policy: &str, action: &str, codes: &[i32]) -> Value {
    let rules = json!([{"action": action, "exitCodes": {"operator": "In", "values": codes}}]);
    json!({"name": "app", "image": "app:1", "restartPolicy": policy, "restartPolicyRules": rules})
}

#[test]
fn a_rule_restarts_a_container_that_its_policy_would_leave_ended() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[Life::exits(S, 42), Life::exits(S, 1)]);
        world.put_pod("job", json!({"restartPolicy": "Never", "containers": [app("Never", "Restart", &[42])]}));
        world.until("it has failed", MINUTE, || world.phase("job") == "Failed").await;
        assert_eq!((world.runtime.starts("job", "app"), world.restarts("job", "app")), (2, 1));
        world.check();
    });
}

#[test]
fn containers_of_one_pod_have_policies_of_their_own() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("once", &[Life::exits(S, 0)]);
        world.runtime.script("again", &[Life::exits(S, 1), Life::exits(S, 0)]);
        let container = |name: &str, policy: &str| json!({"name": name, "image": "app:1", "restartPolicy": policy});
        let spec = json!({"restartPolicy": "Always", "containers": [container("once", "Never"), container("again", "OnFailure")]});
        world.put_pod("job", spec);
        world.until("it has succeeded", MINUTE, || world.phase("job") == "Succeeded").await;
        assert_eq!([world.runtime.starts("job", "once"), world.runtime.starts("job", "again")], [1, 2]);
        world.check();
    });
}

fn last_reason(status: &ContainerStatus) -> Option<String> {
    status.last_state.as_ref()?.terminated.as_ref()?.reason.clone()
}

#[test]
fn a_pod_begins_anew_in_the_same_sandbox() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("init", &[Life::exits(S, 0)]);
        let spec = json!({
            "restartPolicy": "Never",
            "initContainers": [{"name": "init", "image": "app:1"}],
            "containers": [app("Never", "RestartAllContainers", &[42]), {"name": "other", "image": "app:1"}],
        });
        world.put_pod("web", spec);
        world.until_ready("web").await;
        let ip = world.status("web").pod_ip;
        sleep(5 * S).await;
        world.crash("web", "app", 42);
        let all_again = || ["init", "app", "other"].map(|name| world.runtime.starts("web", name)) == [2, 2, 2] && world.is_ready("web");
        world.until("all of them have begun anew", MINUTE, all_again).await;
        assert_eq!(["init", "app", "other"].map(|name| world.restarts("web", name)), [1, 1, 1]);
        assert_eq!(last_reason(&world.container("web", "other")).as_deref(), Some("RestartingAllContainers"));
        assert_eq!((world.runtime.pods()[0].sandboxes.len(), world.status("web").pod_ip), (1, ip));
        let condition = |world: &World| {
            let status = world.status("web");
            let found = status.conditions.into_iter().flatten().find(|c| c.type_ == "AllContainersRestarting");
            found.map(|c| c.status)
        };
        assert_eq!(condition(&world).as_deref(), Some("False"));
        // Any other end is not the rule's.
        world.crash("web", "app", 1);
        sleep(MINUTE).await;
        assert_eq!(["init", "app", "other"].map(|name| world.runtime.starts("web", name)), [2, 2, 2]);
        world.check();
    });
}

#[test]
fn an_agent_that_is_killed_while_a_pod_begins_anew_goes_on() {
    run(async {
        let world = World::new();
        let agent = world.start();
        let spec = json!({
            "restartPolicy": "Never",
            "containers": [app("Never", "RestartAllContainers", &[42]), {"name": "other", "image": "app:1"}],
        });
        world.put_pod("web", spec);
        world.until_ready("web").await;
        world.runtime.hold("remove_container", "web");
        world.crash("web", "app", 42);
        sleep(5 * S).await;
        agent.kill().await;
        world.runtime.release("remove_container", "web");
        let _agent = world.start();
        let again = || ["app", "other"].map(|name| world.runtime.starts("web", name)) == [2, 2] && world.is_ready("web");
        world.until("both have begun anew", MINUTE, again).await;
        world.check();
    });
}

#[test]
fn an_ephemeral_container_joins_a_pod_that_runs_and_leaves_it_as_it_is() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let pod = world.put_pod("web", json!({"containers": [{"name": "app", "image": "app:1"}]}));
        world.until_ready("web").await;
        world.runtime.script("debug", &[Life::exits(20 * S, 3)]);
        let mut object = world.object("web").expect("there");
        let debug =
            serde_json::from_value(json!({"name": "debug", "image": "debug:1", "targetContainerName": "app"})).expect("a container");
        object.spec.as_mut().expect("a spec").ephemeral_containers = Some(vec![debug]);
        world.api.put_pod(object);
        let state = |world: &World| {
            let status = world.status("web").ephemeral_container_statuses.unwrap_or_default().pop();
            status.and_then(|s| s.state).unwrap_or_default()
        };
        world.until("it runs", MINUTE, || state(&world).running.is_some()).await;
        assert!(world.is_ready("web"));
        world.until("it has ended", MINUTE, || state(&world).terminated.is_some_and(|t| t.exit_code == 3)).await;
        sleep(2 * MINUTE).await;
        assert_eq!((world.runtime.starts("web", "debug"), world.phase("web").as_str(), world.is_ready("web")), (1, "Running", true));
        world.delete(&pod, 5);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}
