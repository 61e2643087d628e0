//! Nothing that works is disturbed: not by endpoints that come and go, not by a restart.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kubelet_rs::api::WatchEvent;
use tokio::time::Instant;

use crate::place::{ask, eventually, open, succeeds};
use crate::world::{KINDS, World};

#[test]
fn no_new_connection_fails_while_endpoints_come_and_go() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            // Pod 1 always serves; the number of endpoints and their places change all the time.
            world.start(vec![world.make_service(1, 0)], vec![world.make_slice(1, &[1, 2])]);
            let vip = world.vip(1);
            succeeds("the Service works", || ask(vip));
            let (stop, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
            let client = std::thread::spawn({
                let (stop, connections) = (stop.clone(), connections.clone());
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        let count = connections.fetch_add(1, Ordering::Relaxed);
                        ask(vip).unwrap_or_else(|error| panic!("connection {count}: {error}"));
                    }
                }
            });
            // As many as a quiet machine makes in two seconds, however long a busy one takes.
            let begin = Instant::now();
            let mut changes = 0;
            while (changes < 400 || connections.load(Ordering::Relaxed) < 400) && !client.is_finished() {
                assert!(begin.elapsed().as_secs() < 60, "{connections:?} connections, {changes} changes in a minute");
                for pods in [&[1][..], &[1, 2], &[2], &[2, 1]] {
                    world.slice(WatchEvent::Applied(world.make_slice(1, pods)));
                    changes += 1;
                    // A step of its own for each change: longer than the window.
                    std::thread::park_timeout(std::time::Duration::from_millis(4));
                }
            }
            stop.store(true, Ordering::Relaxed);
            client.join().unwrap();
            println!("{family}: {connections:?} connections during {changes} changes");
        });
    }
}

#[test]
fn a_restart_is_not_noticed() {
    for (mode, family) in KINDS {
        World::test_in(mode, family, move |mut world| {
            let state = |world: &World| (vec![world.make_service(1, 30080)], vec![world.make_slice(1, &[1, 2])]);
            let (services, slices) = state(&world);
            world.start(services, slices);
            let vip = world.vip(1);
            let (mut stream, _) = succeeds("the Service works", || open(vip));
            let before = crate::host::normal(&world.rules());
            for _ in 0..20 {
                let (services, slices) = state(&world);
                world.start(services, slices);
                // Connections old and new, while the agent starts.
                for _ in 0..5 {
                    ask(vip).unwrap();
                    stream.write_all(b"still here").unwrap();
                    stream.read_exact(&mut [0; 10]).unwrap();
                }
            }
            eventually("the rules are the same", || crate::host::normal(&world.rules()), |now| *now == before);
        });
    }
}
