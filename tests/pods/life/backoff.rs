//! What fails is tried again, ever later, and succeeds once it can.

use kubelet_rs::runtime::fake::{Life, Store};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::world::{MINUTE, S, World, app, run};

#[test]
fn a_crash_loop_waits_10_20_40_up_to_300_seconds() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[Life::exits(S, 1)]);
        let pod = world.put_pod("web", app());
        let mut waits = vec![];
        let mut before = Instant::now();
        for n in 1..10 {
            world.until(&format!("start {n}"), 6 * MINUTE, || world.runtime.starts("web", "app") == n).await;
            waits.push(before.elapsed().as_secs());
            before = Instant::now();
        }
        assert_eq!(waits, [0, 1, 11, 21, 41, 81, 161, 301, 301]);
        world.until("the wait is told", 5 * S, || world.waiting("web", "app") == "CrashLoopBackOff").await;
        assert_eq!((world.restarts("web", "app"), &*world.phase("web")), (8, "Running"));
        let state = world.container("web", "app").state.and_then(|s| s.waiting).and_then(|w| w.message).unwrap_or_default();
        assert_eq!(state, format!("back-off 5m0s restarting failed container=app pod=web_default({})", pod.uid));
        assert!(world.events("web").contains(&"BackOff".to_owned()), "{:?}", world.events("web"));
        // Ten quiet minutes, and it is as if it never crashed.
        world.runtime.script("app", &[Life::RUNS]);
        world.until("it runs", 6 * MINUTE, || world.runtime.running("web", "app").is_some()).await;
        sleep(11 * MINUTE).await;
        world.crash("web", "app", 1);
        assert!(world.until("a restart", MINUTE, || world.runtime.running("web", "app").is_some()).await < S);
        world.delete(&pod, 30);
        assert!(world.until_gone("web").await < S);
        world.check_empty().await;
    });
}

#[test]
fn a_crash_loop_can_be_ended_by_a_deletion() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[Life::exits(S, 1)]);
        let pod = world.put_pod("web", app());
        world.until("a wait", 5 * MINUTE, || world.waiting("web", "app") == "CrashLoopBackOff").await;
        world.delete(&pod, 30);
        assert!(world.until_gone("web").await < S, "nothing runs, so nothing is waited for");
        world.check_empty().await;
    });
}

#[test]
fn an_image_that_cannot_be_pulled_is_asked_for_ever_less_often() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.image_is("app:1", Store::Nowhere("no such image".into()));
        world.put_pod("web", app());
        world.until("the first failure", S, || world.waiting("web", "app") == "ErrImagePull").await;
        world.until("the wait", 5 * S, || world.waiting("web", "app") == "ImagePullBackOff").await;
        sleep(10 * MINUTE).await;
        let pulls = world.injector.count("runtime", "pull_image");
        assert!((5..=8).contains(&pulls), "{pulls} pulls in ten minutes");
        let looks = world.injector.calls().len();
        // Every 15 seconds a look whether somebody has brought the image, and the events that say so.
        assert!(looks < 200, "{looks} calls in ten minutes of waiting");
        assert_eq!((&*world.waiting("web", "app"), &*world.phase("web")), ("ImagePullBackOff", "Pending"));
        let seen = world.events("web");
        assert!(["Pulling", "Failed", "BackOff"].iter().all(|e| seen.contains(&(*e).to_owned())), "{seen:?}");

        world.runtime.image_is("app:1", Store::Registry(2 * S));
        world.until("ready", 6 * MINUTE, || world.is_ready("web")).await;
        assert_eq!(world.restarts("web", "app"), 0);
        world.check();
    });
}

#[test]
fn a_missing_config_map_holds_up_its_pod_until_it_is_there() {
    let volume = json!({"containers": [{"name": "app", "image": "app:1"}], "volumes": [{"name": "v", "configMap": {"name": "conf"}}]});
    let key = json!({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "a"}}});
    let variable = json!({"containers": [{"name": "app", "image": "app:1", "env": [key]}]});
    let table = [(volume, "ContainerCreating", "FailedMount", 123 * S), (variable, "CreateContainerConfigError", "Failed", 11 * S)];
    for (spec, reason, event, longest) in table {
        run(async {
            let world = World::new();
            let _agent = world.start();
            world.put_pod("web", spec.clone());
            sleep(3 * MINUTE).await;
            assert_eq!((&*world.waiting("web", "app"), world.runtime.starts("web", "app")), (reason, 0));
            assert!(world.events("web").contains(&event.to_owned()), "{:?}", world.events("web"));
            let calls = world.injector.calls().len();
            assert!(calls < 300, "{calls} calls in three minutes of waiting");
            world.put_config_map("conf");
            assert!(world.until_ready("web").await <= longest);
            assert_eq!(world.runtime.starts("web", "app"), 1);
            world.check();
        });
    }
}

#[test]
fn a_container_that_cannot_be_started_is_tried_again() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.runtime.script("app", &[Life::UNSTARTABLE]);
        world.put_pod("web", app());
        sleep(5 * MINUTE).await;
        let starts = world.runtime.starts("web", "app");
        assert!((5..=12).contains(&starts), "{starts} starts in five minutes");
        let last = world.container("web", "app").last_state.and_then(|s| s.terminated);
        assert_eq!(last.map(|t| t.exit_code), Some(128));
        let count = world.restarts("web", "app");
        assert_eq!(count, i32::try_from(starts).unwrap_or(0) - 1);
        world.check();
    });
}

/// What fails at once must not be tried again at once.
#[test]
fn no_failure_is_repeated_without_a_pause() {
    let calls = [
        "run_sandbox",
        "sandbox",
        "image",
        "create_container",
        "start_container",
        "container",
        "stop_container",
        "remove_container",
        "stop_sandbox",
        "remove_sandbox",
        "observe_pod",
    ];
    for call in calls {
        run(async {
            let world = World::new();
            let _agent = world.start();
            let old = world.put_pod("old", app());
            world.until_ready("old").await;
            // Two crashes, and there is one record too many, which is removed.
            for _ in 0..2 {
                world.crash("old", "app", 1);
                world.until("a restart", MINUTE, || world.runtime.running("old", "app").is_some()).await;
            }
            let before = world.injector.calls().len();
            world.runtime.refuse(call, true);
            world.put_pod("new", app());
            world.crash("old", "app", 1);
            sleep(3 * MINUTE).await;
            world.delete(&old, 30);
            sleep(2 * MINUTE).await;
            let calls = world.injector.calls().len() - before;
            assert!(calls <= 1500, "{call}: {calls} calls in five minutes");
            world.runtime.refuse(call, false);
            world.until("both pods have got what they wanted", 3 * MINUTE, || world.is_ready("new") && world.object("old").is_none()).await;
            world.check();
        });
    }
}

#[test]
fn cgroups_that_fail_are_tried_again_with_pauses() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        world.put_pod("web", app());
        world.until_ready("web").await;
        world.cgroups.fail_with(Some("no space left on device"));
        world.crash("web", "app", 1);
        sleep(MINUTE).await;
        let calls = world.injector.count("cgroups", "set_up");
        assert!(calls <= 20, "{calls} tries in a minute");
        world.cgroups.fail_with(None);
        world.until("a restart", MINUTE, || world.runtime.running("web", "app").is_some()).await;
        assert_eq!(world.runtime.starts("web", "app"), 2);
        world.check();
    });
}
