//! Answers that get lost after the work was done, that contradict what is seen, or that name a conflict.

use kubelet_rs::api::{self, ErrorKind};
use kubelet_rs::runtime::fake::Life;
use kubelet_rs::runtime::{self, ContainerPhase};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, app, run};

fn no_answer(call: &str) -> runtime::Error {
    runtime::Error { action: call.to_owned(), kind: runtime::ErrorKind::Deadline(120 * S) }
}

fn refused(call: &str, kind: ErrorKind) -> api::Error {
    api::Error { action: call.to_owned(), kind }
}

#[test]
fn a_lost_answer_of_the_runtime_doubles_nothing() {
    for call in ["run_sandbox", "sandbox", "create_container", "start_container", "container", "image", "pull_image", "observe_pod"] {
        run(async {
            let world = World::new();
            let _agent = world.start();
            world.injector.fail_after("runtime", call, no_answer(call));
            let pod = world.put_pod("web", app());
            world.until_ready("web").await;
            assert_eq!((world.runtime.starts("web", "app"), world.restarts("web", "app")), (1, 0), "{call}");
            assert_eq!(world.runtime.pod("web").map(|p| p.sandboxes.len()), Some(1), "{call}");
            world.delete(&pod, 30);
            world.until_gone("web").await;
            world.check_empty().await;
        });
    }
    for call in ["stop_container", "container", "stop_sandbox", "remove_sandbox", "observe_pod"] {
        run(async {
            let world = World::new();
            let _agent = world.start();
            let pod = world.put_pod("web", app());
            world.until_ready("web").await;
            sleep(S).await;
            world.injector.fail_after("runtime", call, no_answer(call));
            world.delete(&pod, 30);
            assert!(world.until_gone("web").await <= 5 * S, "{call}");
            assert_eq!(world.runtime.starts("web", "app"), 1);
            world.check_empty().await;
        });
    }
}

#[test]
fn a_lost_or_odd_answer_of_the_api_server_loses_no_status() {
    let kinds = [
        ErrorKind::Unavailable("connection reset".into()),
        ErrorKind::Conflict("the object has been modified; please apply your changes to the latest version and try again".into()),
        ErrorKind::Forbidden("RBAC: not yet".into()),
        ErrorKind::Unauthorized("the token is old".into()),
        ErrorKind::Refused(400, "bad request".into()),
    ];
    for kind in kinds {
        for (call, after) in [("patch_pod_status", false), ("patch_pod_status", true), ("delete_pod", false), ("delete_pod", true)] {
            run(async {
                let world = World::new();
                let _agent = world.start();
                let fault = || match after {
                    true => world.injector.fail_after("api", call, refused(call, kind.clone())),
                    false => world.injector.fail("api", call, refused(call, kind.clone())),
                };
                fault();
                let pod = world.put_pod("web", app());
                world.until_ready("web").await;
                fault();
                world.crash("web", "app", 1);
                world.until("the restart is told", MINUTE, || world.restarts("web", "app") == 1 && world.is_ready("web")).await;
                (0..3).for_each(|_| fault());
                world.delete(&pod, 30);
                let gone = world.until_gone("web").await;
                assert!(gone <= 15 * S, "{call} {kind}: {gone:?}");
                world.check_empty().await;
            });
        }
    }
}

/// A process that the kernel can't end, and a runtime that doesn't say so.
#[test]
fn a_container_that_lives_on_after_its_stop_is_not_given_up() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[Life::IMMORTAL]);
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        world.delete(&pod, 5);
        sleep(3 * MINUTE).await;
        let stops = world.injector.count("runtime", "stop_container");
        assert!((5..40).contains(&stops), "{stops} stops in three minutes");
        assert!(world.object("web").is_some(), "what runs is not called gone");
        world.crash("web", "app", 137);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}

