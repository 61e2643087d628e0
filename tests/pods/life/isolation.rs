//! One pod that is stuck never holds up another one.

use kubelet_rs::runtime::fake::Store;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, app, run};

/// A pod comes and goes, as fast as ever.
async fn comes_and_goes(world: &World, name: &str) {
    let good = world.put_pod(name, app());
    let up = world.until_ready(name).await;
    assert!(up < S, "{name} had to wait {up:?}");
    world.crash(name, "app", 1);
    let again = world.until("a restart", MINUTE, || world.restarts(name, "app") == 1 && world.is_ready(name)).await;
    assert!(again < S, "{name} had to wait {again:?}");
    world.delete(&good, 30);
    let down = world.until_gone(name).await;
    assert!(down < S, "{name} had to wait {down:?}");
}

#[test]
fn a_hung_call_to_the_runtime() {
    let on_the_way_up = ["run_sandbox", "sandbox", "create_container", "start_container", "container"];
    let on_the_way_down = ["stop_container", "container", "stop_sandbox", "remove_sandbox"];
    for (calls, down) in [(&on_the_way_up[..], false), (&on_the_way_down[..], true)] {
        for call in calls {
            run(async {
                let world = World::new();
                let _agent = world.start();
                let bad = if down {
                    let bad = world.put_pod("bad", app());
                    world.until_ready("bad").await;
                    world.runtime.hold(call, "bad");
                    world.delete(&bad, 30);
                    bad
                } else {
                    world.runtime.hold(call, "bad");
                    world.put_pod("bad", app())
                };
                sleep(S).await;
                comes_and_goes(&world, "good").await;
                sleep(3 * MINUTE).await;
                comes_and_goes(&world, "better").await;
                world.runtime.release(call, "bad");
                if !down {
                    world.until_ready("bad").await;
                    world.delete(&bad, 30);
                }
                world.until_gone("bad").await;
                world.check_empty().await;
            });
        }
    }
}

#[test]
fn a_hung_look_at_a_pod() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let bad = world.put_pod("bad", app());
        world.until_ready("bad").await;
        world.runtime.hold("observe_pod", "bad");
        world.crash("bad", "app", 1);
        sleep(S).await;
        comes_and_goes(&world, "good").await;
        world.runtime.release("observe_pod", "bad");
        world.until("the crash is noticed in the end", 3 * MINUTE, || world.restarts("bad", "app") == 1).await;
        world.delete(&bad, 30);
        world.until_gone("bad").await;
        world.check_empty().await;
    });
}

#[test]
fn a_hung_list_of_all_pods() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("first", app());
        world.until_ready("first").await;
        for _ in 0..3 {
            world.injector.hang("runtime", "list_pods");
        }
        sleep(MINUTE).await;
        comes_and_goes(&world, "good").await;
        sleep(MINUTE).await;
        comes_and_goes(&world, "better").await;
        world.check();
    });
}

#[test]
fn a_hung_image_pull() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.image_is("silent:1", Store::Silent);
        let bad = world.put_pod("bad", json!({"containers": [{"name": "app", "image": "silent:1"}]}));
        sleep(S).await;
        comes_and_goes(&world, "good").await;
        sleep(10 * MINUTE).await;
        comes_and_goes(&world, "better").await;
        world.delete(&bad, 30);
        assert!(world.until_gone("bad").await < S);
        world.check_empty().await;
    });
}

#[test]
fn hung_volumes_and_cgroups() {
    for (room, call, down) in
        [("volumes", "set_up", false), ("cgroups", "set_up", false), ("volumes", "tear_down", true), ("cgroups", "tear_down", true)]
    {
        run(async {
            let world = World::new();
            let agent = world.start();
            let bad = world.put_pod("bad", app());
            if down {
                world.until_ready("bad").await;
            }
            world.injector.hang(room, call);
            if down {
                world.delete(&bad, 30);
            }
            sleep(S).await;
            comes_and_goes(&world, "good").await;
            sleep(MINUTE).await;
            comes_and_goes(&world, "better").await;
            world.delete(&bad, 30);
            sleep(MINUTE).await;
            comes_and_goes(&world, "best").await;
            // What hangs in the kernel is beyond the agent; another one finds the rest.
            agent.kill().await;
            world.injector.restart();
            let _agent = world.start();
            world.until_gone("bad").await;
            world.check_empty().await;
        });
    }
}

#[test]
fn a_pod_that_nothing_can_be_made_of() {
    // A token that is as good as expired when it comes, as when the clocks of server and node disagree.
    let hasty = json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 1}}]}});
    let table = [
        json!({"containers": [{"name": "app", "image": "UPPER:1"}]}),
        json!({"containers": [{"name": "app"}]}),
        json!({"containers": []}),
        json!({"containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "none", "mountPath": "/x"}]}]}),
        json!({"containers": [{"name": "app", "image": "app:1"}], "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}),
        json!({"containers": [{"name": "app", "image": "app:1"}], "volumes": [{"name": "v", "hostPath": {"path": "relative/../up"}}]}),
        json!({"containers": [{"name": "app", "image": "app:1"}], "hostname": "not a name"}),
        json!({"containers": [{"name": "app", "image": "app:1"}], "volumes": [hasty]}),
        json!({"containers": [{"name": "../../up", "image": "app:1"}]}),
        json!({"containers": [{"name": "app", "image": "app:1", "volumeDevices": [{"name": "v", "devicePath": "/d"}]}]}),
    ];
    for spec in table {
        run(async {
            let world = World::new();
            let _agent = world.start();
            let bad = world.put_pod("bad", spec.clone());
            sleep(S).await;
            comes_and_goes(&world, "good").await;
            sleep(5 * MINUTE).await;
            let calls = world.injector.calls().len();
            assert!(calls < 600, "{calls} calls in five minutes for {spec}");
            world.delete(&bad, 30);
            assert!(world.until_gone("bad").await < 3 * S, "{spec}");
            assert!(!world.root().join("pods/up").exists());
            world.check_empty().await;
        });
    }
}
