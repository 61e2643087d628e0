//! The agent is killed at every call that leaves it, once before the call's effect and once after it, and started again: a pod's life
//! goes on to its end, and nothing is doubled, lost or leaked.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kubelet_rs::api::{Api, WatchEvent};
use kubelet_rs::inject::Crash;
use kubelet_rs::runtime::fake::Life;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, run};

/// Starts agents, one after the other has died. Never ends.
async fn keep_alive(world: &World) {
    loop {
        let agent = world.start();
        world.injector.crashed().await;
        agent.kill().await;
        world.injector.restart();
    }
}

/// All statuses that a pod ever had in the API server.
async fn record(world: &World, statuses: &std::sync::Mutex<Vec<PodStatus>>) {
    let mut watch = world.api.watch_pods();
    while let Some(event) = watch.next().await {
        if let WatchEvent::Applied(Pod { status: Some(status), .. }) = event {
            statuses.lock().expect("nobody panicked").push(status);
        }
    }
}

/// Lives a life with a kill at each call in turn. The number of kill points must be plausible, or the test tests nothing.
fn at_every_call(least: usize, prepare: impl Fn(&World), life: impl AsyncFn(&World), check: impl Fn(&World, &[PodStatus])) {
    for when in [Crash::Before, Crash::After] {
        let mut number = 0;
        while run(once(number, when, &prepare, &life, &check)) {
            number += 1;
            assert!(number < 1000, "the life has no end");
        }
        assert!(number >= least, "only {number} calls: is the agent doing anything?");
        println!("{number} kill points, {when:?} the effect");
    }
}

/// Tells which kill made a test fail.
struct Where(usize, Crash);

impl Drop for Where {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("killed at call {}, {:?} its effect", self.0, self.1);
        }
    }
}

/// Whether the agent died.
async fn once(
    number: usize,
    when: Crash,
    prepare: &impl Fn(&World),
    life: &impl AsyncFn(&World),
    check: &impl Fn(&World, &[PodStatus]),
) -> bool {
    let _where = Where(number, when);
    let world = World::new();
    let statuses = std::sync::Mutex::default();
    let died = std::cell::Cell::new(false);
    prepare(&world);
    world.injector.crash_at(number, when);
    let live = async {
        life(&world).await;
        world.check_empty().await;
    };
    let notice = async {
        world.injector.crashed().await;
        died.set(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = keep_alive(&world) => {}
        () = record(&world, &statuses) => {}
        () = notice => {}
        () = live => {}
    }
    let statuses = statuses.into_inner().expect("nobody panicked");
    check_order(&statuses);
    check(&world, &statuses);
    died.get()
}

/// What may never go back: restart counts and terminal phases, and a pod that ran is not pending again.
fn check_order(statuses: &[PodStatus]) {
    let rank = |s: &PodStatus| match s.phase.as_deref() {
        Some("Running") => 1,
        Some("Succeeded" | "Failed") => 2,
        _ => 0,
    };
    let count = |s: &PodStatus| -> Vec<(String, i32)> {
        let lists = [&s.container_statuses, &s.init_container_statuses];
        let mut counts: Vec<_> = lists.into_iter().flatten().flatten().map(|c| (c.name.clone(), c.restart_count)).collect();
        counts.sort();
        counts
    };
    for pair in statuses.windows(2) {
        let [old, new] = pair else { continue };
        assert!(rank(old) <= rank(new), "{:?} after {:?}", new.phase, old.phase);
        let (before, after) = (count(old), count(new));
        for (name, count) in before {
            let now = after.iter().find(|(n, _)| *n == name).map(|(_, c)| *c);
            assert!(now.is_some_and(|now| now >= count), "restarts of {name}: {now:?} after {count}");
        }
    }
}

fn exit_code(status: &PodStatus, container: &str) -> Option<i32> {
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let found = lists.into_iter().flatten().flatten().find(|c| c.name == container)?;
    found.state.as_ref()?.terminated.as_ref().map(|t| t.exit_code)
}

#[test]
fn a_container_that_crashes_and_a_pod_that_is_deleted() {
    let life = async |world: &World| {
        let pod = world.put_pod("web", json!({"containers": [{"name": "app", "image": "app:1"}], "terminationGracePeriodSeconds": 5}));
        world.until_ready("web").await;
        sleep(S).await;
        world.crash("web", "app", 7);
        world.until("the restart is told", 5 * MINUTE, || world.is_ready("web") && world.restarts("web", "app") == 1).await;
        sleep(S).await;
        world.delete(&pod, 5);
        world.until_gone("web").await;
    };
    at_every_call(
        40,
        |_| {},
        life,
        |world, statuses| {
            assert_eq!(world.runtime.starts("web", "app"), 2);
            let last = statuses.last().expect("statuses");
            assert_eq!((exit_code(last, "app"), last.phase.as_deref()), (Some(143), Some("Failed")));
        },
    );
}

#[test]
fn a_pod_with_a_token_and_a_config_map() {
    let volumes = json!([
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "conf"}}]}},
        {"name": "scratch", "emptyDir": {"medium": "Memory"}},
    ]);
    let prepare = |world: &World| world.put_config_map("conf");
    let life = async |world: &World| {
        let mounts = json!([{"name": "conf", "mountPath": "/c"}, {"name": "token", "mountPath": "/t"}]);
        let app = json!({"name": "app", "image": "app:1", "volumeMounts": mounts});
        let pod = world.put_pod("web", json!({"containers": [app], "volumes": volumes}));
        world.until_ready("web").await;
        assert_eq!(world.mounts.all().len(), 2, "token and scratch, each once");
        let token = world.root().join("pods").join(pod.uid.as_str()).join("volumes/kubernetes.io~projected/token/token");
        assert!(std::fs::read_to_string(token).is_ok_and(|t| t.starts_with("token-of-default-default-")));
        world.delete(&pod, 30);
        world.until_gone("web").await;
    };
    at_every_call(40, prepare, life, |world, statuses| {
        assert_eq!(world.runtime.starts("web", "app"), 1);
        assert_eq!(statuses.last().and_then(|s| exit_code(s, "app")), Some(143));
    });
}

