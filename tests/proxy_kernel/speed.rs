//! What many Services cost: printed with `--nocapture`, for another number of them with `SERVICES=50000`. Nothing here fails because a machine is slow; what may be expected of one stands in
//! docs/BENCHMARKS.md. The bounds only end a test that would wait for ever.

use std::net::SocketAddr;

use kubelet_rs::api::WatchEvent;
use kubelet_rs::nft::Family;
use tokio::time::Instant;

use crate::place::ask;
use crate::world::{Mode, World};

/// CPU time of this process, in microseconds.
fn cpu() -> u128 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let micros = |t: nix::sys::time::TimeVal| (t.tv_sec() as u128) * 1_000_000 + t.tv_usec() as u128;
    micros(usage.user_time()) + micros(usage.system_time())
}

#[test]
fn ten_thousand_services() {
    many_services(Mode::Nftables, asked_for(10_000), 200);
}

/// `SERVICES` of the environment, or so many.
fn asked_for(count: u16) -> u16 {
    std::env::var("SERVICES").ok().and_then(|count| count.parse().ok()).unwrap_or(count)
}

/// The programs of iptables take longer for the whole than the kernel does.
#[test]
fn a_thousand_services_in_iptables() {
    many_services(Mode::Iptables, asked_for(1000), 20);
}

fn many_services(mode: Mode, count: u16, changes: u16) {
    World::test_in(mode, Family::Ip, move |mut world| {
        let services = (1..=count).map(|n| world.make_service(n, 0)).collect();
        let slices = (1..=count).map(|n| world.make_slice(n, &[1, 2])).collect();
        let last = world.vip(count);
        let (begin, used) = (Instant::now(), cpu());
        world.start(services, slices);
        while ask(last).is_err() {
            assert!(begin.elapsed().as_secs() < 120, "{count} Services are not programmed");
        }
        println!("{mode:?}: {count} Services of 2 ports and 2 endpoints: {:?}, {} ms CPU", begin.elapsed(), (cpu() - used) / 1000);

        // One endpoint changes: until the first connection that the new one answers.
        let mut times: Vec<_> = (1..=changes)
            .map(|n| {
                let vip: SocketAddr = world.vip(n);
                let (other, pod) = if n % 2 == 0 { (1, 2) } else { (2, 1) };
                world.slice(WatchEvent::Applied(world.make_slice(n, &[pod])));
                // Often enough that it is no luck: before, both answered.
                until(vip, &format!("pod{pod}"), 10);
                let begin = Instant::now();
                world.slice(WatchEvent::Applied(world.make_slice(n, &[other])));
                until(vip, &format!("pod{other}"), 1);
                begin.elapsed()
            })
            .collect();
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{mode:?}: one endpoint swapped → answered by the new one: median {median:?}, max {longest:?}");
    });
}

/// One Service with more endpoints than anybody has, in slices as the API server makes them, some of them twice.
#[test]
fn a_hundred_thousand_endpoints() {
    for (mode, count) in [(Mode::Nftables, 100_000_u32), (Mode::Iptables, 2000)] {
        World::test_in(mode, Family::Ip, move |mut world| {
            let slice = |world: &World, n: u32| {
                let mut slice = world.make_slice(1, &[1]);
                slice.id.name = format!("s1-{n}").into();
                let first = slice.endpoints[0].clone();
                let ip = |i: u32| std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 1000 + i).into();
                // The last one of a slice is the first of the next one.
                slice.endpoints =
                    (0..=1000).map(|i| kubelet_rs::model::service::Endpoint { ip: ip(i), local: false, ..first.clone() }).collect();
                slice
            };
            let slices = (0..count / 1000).map(|n| slice(&world, n)).collect();
            let begin = Instant::now();
            world.start(vec![world.make_service(1, 0), world.make_service(2, 0)], slices);
            world.slice(WatchEvent::Applied(world.make_slice(2, &[2])));
            let other = world.vip(2);
            crate::place::succeeds("another Service works", || ask(other));
            println!("{mode:?}: {count} endpoints and another Service: {:?}", begin.elapsed());
            world.settle();
            let rules = world.rules();
            assert!(rules.matches("8080").count() as u32 > 2 * count, "of TCP and UDP");
            // All of them go, and one comes.
            for n in 0..count / 1000 {
                let mut gone = slice(&world, n);
                gone.endpoints.clear();
                world.slice(WatchEvent::Applied(gone));
            }
            world.slice(WatchEvent::Applied(world.make_slice(1, &[1])));
            until(world.vip(1), "pod1", 1);
        });
    }
}

/// Connects until that server answers so many times in a row.
fn until(vip: SocketAddr, server: &str, times: u32) {
    let mut row = 0;
    let begin = Instant::now();
    while row < times {
        row = if ask(vip).is_ok_and(|a| a.server == server) { row + 1 } else { 0 };
        assert!(begin.elapsed().as_secs() < 30, "{vip} is not answered by {server}");
    }
}
