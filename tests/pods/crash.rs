//! The agent is killed at every call that leaves it, once before the call's effect and once after it, and started again: a pod's life
//! goes on to its end, and nothing is doubled, lost or leaked.

use std::cell::Cell;
use std::future::pending;

use k8s_openapi::api::core::v1::PodStatus;
use kubelet_rs::inject::Crash;
use kubelet_rs::runtime::fake::{Life as Script, Store};
use serde_json::json;
use tokio::time::sleep;

use crate::history::History;
use crate::world::{MINUTE, S, World, app, run};

/// Where agents are killed: each number is that of a call since the start of the agent whose turn it is. Then one lives.
#[derive(Debug, Clone, Copy)]
struct Kills {
    first: usize,
    second: Option<usize>,
    when: Crash,
}

/// Starts agents, one after the other has died; tells when the first one has. Never ends.
async fn keep_alive(world: &World, kills: Kills, died: &Cell<bool>) {
    world.injector.crash_at(kills.first, kills.when);
    for next in [kills.second, None] {
        let agent = world.start();
        world.injector.crashed().await;
        died.set(true);
        agent.kill().await;
        world.injector.restart();
        if let Some(number) = next {
            world.injector.crash_at(number, kills.when);
        }
    }
    let _agent = world.start();
    pending().await
}

/// One pod's life, how the node is prepared for it, and what must be true after it.
struct Life<'a> {
    /// Fewer kill points than that are not plausible: the test would test nothing.
    least: usize,
    prepare: &'a dyn Fn(&World),
    check: &'a dyn Fn(&World, &[PodStatus]),
}

impl Life<'_> {
    /// Lives the life with a kill at each call in turn.
    fn at_every_call(&self, live: impl AsyncFn(&World)) {
        self.with_second_kill(None, live);
    }

    /// The same, and the second agent is killed at a given call.
    fn with_second_kill(&self, second: Option<usize>, live: impl AsyncFn(&World)) {
        for when in [Crash::Before, Crash::After] {
            let mut first = 0;
            while run(self.once(Kills { first, second, when }, &live)) {
                first += 1;
                assert!(first < 1000, "the life has no end");
            }
            assert!(first >= self.least, "only {first} calls: is the agent doing anything?");
            println!("{first} kill points, {when:?} the effect");
        }
    }

    /// Whether the agent died.
    async fn once(&self, kills: Kills, live: &impl AsyncFn(&World)) -> bool {
        let _told = Told(kills);
        let world = World::new();
        let died = Cell::new(false);
        (self.prepare)(&world);
        let history = History::default();
        let whole = async {
            live(&world).await;
            world.check_empty().await;
        };
        tokio::select! {
            () = keep_alive(&world, kills, &died) => {}
            () = history.record(&world) => {}
            () = whole => {}
        }
        history.check();
        (self.check)(&world, &history.of("web"));
        died.get()
    }
}

/// Tells which kill made a test fail.
struct Told(Kills);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{:?}", self.0);
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
    let check = |world: &World, statuses: &[PodStatus]| {
        assert_eq!(world.runtime.starts("web", "app"), 2);
        let last = statuses.last().expect("statuses");
        assert_eq!((exit_code(last, "app"), last.phase.as_deref()), (Some(143), Some("Failed")));
    };
    let life = Life { least: 40, prepare: &|_| {}, check: &check };
    for second in [None, Some(0), Some(4), Some(12)] {
        life.with_second_kill(second, async |world| {
            let pod = world.put_pod("web", app());
            world.until_ready("web").await;
            sleep(S).await;
            world.crash("web", "app", 7);
            world.until("the restart is told", 5 * MINUTE, || world.is_ready("web") && world.restarts("web", "app") == 1).await;
            sleep(S).await;
            world.delete(&pod, 5);
            world.until_gone("web").await;
        });
    }
}

