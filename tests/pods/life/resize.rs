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
        assert_eq!((quota(&world, "web"), pending(&world).as_deref()), (None, Some("Deferred")), "nothing was changed");
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
