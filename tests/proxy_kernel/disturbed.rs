//! What others do to the tables is put right without waiting for a change of a Service.
#![allow(clippy::disallowed_methods, reason = "tests wait")]

use std::time::Duration;

use kubelet_rs::nft::Family;
use tokio::time::Instant;

use crate::host::{list, normal, run};
use crate::place::ask;
use crate::world::World;

/// Waits until the ruleset is that one, and says how long that took.
fn back_to(want: &[String], what: &str) {
    let begin = Instant::now();
    loop {
        if normal(&list()) == want {
            println!("{what}: put right after {:?}", begin.elapsed());
            return;
        }
        assert!(begin.elapsed().as_secs() < 30, "{what}: {}", list());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn world(test: impl FnOnce(World, Vec<String>) + Send + 'static) {
    World::test(Family::Ip, |mut world| {
        world.start(vec![world.make_service(1, 30080)], vec![world.make_slice(1, &[1, 2])]);
        let vip = world.vip(1);
        crate::place::succeeds("the Service works", || ask(vip));
        std::thread::sleep(Duration::from_millis(300));
        let want = normal(&list());
        test(world, want);
    });
}

#[test]
fn what_others_remove_comes_back_by_itself() {
    world(|world, want| {
        let vip = world.vip(1).ip();
        let commands = [
            "flush table ip kubelet-rs".to_owned(),
            "flush ruleset".to_owned(),
            "delete table ip6 kubelet-rs".to_owned(),
            "flush map ip kubelet-rs endpoints".to_owned(),
            "flush map ip kubelet-rs service-ips".to_owned(),
            "flush chain ip kubelet-rs services".to_owned(),
            format!("delete element ip kubelet-rs cluster-ips {{ {vip} }}"),
        ];
        for command in commands {
            run("nft", &command.split(' ').collect::<Vec<_>>());
            back_to(&want, &command);
            assert!(ask(world.vip(1)).is_ok(), "{command}");
        }
    });
}

#[test]
fn others_tables_are_no_concern() {
    world(|world, want| {
        run("nft", &["add", "table", "ip", "other"]);
        run("nft", &["add", "set", "ip", "other", "ports", "{ type inet_service; }"]);
        let handles = || {
            let all = run("nft", &["-a", "list", "table", "ip", "kubelet-rs"]);
            all.lines().filter(|line| line.contains("# handle")).map(str::to_owned).collect::<Vec<_>>()
        };
        // Each comparison writes the fixed rules anew, and so gives them other handles.
        let before = handles();
        for port in 1..=200 {
            run("nft", &["add", "element", "ip", "other", "ports", &format!("{{ {port} }}")]);
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(handles(), before);
        run("nft", &["delete", "table", "ip", "other"]);
        back_to(&want, "nothing");
        drop(world);
    });
}
