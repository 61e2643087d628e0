//! The API server or the runtime is away, or says nonsense, or forgets to say something.

use kubelet_rs::runtime::ErrorKind;
use kubelet_rs::runtime::fake::Life;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, app, run};

/// A pod that needs the API server for its volumes and its environment.
fn needy() -> Value {
    let key = json!({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "a"}}});
    let token = json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}, "name": "token"});
    json!({
        "containers": [{"name": "app", "image": "app:1", "env": [key]}],
        "volumes": [{"name": "conf", "configMap": {"name": "conf"}}, token],
    })
}

#[test]
fn pods_live_on_without_the_api_server_and_everything_catches_up() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_config_map("conf");
        for name in ["crashes", "goes", "vanishes", "stays"] {
            world.put_pod(name, needy());
        }
        for name in ["crashes", "goes", "vanishes", "stays"] {
            world.until_ready(name).await;
        }
        let id = |name| world.runtime.running(name, "app").expect("it runs").id;
        let (stays, goes) = (id("stays"), id("goes"));
        let known = |name| world.object(name).map(|p| kubelet_rs::model::PodRef::of(&p)).expect("there");
        let (gone, vanished) = (known("goes"), known("vanishes"));

        world.api.go_away();
        sleep(10 * S).await;
        world.crash("crashes", "app", 1);
        assert!(world.until("a restart", MINUTE, || world.runtime.running("crashes", "app").is_some()).await < S);
        world.delete(&gone, 30);
        world.delete(&vanished, 0);
        world.put_pod("comes", app());
        sleep(3 * MINUTE).await;
        world.crash("crashes", "app", 1);
        assert!(world.until("a restart", MINUTE, || world.runtime.running("crashes", "app").is_some()).await <= 11 * S);
        sleep(MINUTE).await;
        assert_eq!((id("stays"), id("goes")), (stays.clone(), goes));
        assert_eq!(world.restarts("crashes", "app"), 0, "nobody could tell");
        let calls = world.injector.calls().len();
        assert!(calls < 1000, "{calls} calls");

        world.api.come_back();
        let known = || world.restarts("crashes", "app") == 2 && world.is_ready("crashes") && world.is_ready("comes");
        let took = world.until("all is told", MINUTE, known).await;
        assert!(took <= 11 * S, "{took:?}");
        world.until_gone("goes").await;
        sleep(MINUTE).await;
        assert!(world.runtime.pod("vanishes").is_none());
        assert_eq!(id("stays"), stays);
        world.check();
    });
}

#[test]
fn an_agent_that_starts_without_the_api_server_touches_nothing() {
    run(async {
        let world = World::new();
        let agent = world.start();
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        agent.kill().await;
        world.injector.restart();
        world.api.go_away();
        let _agent = world.start();
        sleep(5 * MINUTE).await;
        assert!(world.changes().is_empty(), "{:?}", world.changes());
        // What ends before the API server is back must be noticed as soon as it is.
        world.crash("web", "app", 1);
        sleep(S).await;
        world.api.come_back();
        let took = world.until("a restart", 5 * MINUTE, || world.runtime.running("web", "app").is_some()).await;
        assert!(took < S, "{took:?}");
        world.delete(&pod, 30);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}

#[test]
fn nothing_is_doubled_or_lost_while_the_runtime_is_away() {
    let absences = [
        ErrorKind::Unavailable("no socket".into()),
        ErrorKind::Failed("panic: runtime error".into()),
        ErrorKind::Garbage("an empty id".into()),
        ErrorKind::NotFound("no such thing".into()),
        ErrorKind::Unimplemented,
    ];
    for kind in absences {
        run(async {
            let world = World::new();
            let _agent = world.start();
            for name in ["crashes", "goes", "stays"] {
                world.put_pod(name, app());
                world.until_ready(name).await;
            }
            let id = |name| world.runtime.running(name, "app").map(|c| c.id);
            let (stays, goes) = (id("stays"), world.runtime.pod("goes").expect("there").pod);
            world.runtime.go_away(kind.clone());
            world.crash("crashes", "app", 1);
            world.put_pod("comes", app());
            world.delete(&goes, 30);
            sleep(3 * MINUTE).await;
            assert!(world.is_ready("stays"), "what can't be asked goes on as it was");
            let calls = world.injector.calls().len();
            assert!(calls < 1500, "{calls} calls in three minutes");
            world.runtime.come_back();
            world.until("all is well", 2 * MINUTE, || world.is_ready("crashes") && world.is_ready("comes")).await;
            world.until_gone("goes").await;
            assert_eq!((id("stays"), world.runtime.starts("crashes", "app"), world.runtime.starts("comes", "app")), (stays, 2, 1));
            assert_eq!((world.restarts("crashes", "app"), world.restarts("comes", "app")), (1, 0));
            world.check();
        });
    }
}

#[test]
fn a_lost_hint_is_made_up_for_within_a_minute() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        for name in ["a", "b", "c"] {
            world.put_pod(name, app());
            world.until_ready(name).await;
        }
        world.runtime.lose_hints(true);
        world.crash("a", "app", 1);
        world.runtime.kill_sandbox("b");
        let took = world
            .until("both are up", 5 * MINUTE, || world.is_ready("b") && ["a", "b"].iter().all(|n| world.restarts(n, "app") == 1))
            .await;
        assert!(took <= 62 * S, "{took:?}");
        assert_eq!(world.runtime.starts("c", "app"), 1);
        world.check();
    });
}