#[test]
fn a_pod_that_completes() {
    let prepare = |world: &World| world.runtime.script("job", &[Life::exits(3 * S, 0)]);
    let life = async |world: &World| {
        let pod = world.put_pod("job", json!({"containers": [{"name": "job", "image": "app:1"}], "restartPolicy": "Never"}));
        world.until("success", 5 * MINUTE, || world.phase("job") == "Succeeded").await;
        sleep(MINUTE).await;
        let left = world.leftovers().await;
        let of_records = |l: &&String| l.starts_with("runtime") || l.contains("/log/");
        assert_eq!(left.iter().filter(|l| !of_records(l)).count(), 0, "a completed pod holds nothing but its records: {left:?}");
        assert_eq!(world.runtime.starts("job", "job"), 1);
        world.delete(&pod, 30);
        world.until_gone("job").await;
    };
    at_every_call(30, prepare, life, |world, statuses| {
        assert_eq!(world.runtime.starts("job", "job"), 1);
        let last = statuses.last().expect("statuses");
        assert_eq!((exit_code(last, "job"), last.phase.as_deref()), (Some(0), Some("Succeeded")));
    });
}

#[test]
fn a_pod_with_init_containers() {
    let prepare = |world: &World| {
        world.runtime.script("first", &[Life::exits(S, 0)]);
        world.runtime.script("second", &[Life::exits(S, 1), Life::exits(Duration::ZERO, 0)]);
    };
    let life = async |world: &World| {
        let init = json!([{"name": "first", "image": "app:1"}, {"name": "second", "image": "app:1"}]);
        let pod = world.put_pod("web", json!({"initContainers": init, "containers": [{"name": "app", "image": "app:1"}]}));
        world.until_ready("web").await;
        assert!(world.restarts("web", "second") == 1 && world.restarts("web", "app") == 0);
        world.delete(&pod, 30);
        world.until_gone("web").await;
    };
    at_every_call(40, prepare, life, |world, statuses| {
        let starts = ["first", "second", "app"].map(|c| world.runtime.starts("web", c));
        assert_eq!(starts, [1, 2, 1]);
        let last = statuses.last().expect("statuses");
        assert_eq!(["first", "second", "app"].map(|c| exit_code(last, c)), [Some(0), Some(0), Some(143)]);
    });
}
