//! After any edits the kernel holds what a fresh start would make of the same Services.

use std::collections::BTreeMap;
use std::time::Duration;

use kubelet_rs::api::WatchEvent;
use kubelet_rs::model::service::Endpoint;
use kubelet_rs::nft::Family;

use crate::host::{list, normal};
use crate::place::eventually;
use crate::world::{World, address, cluster_ip};

/// A generator that gives the same numbers each time (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A ruleset without who has which place, and without chains that no verdict leads to any more.
fn comparable(ruleset: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut balancer = false;
    for line in normal(ruleset) {
        balancer |= line.starts_with("chain n") && !line.starts_with("chain nat-") && !line.starts_with("chain nodeport-")
            || line.starts_with("chain p");
        if !balancer {
            match line.split_once(" . 0x") {
                Some((key, rest)) => lines.push(format!("{key} : {}", rest.split_once(" : ").map_or(rest, |(_, value)| value))),
                None => lines.push(line.clone()),
            }
        }
        balancer &= line != "}";
    }
    lines.sort();
    lines
}

#[test]
fn a_thousand_edits_lead_where_a_fresh_start_leads() {
    World::test(Family::Ip, |mut world| {
        let mut dice = Dice(1);
        world.start(vec![], vec![]);
        let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
        for edit in 0..1000 {
            let n = dice.roll(8) as u16 + 1;
            if dice.roll(3) == 0 {
                let mut service = world.make_service(n, [0, 30000 + n][dice.roll(2) as usize]);
                if dice.roll(2) == 0 {
                    service.cluster_ips.push(cluster_ip(Family::Ip6, n));
                }
                service.ports.truncate(1 + dice.roll(2) as usize);
                if dice.roll(4) == 0 {
                    services.remove(&n);
                    world.service(WatchEvent::Deleted(service));
                } else {
                    services.insert(n, service.clone());
                    world.service(WatchEvent::Applied(service));
                }
            } else {
                let mut slice = world.make_slice(n, &[]);
                for _ in 0..dice.roll(7) {
                    let family = [Family::Ip, Family::Ip6][dice.roll(2) as usize];
                    let (ready, local) = (dice.roll(4) > 0, dice.roll(2) == 0);
                    slice.endpoints.push(Endpoint {
                        ip: address(family, 7, dice.roll(9) as u8 + 1),
                        ready,
                        serving: ready || dice.roll(2) == 0,
                        terminating: !ready,
                        local,
                        hints: None,
                    });
                }
                slices.insert(n, slice.clone());
                world.slice(WatchEvent::Applied(slice));
            }
            if edit % 5 == 0 {
                std::thread::park_timeout(Duration::from_millis(3)); // lets a transaction go out
            }
        }
        let want = comparable(&world.fresh(services.into_values().collect(), slices.into_values().collect()));
        assert!(want.len() > 100, "{want:#?}");
        eventually("the kernel holds what a fresh start would make", || comparable(&list()), |now| *now == want);
    });
}
