//! A full node, and what a restart of the agent costs it.

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, app, run};

const PODS: usize = 110;

fn name(n: usize) -> String {
    format!("web-{n}")
}

/// A pod as most are: with a token and the cluster's certificate.
fn usual() -> Value {
    let sources = json!([{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}}]);
    json!({"containers": [{"name": "app", "image": "app:1"}], "volumes": [{"name": "token", "projected": {"sources": sources}}]})
}

async fn full(world: &World) {
    world.put_config_map("kube-root-ca.crt");
    let pods: Vec<_> = (0..PODS).map(|n| world.put_pod(&name(n), usual())).collect();
    world.until("all are ready", MINUTE, || (0..PODS).all(|n| world.is_ready(&name(n)))).await;
    assert_eq!(pods.len(), PODS);
}

#[test]
fn a_full_node_comes_up_at_once_and_goes_at_once() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        full(&world).await;
        assert!((0..PODS).all(|n| world.runtime.starts(&name(n), "app") == 1));
        let patches = world.injector.count("api", "patch_pod_status");
        assert!(patches <= 3 * PODS, "{patches} patches");
        let reads = world.injector.count("api", "config_map");
        assert!(reads <= 5, "{reads} reads of one ConfigMap");
        for pod in world.runtime.pods() {
            world.delete(&pod.pod, 30);
        }
        world.until("all are gone", MINUTE, || world.api.pods().is_empty()).await;
        world.check_empty().await;
    });
}

#[test]
fn a_restart_touches_nothing_that_is_well() {
    run(async {
        let world = World::new();
        let agent = world.start();
        full(&world).await;
        sleep(2 * MINUTE).await;
        let (before, objects) = (world.runtime.pods(), world.api.pods());
        agent.kill().await;
        world.injector.restart();
        let agent = world.start();
        sleep(MINUTE).await;
        assert!(*agent.synced.borrow());
        let tokens = |c: &String| c == "api.service_account_token" || c == "volumes.set_up";
        let changes: Vec<_> = world.changes().into_iter().filter(|c| !tokens(c)).collect();
        assert!(changes.is_empty(), "{changes:?}");
        let looks = world.injector.count("runtime", "observe_pod");
        assert!(looks <= PODS, "{looks} looks at single pods");
        sleep(10 * MINUTE).await;
        assert_eq!(world.runtime.pods(), before);
        assert_eq!(world.api.pods(), objects);
        world.check();
    });
}

/// Nothing happens: the agent sleeps.
#[test]
fn an_idle_full_node_costs_next_to_nothing() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        full(&world).await;
        sleep(5 * MINUTE).await;
        let before = world.injector.calls().len();
        sleep(10 * MINUTE).await;
        let calls = world.injector.calls();
        let count = |name: &str| calls.iter().skip(before).filter(|c| c.name == name).count();
        assert!(count("list_pods") <= 11, "{} lists in ten minutes", count("list_pods"));
        assert_eq!(["observe_pod", "container", "sandbox", "patch_pod_status"].map(count), [0; 4]);
        assert!(count("set_up") <= 12 * PODS, "{} set-ups in ten minutes", count("set_up"));
    });
}

#[test]
fn what_nobody_wants_is_cleaned_up_at_the_start() {
    run(async {
        let world = World::new();
        let agent = world.start();
        world.put_config_map("kube-root-ca.crt");
        let (gone, kept) = (world.put_pod("gone", usual()), world.put_pod("kept", usual()));
        world.until_ready("gone").await;
        world.until_ready("kept").await;
        let id = world.runtime.running("kept", "app").map(|c| c.id);
        agent.kill().await;
        world.injector.restart();
        world.api.request_deletion("default", "gone", 0);
        // Of a third pod, only a directory is left.
        std::fs::create_dir_all(world.root().join("pods/uid-of-old/volumes/kubernetes.io~empty-dir/v")).expect("made");
        let _agent = world.start();
        world.until("it is gone", MINUTE, || world.runtime.pods().iter().all(|p| p.pod.uid != gone.uid)).await;
        sleep(5 * S).await;
        assert_eq!(world.runtime.running("kept", "app").map(|c| c.id), id);
        let left = world.leftovers().await;
        let of_kept = |l: &&String| l.contains(kept.uid.as_str()) || l.contains("kept");
        assert_eq!(left.iter().filter(|l| !of_kept(l)).count(), 0, "{left:?}");
        world.delete(&kept, 30);
        world.until_gone("kept").await;
        world.check_empty().await;
    });
}

#[test]
fn statuses_are_written_together() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("web", app());
        world.until_ready("web").await;
        let patches = || world.injector.count("api", "patch_pod_status");
        sleep(5 * S).await;
        assert!(patches() <= 2, "{} patches for a start", patches());

        // The server is slow: what happens meanwhile is told in one piece.
        let before = patches();
        world.injector.hang("api", "patch_pod_status");
        world.crash("web", "app", 1);
        world.until("a restart", S, || world.runtime.running("web", "app").is_some()).await;
        sleep(S).await;
        world.crash("web", "app", 2);
        world.until("the second restart is told", MINUTE, || world.restarts("web", "app") == 2 && world.is_ready("web")).await;
        assert!(patches() - before <= 5, "{} patches", patches() - before);
        world.check();
    });
}

/// Beside what a bare client would call, a pod's way up costs one look at the image, one at each of what was made, and one at the end.
#[test]
fn a_pod_costs_few_calls() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        sleep(S).await;
        // Hints come while the calls are under way.
        ["run_sandbox", "create_container", "start_container", "stop_container"]
            .iter()
            .for_each(|c| world.runtime.slow(c, S / 20, S / 100));
        let calls = || world.injector.calls().into_iter().filter(|c| c.room == "runtime").map(|c| c.name).collect::<Vec<_>>();
        let before = calls().len();
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        sleep(S).await;
        let up = ["run_sandbox", "image", "sandbox", "create_container", "start_container", "container", "observe_pod"];
        assert_eq!(calls().get(before..), Some(&up[..]));
        let before = calls().len();
        world.delete(&pod, 30);
        world.until_gone("web").await;
        sleep(2 * S).await;
        // At the end, the runtime speaks of a pod that nobody knows any more: it might be one that was forgotten too soon.
        let down = ["stop_container", "container", "stop_sandbox", "observe_pod", "stop_sandbox", "remove_sandbox", "observe_pod"];
        assert_eq!(calls().get(before..), Some(&down[..]));
    });
}