#[test]
fn what_runs_twice_is_brought_back_to_one() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        // As if somebody had restored a checkpoint: an older twin in the same sandbox, and a second sandbox.
        let seen = world.runtime.pod("web").expect("there");
        let (sandbox, container) = (seen.sandboxes.first().expect("one").clone(), seen.containers.first().expect("one").clone());
        world.runtime.put_container(&pod, runtime::Container { id: "twin".into(), restart_count: 7, ..container.clone() });
        sleep(MINUTE).await;
        let alive = || world.runtime.pods().iter().flat_map(|p| &p.containers).filter(|c| c.phase == ContainerPhase::Running).count();
        assert_eq!(alive(), 1);
        world.runtime.put_sandbox(&pod, runtime::Sandbox { id: "double".into(), attempt: 5, ..sandbox });
        sleep(MINUTE).await;
        let ready = world.runtime.pod("web").map(|p| p.sandboxes.iter().filter(|s| s.ready).count());
        assert_eq!((alive(), ready), (1, Some(1)));
        assert!(world.is_ready("web"));
        world.delete(&pod, 30);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}

#[test]
fn a_changed_definition_restarts_that_container_alone() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let spec = |image: &str| json!([{"name": "app", "image": image}, {"name": "other", "image": "app:1"}]);
        world.put_pod("web", json!({"containers": spec("app:1")}));
        world.until_ready("web").await;
        let other = world.runtime.running("web", "other").map(|c| c.id);
        let mut object = world.object("web").expect("there");
        let containers = serde_json::from_value(spec("app:2")).expect("containers");
        object.spec.as_mut().expect("a spec").containers = containers;
        object.metadata.generation = Some(2);
        world.api.put_pod(object);
        world.until("the new image runs", MINUTE, || world.runtime.running("web", "app").is_some_and(|c| c.image == "app:2")).await;
        world.until("it is told", S, || world.is_ready("web") && world.restarts("web", "app") == 1).await;
        assert_eq!(world.runtime.running("web", "other").map(|c| c.id), other);
        world.check();
    });
}

#[test]
fn sidecars_come_first_and_end_with_the_others() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("job", &[Life::exits(20 * S, 0)]);
        let init = json!([{"name": "side", "image": "app:1", "restartPolicy": "Always"}, {"name": "init", "image": "slow:1"}]);
        world.runtime.image_is("slow:1", kubelet_rs::runtime::fake::Store::Registry(3 * S));
        world.runtime.script("init", &[Life::exits(S, 0)]);
        let job = json!([{"name": "job", "image": "app:1"}]);
        let pod = world.put_pod("web", json!({"initContainers": init, "containers": job, "restartPolicy": "Never"}));
        world.until("the sidecar runs", S, || world.runtime.running("web", "side").is_some()).await;
        assert_eq!((world.runtime.starts("web", "init"), world.runtime.starts("web", "job")), (0, 0));
        world.until_ready("web").await;
        world.crash("web", "side", 1);
        world.until("a sidecar is restarted whatever the pod's policy", S, || world.runtime.running("web", "side").is_some()).await;
        world.until("success", MINUTE, || world.phase("web") == "Succeeded").await;
        assert!(world.runtime.running("web", "side").is_none());
        assert_eq!(["side", "init", "job"].map(|c| world.runtime.starts("web", c)), [2, 1, 1]);
        world.delete(&pod, 30);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}

#[test]
fn many_sandboxes_leave_no_pile_of_records() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("web", app());
        for n in 1..=12 {
            world.until_ready("web").await;
            world.runtime.kill_sandbox("web");
            world.until("it is up again", 10 * MINUTE, || world.runtime.starts("web", "app") > n && world.is_ready("web")).await;
        }
        sleep(5 * MINUTE).await;
        let seen = world.runtime.pod("web").expect("there");
        assert!(seen.sandboxes.len() <= 2 && seen.containers.len() <= 2, "{} {}", seen.sandboxes.len(), seen.containers.len());
        assert_eq!(world.restarts("web", "app"), 12);
        world.check();
    });
}
