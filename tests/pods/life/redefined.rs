//! Pods whose definition, volumes or images change under them.

use k8s_openapi::api::node::v1::RuntimeClass;
use kubelet_rs::runtime::fake::{Life, Store};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, app, run};

/// `kubectl set image`.
fn set_image(world: &World, pod: &str, image: &str) {
    let mut object = world.object(pod).expect("there");
    let containers = &mut object.spec.as_mut().expect("a spec").containers;
    containers[0].image = Some(image.to_owned());
    world.api.put_pod(object);
}

#[test]
fn a_better_image_is_tried_at_once() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.image_is("bad:1", Store::Nowhere("no such image".into()));
        world.put_pod("pull", json!({"containers": [{"name": "app", "image": "bad:1"}]}));
        world.runtime.script("app", &[Life::exits(S, 1)]);
        world.put_pod("crash", app());
        sleep(6 * MINUTE).await;
        assert_eq!([world.waiting("pull", "app"), world.waiting("crash", "app")], ["ImagePullBackOff", "CrashLoopBackOff"]);
        world.runtime.script("app", &[Life::RUNS]);
        for pod in ["pull", "crash"] {
            set_image(&world, pod, "good:1");
            assert!(world.until_ready(pod).await < 5 * S, "{pod}");
        }
        world.check();
    });
}

#[test]
fn a_new_definition_takes_the_place_of_the_old_one_whatever_the_policy() {
    for policy in ["Never", "OnFailure", "Always"] {
        run(async {
            let world = World::new();
            let _agent = world.start();
            let pod = world.put_pod("web", json!({"containers": [{"name": "app", "image": "app:1"}], "restartPolicy": policy}));
            world.until_ready("web").await;
            set_image(&world, "web", "app:2");
            world.until("the new one runs", MINUTE, || world.runtime.starts("web", "app") == 2 && world.is_ready("web")).await;
            assert_eq!((world.restarts("web", "app"), world.phase("web").as_str()), (1, "Running"), "{policy}");
            world.delete(&pod, 30);
            world.until_gone("web").await;
            world.check_empty().await;
        });
    }
}

#[test]
fn containers_restart_with_what_a_volume_had_when_its_source_was_deleted() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_config_map("conf");
        let volume = json!([{"name": "conf", "configMap": {"name": "conf"}}]);
        world.put_pod("web", json!({"containers": [{"name": "app", "image": "app:1"}], "volumes": volume}));
        world.until_ready("web").await;
        world.api.remove_config_map("default", "conf");
        sleep(5 * MINUTE).await;
        assert!(world.is_ready("web") && world.events("web").contains(&"FailedMount".to_owned()));
        world.crash("web", "app", 1);
        let took = world.until("it runs again", MINUTE, || world.runtime.starts("web", "app") == 2 && world.is_ready("web")).await;
        assert!(took < 5 * S, "{took:?}");
        world.check();
    });
}

#[test]
fn one_image_that_is_slow_holds_up_no_other_container() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.image_is("slow:1", Store::Registry(10 * MINUTE));
        world.put_pod("web", json!({"containers": [{"name": "app", "image": "app:1"}, {"name": "late", "image": "slow:1"}]}));
        world.until("the first one runs", 5 * S, || world.runtime.running("web", "app").is_some()).await;
        world.until("both run", 11 * MINUTE, || world.is_ready("web")).await;
        world.check();
    });
}

#[test]
fn a_container_that_the_runtime_forgot_is_counted_and_runs_twice_only_where_it_may() {
    for (policy, starts, phase) in [("Never", 1, "Failed"), ("Always", 2, "Running")] {
        run(async {
            let world = World::new();
            let _agent = world.start();
            let pod = world.put_pod("web", json!({"containers": [{"name": "app", "image": "app:1"}], "restartPolicy": policy}));
            world.until_ready("web").await;
            world.runtime.forget_containers("web");
            world
                .until("it is as it should be", 2 * MINUTE, || {
                    world.runtime.starts("web", "app") == starts && world.phase("web") == phase && (starts == 1 || world.is_ready("web"))
                })
                .await;
            sleep(2 * MINUTE).await;
            assert_eq!((world.runtime.starts("web", "app"), world.phase("web").as_str()), (starts, phase));
            assert_eq!(world.restarts("web", "app"), 1, "{policy}");
            world.delete(&pod, 30);
            world.until_gone("web").await;
            world.check_empty().await;
        });
    }
}

#[test]
fn a_pod_without_its_volumes_is_not_ready_to_start_containers() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let volume = json!([{"name": "conf", "configMap": {"name": "conf"}}]);
        world.put_pod("web", json!({"containers": [{"name": "app", "image": "app:1"}], "volumes": volume}));
        sleep(10 * S).await;
        let holds = || {
            let status = world.status("web");
            let found = status.conditions.into_iter().flatten().find(|c| c.type_ == "PodReadyToStartContainers");
            found.map(|c| c.status).unwrap_or_default()
        };
        assert_eq!(holds(), "False");
        world.put_config_map("conf");
        world.until_ready("web").await;
        assert_eq!(holds(), "True");
        world.check();
    });
}

#[test]
fn a_runtime_class_is_looked_up() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("web", json!({"containers": [{"name": "app", "image": "app:1"}], "runtimeClassName": "gvisor"}));
        sleep(10 * S).await;
        assert!(world.events("web").contains(&"FailedCreatePodSandBox".to_owned()));
        let class = json!({"metadata": {"name": "gvisor"}, "handler": "runsc"});
        world.api.put_runtime_class(serde_json::from_value::<RuntimeClass>(class).expect("a class"));
        world.until_ready("web").await;
        assert_eq!(world.runtime.handlers(), ["runsc"]);
        world.check();
    });
}

/// No timer reaches so far; the API server takes both.
#[test]
fn a_grace_period_of_ages_breaks_nothing() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let spec = json!({"containers": [{"name": "app", "image": "app:1"}], "terminationGracePeriodSeconds": i64::MAX});
        let pod = world.put_pod("web", spec);
        world.until_ready("web").await;
        world.delete(&pod, 100_000_000_000);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}

#[test]
fn a_status_tells_which_mounts_are_read_only_with_everything_below() {
    run(async {
        let world = World::new();
        let agent = world.start();
        let mount = |path: &str, mode: &str| json!({"name": "data", "mountPath": path, "readOnly": true, "recursiveReadOnly": mode});
        let mounts =
            json!([mount("/a", "Enabled"), mount("/b", "IfPossible"), mount("/c", "Disabled"), {"name": "data", "mountPath": "/d"}]);
        world.put_pod(
            "web",
            json!({"containers": [{"name": "app", "image": "app:1", "volumeMounts": mounts}], "volumes": [{"name": "data", "emptyDir": {}}]}),
        );
        world.until_ready("web").await;
        let told = || {
            let mounts = world.container("web", "app").volume_mounts.expect("told");
            mounts.into_iter().map(|m| m.recursive_read_only).collect::<Vec<_>>()
        };
        let want = [Some("Enabled".to_owned()), Some("Enabled".to_owned()), Some("Disabled".to_owned()), None];
        assert_eq!(told(), want);
        agent.kill().await;
        let _agent = world.start();
        sleep(MINUTE).await;
        assert_eq!(told(), want);
    });
}