/// What happens between the agent's first list and the moment when it knows what to do.
#[test]
fn nothing_is_missed_while_the_agent_starts() {
    run(async {
        let world = World::new();
        let agent = world.start();
        world.put_pod("web", app());
        world.until_ready("web").await;
        agent.kill().await;
        world.injector.restart();
        // The list is made, but its answer takes a while.
        world.runtime.slow("list_pods", std::time::Duration::ZERO, 2 * S);
        let _agent = world.start();
        sleep(S).await;
        world.crash("web", "app", 1);
        sleep(2 * S).await;
        world.until("the crash is noticed", 5 * S, || world.restarts("web", "app") == 1 && world.is_ready("web")).await;
        world.check();
    });
}

#[test]
fn a_sandbox_that_dies_is_replaced_with_all_that_was_in_it() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        let containers = json!([{"name": "app", "image": "app:1"}, {"name": "done", "image": "app:1"}]);
        world.runtime.script("done", &[Life::exits(S, 0)]);
        world.runtime.script("init", &[Life::exits(S, 0)]);
        let init = json!([{"name": "init", "image": "app:1"}]);
        let pod = world.put_pod("web", json!({"containers": containers, "initContainers": init, "restartPolicy": "OnFailure"}));
        world.until("all is done", MINUTE, || world.runtime.starts("web", "done") == 1).await;
        sleep(5 * S).await;
        let old = world.status("web").pod_ip;
        world.runtime.kill_sandbox("web");
        world.until("it is up again", MINUTE, || world.runtime.starts("web", "app") == 2 && world.restarts("web", "app") == 1).await;
        assert_eq!(["init", "done"].map(|c| world.runtime.starts("web", c)), [2, 1], "what is done stays done");
        world.until("its new address is told", S, || world.status("web").pod_ip != old).await;
        world.delete(&pod, 30);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}

#[test]
fn a_pod_that_restarts_nothing_begins_anew_when_its_sandbox_dies_between_its_containers() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("init", &[Life::exits(2 * S, 0)]);
        let init = json!([{"name": "init", "image": "app:1"}]);
        let spec = json!({"containers": [{"name": "app", "image": "app:1"}], "initContainers": init, "restartPolicy": "Never"});
        let pod = world.put_pod("web", spec);
        world.until("its init container runs", S, || world.runtime.running("web", "init").is_some()).await;
        world.runtime.refuse("create_container", true);
        sleep(5 * S).await;
        world.runtime.kill_sandbox("web");
        world.runtime.refuse("create_container", false);
        // Upstream leaves it Pending until somebody deletes it; whoever waits for its end would wait for ever.
        world.until("it runs", 2 * MINUTE, || world.phase("web") == "Running").await;
        assert_eq!(["init", "app"].map(|c| world.runtime.starts("web", c)), [2, 1]);
        world.delete(&pod, 30);
        world.until_gone("web").await;
        world.check_empty().await;
    });
}
