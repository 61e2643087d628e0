//! Records in the runtime that make no sense, or that somebody else made.

use std::sync::Arc;

use kubelet_rs::model::PodRef;
use kubelet_rs::runtime::{Container, ContainerPhase, Sandbox};
use tokio::time::sleep;

use crate::world::{MINUTE, S, World, app, run};

fn stranger(uid: &str) -> PodRef {
    PodRef { namespace: "elsewhere".into(), name: "stranger".into(), uid: uid.into() }
}

fn sandbox(id: &str, ready: bool) -> Sandbox {
    Sandbox { id: id.into(), attempt: u32::MAX, created_at: i64::MIN, ready, ips: vec![], host_network: false }
}

fn container(id: &str, sandbox: &str, phase: ContainerPhase) -> Container {
    Container {
        id: id.into(),
        sandbox: sandbox.into(),
        name: Arc::from("app"),
        restart_count: u32::MAX,
        hash: "no hash".into(),
        phase,
        created_at: i64::MAX,
        started_at: -1,
        finished_at: i64::MIN,
        exit_code: i32::MIN,
        reason: "\u{0}".into(),
        message: String::new(),
        termination_message: String::new(),
        image: String::new(),
        image_id: String::new(),
        log_path: "/etc/hostname".into(),
        hook: None,
        limits: None,
        user: None,
        recursive_read_only: vec![],
    }
}

#[test]
fn pods_that_somebody_else_made_are_cleaned_up() {
    run(async {
        let world = World::new();
        let phases = [ContainerPhase::Created, ContainerPhase::Running, ContainerPhase::Exited, ContainerPhase::Unknown];
        for (n, phase) in phases.into_iter().enumerate() {
            let (pod, s) = (stranger(&format!("foreign-{n}")), format!("s{n}"));
            world.runtime.put_sandbox(&pod, sandbox(&s, n % 2 == 0));
            world.runtime.put_container(&pod, container(&format!("c{n}"), &s, phase));
        }
        // A container without its sandbox, a sandbox whose UID leads out of its directory.
        world.runtime.put_container(&stranger("lost"), container("lost", "nowhere", ContainerPhase::Exited));
        world.runtime.put_sandbox(&stranger("../up"), sandbox("climber", true));
        let _agent = world.start();
        world.put_pod("web", app());
        assert!(world.until_ready("web").await < S);
        world.until("only the pod is left", 3 * MINUTE, || world.runtime.pods().len() == 1).await;
        // And once more, while the agent runs: what an agent before it had asked for when it was killed.
        world.runtime.put_sandbox(&stranger("late"), sandbox("late", true));
        world.until("the late one is gone too", 5 * S, || world.runtime.pods().len() == 1).await;
        assert!(std::path::Path::new("/etc/hostname").exists());
        assert_eq!(world.runtime.starts("web", "app"), 1);
        world.check();
    });
}

/// The newest record says that 4 294 967 295 restarts came before it, and that it ended before it began.
#[test]
fn a_record_that_makes_no_sense_ends_no_worker() {
    for phase in [ContainerPhase::Created, ContainerPhase::Exited, ContainerPhase::Unknown, ContainerPhase::Running] {
        run(async {
            let world = World::new();
            let agent = world.start();
            let pod = world.put_pod("web", app());
            world.until_ready("web").await;
            let home = world.runtime.pod("web").and_then(|p| p.sandboxes.first().map(|s| s.id.to_string())).expect("a sandbox");
            if phase == ContainerPhase::Exited {
                world.crash("web", "app", 1);
            }
            world.runtime.put_container(&pod, container("odd", &home, phase));
            sleep(2 * MINUTE).await;
            assert!(agent.directory.with_records().contains(&pod.uid), "its worker lives");
            world.delete(&pod, 30);
            world.until_gone("web").await;
            world.until("nothing is left", 3 * MINUTE, || world.runtime.pods().is_empty()).await;
            assert_eq!(world.injector.storm(), None);
        });
    }
}
