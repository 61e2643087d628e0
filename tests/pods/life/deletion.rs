//! Ways for a pod to go.

use kubelet_rs::runtime::fake::{Life, Store};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, app, run};

#[test]
fn a_container_gets_its_grace_and_no_more() {
    for (grace, wait) in [(30, 30), (7, 7), (1, 2)] {
        run(async {
            let world = World::new();
            let _agent = world.start();
            world.runtime.script("app", &[Life::STUBBORN]);
            let pod = world.put_pod("web", app());
            world.until_ready("web").await;
            world.delete(&pod, grace);
            assert_eq!(world.until_gone("web").await.as_secs(), wait);
            world.check_empty().await;
        });
    }
}

#[test]
fn a_second_deletion_shortens_the_grace() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[Life::STUBBORN]);
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        world.delete(&pod, 60);
        sleep(10 * S).await;
        world.delete(&pod, 5);
        assert_eq!(world.until_gone("web").await.as_secs(), 5);
        world.check_empty().await;
    });
}

#[test]
fn a_forced_deletion_frees_the_name_at_once_and_the_node_soon() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let mut spec = app();
        spec["terminationGracePeriodSeconds"] = json!(20);
        world.runtime.script("app", &[Life::STUBBORN]);
        let old = world.put_pod("web", spec.clone());
        world.until_ready("web").await;
        world.delete(&old, 0);
        assert!(world.object("web").is_none());
        let new = world.put_pod("web", spec);
        world.until_ready("web").await;
        let both = || world.runtime.pods().into_iter().map(|p| p.pod.uid).collect::<Vec<_>>();
        assert_eq!(both().len(), 2, "the old one is still on its way out");
        world.until("only the new one is left", 25 * S, || both() == [new.uid.clone()]).await;
        assert!(world.is_ready("web"), "the old one's end is not written to its namesake");
        world.delete(&new, 0);
        sleep(MINUTE).await;
        world.check_empty().await;
    });
}

#[test]
fn a_pod_can_go_at_any_time_of_its_start() {
    let calls = ["run_sandbox", "sandbox", "create_container", "start_container", "container"];
    let volume = json!([{"name": "v", "configMap": {"name": "never"}}]);
    for grace in [0, 30] {
        for (before, after) in [(3, 0), (0, 3), (40, 0), (0, 40)] {
            for call in calls {
                run(async {
                    let world = World::new();
                    let _agent = world.start();
                    world.runtime.slow(call, before * S, after * S);
                    let pod = world.put_pod("web", app());
                    sleep(S).await;
                    world.delete(&pod, grace);
                    let gone = world.until_gone("web").await;
                    assert!(gone <= 55 * S, "{call} {before} {after}: {gone:?}");
                    world.runtime.slow(call, S / 1000, S / 1000);
                    world.check_empty().await;
                    assert!(world.runtime.starts("web", "app") <= 1, "{call} {before} {after}");
                });
            }
        }
        run(async {
            let world = World::new();
            let _agent = world.start();
            world.runtime.image_is("app:1", Store::Silent);
            world.runtime.image_is("none:1", Store::Nowhere("no".into()));
            let silent = world.put_pod("silent", app());
            let failing = world.put_pod("failing", json!({"containers": [{"name": "app", "image": "none:1"}]}));
            let waiting = world.put_pod("waiting", json!({"containers": [{"name": "app", "image": "here:1"}], "volumes": volume}));
            sleep(20 * S).await;
            for pod in [silent, failing, waiting] {
                world.delete(&pod, grace);
                assert!(world.until_gone(&pod.name).await < S);
            }
            world.check_empty().await;
        });
    }
}

#[test]
fn all_containers_get_their_grace_at_the_same_time() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let names = ["a", "b", "c"];
        names.iter().for_each(|n| world.runtime.script(n, &[Life::STUBBORN]));
        let containers: Vec<_> = names.iter().map(|n| json!({"name": n, "image": "app:1"})).collect();
        let pod = world.put_pod("web", json!({"containers": containers}));
        world.until_ready("web").await;
        world.delete(&pod, 10);
        assert_eq!(world.until_gone("web").await.as_secs(), 10);
        world.check_empty().await;
    });
}

/// The container ends on its own terms while it is being stopped: its own exit code is what counts.
#[test]
fn the_last_status_tells_how_containers_ended() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[Life { after_term: Some(4 * S), ..Life::RUNS }]);
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        world.delete(&pod, 30);
        world.until("it is seen going", 4 * S, || world.object("web").is_some_and(|p| p.metadata.deletion_timestamp.is_some())).await;
        sleep(3 * S).await;
        assert!(world.runtime.running("web", "app").is_some() && world.is_ready("web"), "what runs is ready");
        let gone = async {
            world.until_gone("web").await;
        };
        let last = crate::world::last_status(&world, "web", gone).await.expect("a status");
        let end = last.container_statuses.into_iter().flatten().next().and_then(|c| c.state).and_then(|s| s.terminated);
        assert_eq!((end.map(|e| e.exit_code), last.phase.as_deref()), (Some(143), Some("Failed")));
        world.check_empty().await;
    });
}
