//! Resources that change while a pod runs.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use kubelet_rs::runtime::Error;
use kubelet_rs::runtime::ErrorKind;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, run};

fn resources(cpu: &str) -> Value {
    json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}})
}

fn app(cpu: &str, policy: &str) -> Value {
    let policies = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
    json!({"containers": [{"name": "app", "image": "app:1", "resources": resources(cpu), "resizePolicy": policies}]})
}

/// `kubectl patch --subresource resize`.
fn resize(world: &World, pod: &str, cpu: &str) {
    let mut object = world.object(pod).expect("there");
    let spec = object.spec.as_mut().expect("a spec");
    spec.containers[0].resources = serde_json::from_value(resources(cpu)).expect("resources");
    *object.metadata.generation.get_or_insert_default() += 1;
    world.api.put_pod(object);
}

fn condition(world: &World, pod: &str, kind: &str) -> Option<PodCondition> {
    world.status(pod).conditions.into_iter().flatten().find(|c| c.type_ == kind)
}

fn cpu(status: &ContainerStatus) -> [String; 2] {
    let in_force = status.resources.as_ref().and_then(|r| r.limits.as_ref()).map(|l| l["cpu"].0.clone());
    let allocated = status.allocated_resources.as_ref().map(|a| a["cpu"].0.clone());
    [in_force, allocated].map(Option::unwrap_or_default)
}

/// The CPU quota of the running container, in thousandths of a CPU.
fn quota(world: &World, pod: &str) -> Option<i64> {
    world.runtime.running(pod, "app")?.limits.map(|l| l.cpu_quota / 100)
}

fn is_resized(world: &World, pod: &str, to: &str) -> bool {
    let over = ["PodResizePending", "PodResizeInProgress"].iter().all(|kind| condition(world, pod, kind).is_none());
    over && cpu(&world.container(pod, "app")) == [to, to]
}

#[test]
fn a_running_container_gets_more_and_less() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("web", app("1", "NotRequired"));
        world.until_ready("web").await;
        for (to, milli) in [("2", 2000), ("500m", 500)] {
            resize(&world, "web", to);
            world.until("it has it", 5 * S, || quota(&world, "web") == Some(milli) && is_resized(&world, "web", to)).await;
        }
        sleep(MINUTE).await;
        assert_eq!((world.runtime.starts("web", "app"), world.is_ready("web")), (1, true));
        let events = world.events("web");
        let count = |reason: &str| events.iter().filter(|r| *r == reason).count();
        assert_eq!((count("ResizeStarted"), count("ResizeCompleted")), (2, 2), "{events:?}");
        assert_eq!(world.status("web").observed_generation, Some(3));
        world.check();
    });
}

#[test]
fn a_policy_that_wants_a_restart_gets_one() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("web", app("1", "RestartContainer"));
        world.until_ready("web").await;
        resize(&world, "web", "2");
        world.until("it is restarted", MINUTE, || world.restarts("web", "app") == 1 && is_resized(&world, "web", "2")).await;
        world.check();
    });
}

#[test]
fn what_does_not_fit_now_is_given_later_and_what_never_fits_is_said() {
    run(async {
        let world = World::new();
        let agent = world.start();
        world.put_pod("web", app("1", "NotRequired"));
        let other = world.put_pod("other", app("2", "NotRequired"));
        world.until_ready("web").await;
        world.until_ready("other").await;
        resize(&world, "web", "9");
        let pending = |world: &World| condition(world, "web", "PodResizePending").and_then(|c| c.reason);
        world.until("it is infeasible", 5 * S, || pending(&world).as_deref() == Some("Infeasible")).await;
        resize(&world, "web", "3");
        world.until("it is deferred", 5 * S, || pending(&world).as_deref() == Some("Deferred")).await;
        assert_eq!(cpu(&world.container("web", "app")), ["1", "1"]);
        // A new agent knows what was allocated, and that more is asked for.
        agent.kill().await;
        let _agent = world.start();
        sleep(5 * S).await;
        assert_eq!((quota(&world, "web"), pending(&world).as_deref()), (Some(1000), Some("Deferred")), "nothing was changed");
        world.delete(&other, 1);
        world.until("it has it", MINUTE, || quota(&world, "web") == Some(3000) && is_resized(&world, "web", "3")).await;
        world.check();
    });
}

