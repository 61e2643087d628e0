//! What many Services cost: printed with `--nocapture`. Nothing here fails because a machine is slow; what may be expected of one stands in
//! docs/BENCHMARKS.md. The bounds only end a test that would wait for ever.

use std::net::SocketAddr;

use kubelet_rs::api::WatchEvent;
use kubelet_rs::nft::Family;
use tokio::time::Instant;

use crate::place::ask;
use crate::world::World;

/// CPU time of this process, in microseconds.
fn cpu() -> u128 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let micros = |t: nix::sys::time::TimeVal| (t.tv_sec() as u128) * 1_000_000 + t.tv_usec() as u128;
    micros(usage.user_time()) + micros(usage.system_time())
}

#[test]
fn ten_thousand_services() {
    World::test(Family::Ip, |mut world| {
        const COUNT: u16 = 10_000;
        let services = (1..=COUNT).map(|n| world.make_service(n, 0)).collect();
        let slices = (1..=COUNT).map(|n| world.make_slice(n, &[1, 2])).collect();
        let last = world.vip(COUNT);
        let (begin, used) = (Instant::now(), cpu());
        world.start(services, slices);
        while ask(last).is_err() {
            assert!(begin.elapsed().as_secs() < 120, "10,000 Services are not programmed");
        }
        println!("{COUNT} Services of 2 ports and 2 endpoints: {:?}, {} ms CPU", begin.elapsed(), (cpu() - used) / 1000);

        // One endpoint changes: until the first connection that the new one answers.
        let mut times: Vec<_> = (1..=200_u16)
            .map(|n| {
                let vip: SocketAddr = world.vip(n);
                let (other, pod) = if n % 2 == 0 { (1, 2) } else { (2, 1) };
                world.slice(WatchEvent::Applied(world.make_slice(n, &[pod])));
                until(vip, &format!("pod{pod}"));
                let begin = Instant::now();
                world.slice(WatchEvent::Applied(world.make_slice(n, &[other])));
                until(vip, &format!("pod{other}"));
                begin.elapsed()
            })
            .collect();
        times.sort();
        println!("one endpoint swapped → answered by the new one: median {:?}, max {:?}", times[100], times[199]);
    });
}

/// Connects until that server answers twice in a row.
fn until(vip: SocketAddr, server: &str) {
    let mut row = 0;
    let begin = Instant::now();
    while row < 2 {
        row = if ask(vip).is_ok_and(|a| a.server == server) { row + 1 } else { 0 };
        assert!(begin.elapsed().as_secs() < 30, "{vip} is not answered by {server}");
    }
}