#[test]
fn a_pod_with_a_token_and_a_config_map() {
    let volumes = json!([
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "conf"}}]}},
        {"name": "scratch", "emptyDir": {"medium": "Memory"}},
    ]);
    let check = |world: &World, statuses: &[PodStatus]| {
        assert_eq!(world.runtime.starts("web", "app"), 1);
        assert_eq!(statuses.last().and_then(|s| exit_code(s, "app")), Some(143));
    };
    Life { least: 40, prepare: &|world| world.put_config_map("conf"), check: &check }.at_every_call(async |world| {
        let mounts = json!([{"name": "conf", "mountPath": "/c"}, {"name": "token", "mountPath": "/t"}]);
        let app = json!({"name": "app", "image": "app:1", "volumeMounts": mounts});
        let pod = world.put_pod("web", json!({"containers": [app], "volumes": volumes}));
        world.until_ready("web").await;
        assert_eq!(world.mounts.all().len(), 2, "token and scratch, each once");
        let token = world.root().join("pods").join(pod.uid.as_str()).join("volumes/kubernetes.io~projected/token/token");
        assert!(std::fs::read_to_string(token).is_ok_and(|t| t.starts_with("token-of-default-default-")));
        world.delete(&pod, 30);
        world.until_gone("web").await;
    });
}

#[test]
fn a_pod_that_completes() {
    let check = |world: &World, statuses: &[PodStatus]| {
        assert_eq!(world.runtime.starts("web", "job"), 1);
        let last = statuses.last().expect("statuses");
        assert_eq!((exit_code(last, "job"), last.phase.as_deref()), (Some(0), Some("Succeeded")));
    };
    let prepare = |world: &World| world.runtime.script("job", &[Script::exits(3 * S, 0)]);
    Life { least: 30, prepare: &prepare, check: &check }.at_every_call(async |world| {
        let pod = world.put_pod("web", json!({"containers": [{"name": "job", "image": "app:1"}], "restartPolicy": "Never"}));
        world.until("success", 5 * MINUTE, || world.phase("web") == "Succeeded").await;
        sleep(MINUTE).await;
        let left = world.leftovers().await;
        let of_records = |l: &&String| l.starts_with("runtime") || l.contains("/log/");
        assert_eq!(left.iter().filter(|l| !of_records(l)).count(), 0, "a completed pod holds nothing but its records: {left:?}");
        assert_eq!(world.runtime.starts("web", "job"), 1);
        world.delete(&pod, 30);
        world.until_gone("web").await;
    });
}

#[test]
fn a_pod_with_init_containers_one_of_which_fails_first() {
    let prepare = |world: &World| {
        world.runtime.script("first", &[Script::exits(S, 0)]);
        world.runtime.script("second", &[Script::exits(S, 1), Script::exits(std::time::Duration::ZERO, 0)]);
    };
    let check = |world: &World, statuses: &[PodStatus]| {
        assert_eq!(["first", "second", "app"].map(|c| world.runtime.starts("web", c)), [1, 2, 1]);
        let last = statuses.last().expect("statuses");
        assert_eq!(["first", "second", "app"].map(|c| exit_code(last, c)), [Some(0), Some(0), Some(143)]);
    };
    Life { least: 40, prepare: &prepare, check: &check }.at_every_call(async |world| {
        let init = json!([{"name": "first", "image": "app:1"}, {"name": "second", "image": "app:1"}]);
        let pod = world.put_pod("web", json!({"initContainers": init, "containers": [{"name": "app", "image": "app:1"}]}));
        world.until_ready("web").await;
        assert!(world.restarts("web", "second") == 1 && world.restarts("web", "app") == 0);
        world.delete(&pod, 30);
        world.until_gone("web").await;
    });
}

