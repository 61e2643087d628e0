//! Pods from manifests, and their mirrors.

use k8s_openapi::api::core::v1::Pod;
use kubelet_rs::model::PodRef;
use kubelet_rs::runtime::fake::Life;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, run};

/// A world whose agents have a folder of manifests.
fn world() -> World {
    let mut world = World::new();
    world.manifests = true;
    std::fs::create_dir_all(world.manifests_dir()).expect("a folder");
    world
}

fn put_manifest(world: &World, image: &str) {
    let pod = json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "app", "image": image}], "terminationGracePeriodSeconds": 5}});
    std::fs::write(world.manifests_dir().join("web.yaml"), pod.to_string()).expect("a file");
}

/// Real time passes for the kernel's word of a change, and the paused clock for everything else.
async fn until(world: &World, what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
        sleep(S / 5).await;
    }
    panic!("not in time: {what}\n{:#?}", world.state());
}

fn mirror(world: &World) -> Option<Pod> {
    world.object("web-node")
}

fn hash(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get("kubernetes.io/config.mirror")
}

#[test]
fn a_static_pod_runs_and_its_mirror_shows_it() {
    run(async {
        let world = world();
        put_manifest(&world, "app:1");
        let _agent = world.start();
        until(&world, "it is ready", || world.is_ready("web-node")).await;
        let pod = mirror(&world).expect("a mirror");
        let owner = pod.metadata.owner_references.clone().unwrap_or_default().remove(0);
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Node", "node-uid", Some(true)));
        let running = &world.runtime.pods()[0].pod.uid;
        assert_ne!(PodRef::of(&pod).uid, *running, "the mirror has a UID of its own");
        assert_eq!(hash(&pod).map(String::as_str), Some(running.as_str()));
        assert_eq!(world.runtime.starts("web-node", "app"), 1);
        // A container that ends is seen there too.
        world.crash("web-node", "app", 1);
        until(&world, "the restart is told", || world.restarts("web-node", "app") == 1 && world.is_ready("web-node")).await;
        world.check();
    });
}

#[test]
fn a_deleted_mirror_comes_back_and_the_pod_does_not_notice() {
    run(async {
        let world = world();
        put_manifest(&world, "app:1");
        let _agent = world.start();
        until(&world, "it is ready", || world.is_ready("web-node")).await;
        for grace in [0, 30] {
            let old = PodRef::of(&mirror(&world).expect("a mirror")).uid;
            world.api.request_deletion("default", "web-node", grace);
            let another = || mirror(&world).is_some_and(|pod| PodRef::of(&pod).uid != old) && world.is_ready("web-node");
            until(&world, "another mirror is there", another).await;
        }
        assert_eq!(world.runtime.starts("web-node", "app"), 1);
        world.check();
    });
}

#[test]
fn a_changed_manifest_is_another_pod_that_waits_for_the_one_before_it() {
    run(async {
        let world = world();
        world.runtime.script("app", &[Life { after_term: Some(3 * S), ..Life::RUNS }]);
        put_manifest(&world, "app:1");
        let _agent = world.start();
        until(&world, "it is ready", || world.is_ready("web-node")).await;
        put_manifest(&world, "app:2");
        let image = || mirror(&world).and_then(|pod| pod.spec?.containers[0].image.clone());
        until(&world, "the new one is ready", || image().as_deref() == Some("app:2") && world.is_ready("web-node")).await;
        sleep(MINUTE).await;
        assert_eq!((world.runtime.pods().len(), world.runtime.starts("web-node", "app")), (1, 2), "never both at once");
        std::fs::remove_file(world.manifests_dir().join("web.yaml")).expect("there");
        until(&world, "all is gone", || mirror(&world).is_none() && world.runtime.pods().is_empty()).await;
        world.check_empty().await;
    });
}

#[test]
fn it_runs_without_an_api_server_and_an_agent_that_starts_leaves_it_alone() {
    run(async {
        let world = world();
        put_manifest(&world, "app:1");
        world.api.go_away();
        let agent = world.start();
        until(&world, "it runs", || world.runtime.running("web-node", "app").is_some()).await;
        world.api.come_back();
        until(&world, "it is told", || world.is_ready("web-node")).await;
        let before = PodRef::of(&mirror(&world).expect("a mirror")).uid;
        agent.kill().await;
        let _agent = world.start();
        sleep(2 * MINUTE).await;
        assert!(world.is_ready("web-node"));
        assert_eq!(PodRef::of(&mirror(&world).expect("a mirror")).uid, before);
        assert_eq!((world.runtime.starts("web-node", "app"), world.restarts("web-node", "app")), (1, 0));
        world.check();
    });
}

#[test]
fn a_manifest_that_went_while_no_agent_ran_is_cleaned_up() {
    run(async {
        let world = world();
        put_manifest(&world, "app:1");
        let agent = world.start();
        until(&world, "it is ready", || world.is_ready("web-node")).await;
        agent.kill().await;
        std::fs::remove_file(world.manifests_dir().join("web.yaml")).expect("there");
        let _agent = world.start();
        until(&world, "all is gone", || mirror(&world).is_none() && world.runtime.pods().is_empty()).await;
        world.check_empty().await;
    });
}

#[test]
fn a_manifest_that_is_unlinked_and_there_again_at_once_starts_its_pod_anew() {
    run(async {
        let world = world();
        put_manifest(&world, "app:1");
        let _agent = world.start();
        until(&world, "it is ready", || world.is_ready("web-node")).await;
        std::fs::remove_file(world.manifests_dir().join("web.yaml")).expect("there");
        put_manifest(&world, "app:1");
        until(&world, "it was started anew", || world.restarts("web-node", "app") == 1 && world.is_ready("web-node")).await;
        assert_eq!((world.runtime.pods().len(), world.runtime.starts("web-node", "app")), (1, 2));
        world.check();
    });
}

#[test]
fn a_pod_of_the_api_server_is_none_whatever_it_says() {
    run(async {
        let world = world();
        let _agent = world.start();
        let pod = json!({
            "metadata": {"name": "says-so", "namespace": "default", "annotations": {"kubernetes.io/config.source": "file"}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]}, "status": {"phase": "Pending"}
        });
        let pod = PodRef::of(&world.api.put_pod(serde_json::from_value(pod).expect("a pod")));
        until(&world, "it is ready", || world.is_ready("says-so")).await;
        world.delete(&pod, 5);
        until(&world, "it is gone", || world.object("says-so").is_none() && world.runtime.pods().is_empty()).await;
        world.check_empty().await;
    });
}
