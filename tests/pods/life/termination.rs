//! The order in which containers end, and ends that the node decides on.

use kubelet_rs::runtime::fake::Life;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{MINUTE, S, World, last_status, run};

/// Two sidecars and two regular containers.
fn with_sidecars() -> Value {
    let sidecar = |name: &str| json!({"name": name, "image": "app:1", "restartPolicy": "Always"});
    let app = |name: &str| json!({"name": name, "image": "app:1"});
    json!({"initContainers": [sidecar("s1"), sidecar("s2")], "containers": [app("a"), app("b")]})
}

/// Seconds from `start` at which each container of a pod ended, in the order of the names.
fn ends(status: Option<k8s_openapi::api::core::v1::PodStatus>, names: &[&str]) -> Vec<i64> {
    let status = status.expect("a status");
    let lists = [status.container_statuses, status.init_container_statuses];
    let all: Vec<_> = lists.into_iter().flatten().flatten().collect();
    let end = |name: &&str| all.iter().find(|c| c.name == **name)?.state.as_ref()?.terminated.as_ref()?.finished_at.clone();
    names.iter().map(|name| end(name).unwrap_or_else(|| panic!("{name} has no end: {all:#?}")).0.as_second()).collect()
}

#[test]
fn sidecars_end_after_the_regular_containers_in_reverse_order() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        for (name, seconds) in [("a", 2), ("b", 4), ("s1", 3), ("s2", 5)] {
            world.runtime.script(name, &[Life { after_term: Some(seconds * S), ..Life::RUNS }]);
        }
        let pod = world.put_pod("web", with_sidecars());
        world.until_ready("web").await;
        world.delete(&pod, 60);
        let last = last_status(&world, "web", async { _ = world.until_gone("web").await }).await;
        let ends = ends(last, &["a", "b", "s2", "s1"]);
        let after: Vec<i64> = ends.iter().map(|at| at - ends[0]).collect();
        assert_eq!(after, [0, 2, 7, 10], "a and b at once, s2 after both, s1 after s2");
        world.check_empty().await;
    });
}

#[test]
fn all_of_them_share_one_grace_period() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        for name in ["a", "s1", "s2"] {
            world.runtime.script(name, &[Life { after_term: None, ..Life::RUNS }]);
        }
        let pod = world.put_pod("web", with_sidecars());
        world.until_ready("web").await;
        let start = Instant::now();
        world.delete(&pod, 20);
        world.until_gone("web").await;
        let took = start.elapsed();
        assert!((22 * S..26 * S).contains(&took), "a has it all, the others two seconds each: {took:?}");
        world.check_empty().await;
    });
}

#[test]
fn a_pod_that_is_done_ends_its_sidecars_and_has_succeeded() {
    run(async {
        let world = World::new();
        let _agent = world.start();
        for name in ["a", "b"] {
            world.runtime.script(name, &[Life::exits(5 * S, 0)]);
        }
        let mut spec = with_sidecars();
        spec["restartPolicy"] = json!("Never");
        world.put_pod("job", spec);
        world.until("it has succeeded", MINUTE, || world.phase("job") == "Succeeded").await;
        assert_eq!([world.runtime.starts("job", "s1"), world.runtime.starts("job", "a")], [1, 1]);
        world.check();
    });
}

#[test]
fn a_pod_has_only_so_long_to_be_active() {
    run(async {
        let world = World::new();
        let agent = world.start();
        world.runtime.script("a", &[Life { after_term: Some(4 * S), ..Life::RUNS }]);
        let mut spec = with_sidecars();
        spec["activeDeadlineSeconds"] = json!(30);
        world.put_pod("job", spec);
        world.until_ready("job").await;
        sleep(10 * S).await;
        // An agent that starts in between counts on.
        agent.kill().await;
        let _agent = world.start();
        sleep(20 * S).await;
        assert_eq!(world.phase("job"), "Running", "as long as something runs");
        assert_eq!(world.status("job").reason, None);
        sleep(10 * S).await;
        let status = world.status("job");
        assert_eq!([status.phase.as_deref(), status.reason.as_deref()], [Some("Failed"), Some("DeadlineExceeded")]);
        assert_eq!(status.message.as_deref(), Some("Pod was active on the node longer than the specified deadline"));
        sleep(MINUTE).await;
        assert_eq!(world.events("job").iter().filter(|r| *r == "DeadlineExceeded").count(), 1);
        world.check();
    });
}