/// One that must be pulled, and one that takes all of its grace to end.
#[test]
fn a_pod_that_is_slow_to_come_and_slow_to_go() {
    let prepare = |world: &World| {
        world.runtime.image_is("far:1", Store::Registry(5 * S));
        world.runtime.script("slow", &[Script::STUBBORN]);
    };
    let check = |world: &World, statuses: &[PodStatus]| {
        assert_eq!(["slow", "app"].map(|c| world.runtime.starts("web", c)), [1, 1]);
        let last = statuses.last().expect("statuses");
        assert_eq!(["slow", "app"].map(|c| exit_code(last, c)), [Some(137), Some(143)]);
    };
    Life { least: 40, prepare: &prepare, check: &check }.at_every_call(async |world| {
        let containers = json!([{"name": "slow", "image": "app:1"}, {"name": "app", "image": "far:1"}]);
        let pod = world.put_pod("web", json!({"containers": containers}));
        world.until_ready("web").await;
        world.delete(&pod, 10);
        world.until_gone("web").await;
    });
}

#[test]
fn a_sandbox_that_dies() {
    let check = |world: &World, _: &[PodStatus]| assert_eq!(world.runtime.starts("web", "app"), 2);
    Life { least: 40, prepare: &|_| {}, check: &check }.at_every_call(async |world| {
        let pod = world.put_pod("web", app());
        world.until_ready("web").await;
        world.runtime.kill_sandbox("web");
        world.until("it is up again", 5 * MINUTE, || world.is_ready("web") && world.restarts("web", "app") == 1).await;
        world.delete(&pod, 30);
        world.until_gone("web").await;
    });
}

/// The old pod's name is free at once, and its end must not touch the new one.
#[test]
fn a_forced_deletion_and_a_namesake() {
    let check = |world: &World, _: &[PodStatus]| assert_eq!(world.runtime.starts("web", "app"), 2);
    Life { least: 40, prepare: &|_| {}, check: &check }.at_every_call(async |world| {
        let old = world.put_pod("web", app());
        world.until_ready("web").await;
        world.delete(&old, 0);
        let new = world.put_pod("web", app());
        world.until_ready("web").await;
        sleep(MINUTE).await;
        assert!(world.is_ready("web") && world.runtime.pods().len() == 1);
        world.delete(&new, 30);
        world.until_gone("web").await;
    });
}

#[test]
fn a_pod_that_is_deleted_before_it_runs() {
    for grace in [0, 30] {
        let check = |world: &World, _: &[PodStatus]| assert!(world.runtime.starts("web", "app") <= 1);
        let prepare = |world: &World| world.runtime.slow("run_sandbox", S / 10, S / 10);
        Life { least: 10, prepare: &prepare, check: &check }.at_every_call(async |world| {
            let pod = world.put_pod("web", app());
            sleep(S / 10).await;
            world.delete(&pod, grace);
            world.until_gone("web").await;
        });
    }
}

#[test]
fn a_pod_with_a_sidecar_hooks_and_probes() {
    let check = |world: &World, statuses: &[PodStatus]| {
        assert_eq!(["side", "app"].map(|name| world.runtime.starts("web", name)), [1, 1]);
        let last = statuses.last().expect("statuses");
        assert_eq!(["side", "app"].map(|name| exit_code(last, name)), [Some(143), Some(143)]);
        let commands = world.runtime.executed();
        let count = |command: &str| commands.iter().filter(|(_, c)| c[0] == command).count();
        // An agent that is killed while a hook runs can't know how far that came: the end's is run again, the start's is not.
        assert!((1..=2).contains(&count("bye")) && count("hello") <= 1, "{commands:?}");
    };
    Life { least: 40, prepare: &|_| {}, check: &check }.at_every_call(async |world| {
        let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 5});
        let hook = |command: &str| json!({"exec": {"command": [command]}});
        let spec = json!({
            "initContainers": [{"name": "side", "image": "app:1", "restartPolicy": "Always", "startupProbe": probe}],
            "containers": [{
                "name": "app", "image": "app:1", "readinessProbe": probe, "livenessProbe": probe,
                "lifecycle": {"postStart": hook("hello"), "preStop": hook("bye")},
            }],
        });
        let pod = world.put_pod("web", spec);
        world.until_ready("web").await;
        sleep(12 * S).await;
        world.delete(&pod, 30);
        world.until_gone("web").await;
    });
}