#[test]
fn a_runtime_that_refuses_is_asked_again_and_the_status_says_so() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("web", app("1", "NotRequired"));
        world.until_ready("web").await;
        let refused = Error { action: "update".into(), kind: ErrorKind::Failed("busy".into()) };
        for _ in 0..4 {
            world.injector.fail("runtime", "update_container", refused.clone());
        }
        resize(&world, "web", "2");
        let failed = || condition(&world, "web", "PodResizeInProgress").is_some_and(|c| c.reason.as_deref() == Some("Error"));
        world.until("the error is told", 5 * S, failed).await;
        assert_eq!(cpu(&world.container("web", "app")), ["1", "2"], "in force, allocated");
        world.until("it has it", MINUTE, || quota(&world, "web") == Some(2000) && is_resized(&world, "web", "2")).await;
        world.check();
    });
}

fn with_memory(requests: &str, limits: &str) -> Value {
    json!({"requests": {"memory": requests}, "limits": {"memory": limits}})
}

fn put_resources(world: &World, pod: &str, resources: Value) {
    let mut object = world.object(pod).expect("there");
    object.spec.as_mut().expect("a spec").containers[0].resources = serde_json::from_value(resources).expect("resources");
    *object.metadata.generation.get_or_insert_default() += 1;
    world.api.put_pod(object);
}

fn memory_app(policy: &str) -> Value {
    let policies = json!([{"resourceName": "memory", "restartPolicy": policy}]);
    json!({"containers": [{"name": "app", "image": "app:1", "resources": with_memory("16Mi", "64Mi"), "resizePolicy": policies}]})
}

#[test]
fn a_memory_limit_does_not_go_below_what_is_in_use() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("web", memory_app("NotRequired"));
        world.until_ready("web").await;
        world.runtime.use_memory("app", 32 << 20);
        put_resources(&world, "web", with_memory("8Mi", "8Mi"));
        let told = || condition(&world, "web", "PodResizeInProgress").is_some_and(|c| c.reason.as_deref() == Some("Error"));
        world.until("it is told", MINUTE, told).await;
        let message = condition(&world, "web", "PodResizeInProgress").and_then(|c| c.message).unwrap_or_default();
        let want =
            "cannot decrease memory limits: attempting to set container \"app\" memory limit (8388608) below current usage (33554432)";
        assert!(message.contains(want), "{message}");
        let limit = || world.runtime.running("web", "app").and_then(|c| c.limits).map(|l| l.memory);
        assert_eq!(limit(), Some(64 << 20));
        // As soon as there is room, or less is asked for.
        world.runtime.use_memory("app", 1 << 20);
        world
            .until("it has it", 5 * MINUTE, || limit() == Some(8 << 20) && condition(&world, "web", "PodResizeInProgress").is_none())
            .await;
        assert_eq!(world.runtime.starts("web", "app"), 1);
        world.check();
    });
}

#[test]
fn another_memory_request_restarts_who_wants_that_for_memory() {
    run(async {
        for (policy, restarts) in [("RestartContainer", 1), ("NotRequired", 0)] {
            let world = World::new();
            let agent = world.start();
            world.put_pod("web", memory_app(policy));
            world.until_ready("web").await;
            // Another agent knows what the one before it has given.
            agent.kill().await;
            let _agent = world.start();
            sleep(10 * S).await;
            put_resources(&world, "web", with_memory("32Mi", "64Mi"));
            let allocated = || world.container("web", "app").allocated_resources.is_some_and(|a| a["memory"].0 == "32Mi");
            world.until("it is over", MINUTE, || allocated() && world.restarts("web", "app") == restarts && world.is_ready("web")).await;
            sleep(MINUTE).await;
            assert_eq!(world.restarts("web", "app"), restarts, "{policy}");
            let whole = world.status("web").allocated_resources.map(|a| a["memory"].0.clone());
            assert_eq!(whole.as_deref(), Some("32Mi"));
            world.check();
        }
    });
}
