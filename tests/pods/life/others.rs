//! What others do to a pod's status while its agent runs.

use kubelet_rs::api::Api as _;
use kubelet_rs::model::PodRef;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, app, run};

/// Changes a pod's status as a controller would.
async fn change(world: &World, pod: &PodRef, status: Value) {
    world.api.patch_pod_status(pod, json!({"status": status})).await.expect("changed");
}

/// The node controller says so of each pod of a node that it has not heard of for long.
#[test]
fn what_others_write_into_the_nodes_fields_is_put_right() {
    run(async {
        let world = World::new();
        let agent = world.start();
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        let unready = || json!({"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]});
        for _ in 0..2 {
            sleep(MINUTE).await;
            change(&world, &pod, unready()).await;
            assert!(!world.is_ready("web"));
            assert!(world.until_ready("web").await < 5 * S);
        }
        let patches = || world.injector.count("api", "patch_pod_status");
        change(&world, &pod, json!({"conditions": [{"type": "example.com/other", "status": "True"}]})).await;
        let before = patches();
        sleep(5 * MINUTE).await;
        assert_eq!(patches(), before, "fields of others are theirs");
        assert!(world.status("web").conditions.iter().flatten().any(|c| c.type_ == "example.com/other"));
        // An agent that found nothing to write watches over the status all the same.
        agent.kill().await;
        world.injector.restart();
        let _agent = world.start();
        sleep(MINUTE).await;
        assert_eq!(patches(), 0);
        change(&world, &pod, unready()).await;
        assert!(world.until_ready("web").await < 5 * S);
        assert_eq!(world.runtime.starts("web", "app"), 1);
        world.check();
    });
}

/// The pod garbage collector does it, when a node has been out of reach for long.
#[test]
fn a_pod_that_somebody_ended_goes_down() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        change(&world, &pod, json!({"phase": "Failed", "reason": "NodeLost", "message": "it was"})).await;
        world.until("nothing of it runs", 5 * S, || world.runtime.running("web", "app").is_none()).await;
        sleep(MINUTE).await;
        let status = world.status("web");
        let told = [status.phase, status.reason, status.message].map(Option::unwrap_or_default);
        assert_eq!(told, ["Failed", "NodeLost", "it was"]);
        assert!(!world.is_ready("web"));
        assert_eq!(world.runtime.starts("web", "app"), 1);
        world.delete(&pod, 30);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}
