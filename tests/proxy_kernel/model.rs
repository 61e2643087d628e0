//! After any edits the kernel holds what a fresh start would make of the same Services.

use std::collections::BTreeMap;
use std::time::Duration;

use kubelet_rs::api::WatchEvent;
use kubelet_rs::model::service::{Endpoint, Service};
use kubelet_rs::nft::Family;

use crate::dice::Dice;
use crate::host::{list, normal};
use crate::place::eventually;
use crate::world::{Mode, World, address, cluster_ip};

/// A ruleset without who has which place, without what clients taught it, and without the order in which chains were made.
pub fn comparable(ruleset: &str) -> Vec<String> {
    let mut lines: Vec<_> = normal(ruleset)
        .iter()
        .filter(|line| !line.contains(" expires "))
        .map(|line| match line.split_once(" . 0x") {
            Some((key, rest)) => format!("{key} : {}", rest.split_once(" : ").map_or(rest, |(_, value)| value)),
            None => line.clone(),
        })
        .collect();
    lines.sort();
    lines
}

/// Applies a Service, or deletes it, and keeps what there is then.
fn tell(world: &World, services: &mut BTreeMap<u16, Service>, (n, service): (u16, Service), gone: bool) {
    if gone {
        services.remove(&n);
        world.service(WatchEvent::Deleted(service));
    } else {
        services.insert(n, service.clone());
        world.service(WatchEvent::Applied(service));
    }
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
                dice.dress(&mut service, Family::Ip, n);
                tell(&world, &mut services, (n, service), dice.roll(4) == 0);
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

const TREES: [&str; 5] = ["KUBE-SVC-BY-", "KUBE-SVC-PORT-", "KUBE-NO-EP-", "KUBE-NO-XEP-", "KUBE-NO-NP-"];
const ROOTS: [&str; 4] = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-EXTERNAL-NODEPORTS"];

/// In iptables mode a fresh start writes everything, whatever stands: it must not change anything.
#[test]
fn edits_in_iptables_lead_where_a_fresh_start_leads() {
    World::test_in(Mode::Iptables, Family::Ip, |mut world| {
        let mut dice = Dice(3);
        let ours = |world: &World| -> Vec<String> {
            let rules = world.rules();
            let mut lines: Vec<_> = normal(&rules)
                .into_iter()
                // Who has which place depends on who was there before.
                .filter(|line| !line.starts_with('#') && !line.contains("DNAT") && !line.contains("statistic") && !line.contains("recent"))
                // So does how many chains lead to a frontend.
                .filter(|line| !TREES.iter().any(|tree| line.contains(&format!("-j {tree}")) || line.starts_with(&format!(":{tree}"))))
                .map(|line| match TREES.iter().find_map(|tree| line.strip_prefix(&format!("-A {tree}"))) {
                    Some(rest) => rest.split_once(' ').map_or(rest, |(_, rule)| rule).to_owned(),
                    None => line.split(" [").next().unwrap_or_default().to_owned(),
                })
                .map(|line| match ROOTS.iter().find_map(|root| line.strip_prefix(&format!("-A {root} "))) {
                    Some(rule) => rule.to_owned(),
                    None => line,
                })
                .collect();
            lines.sort();
            lines
        };
        world.start(vec![], vec![]);
        let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..150 {
            let n = dice.roll(40) as u16 + 1;
            if dice.roll(2) == 0 {
                let mut service = world.make_service(n, [0, 30000 + n][dice.roll(2) as usize]);
                dice.dress(&mut service, Family::Ip, n);
                tell(&world, &mut services, (n, service), dice.roll(5) == 0);
            } else {
                let mut slice = world.make_slice(n, &[]);
                for pod in [1, 2] {
                    if dice.roll(3) == 0 {
                        continue;
                    }
                    let local = dice.often(5);
                    slice.endpoints.push(dice.endpoint(address(Family::Ip, pod, 1), local));
                }
                slices.insert(n, slice.clone());
                world.slice(WatchEvent::Applied(slice));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        world.settle();
        let before = ours(&world);
        assert!(before.len() > 200, "{before:#?}");
        world.start(services.into_values().collect(), slices.into_values().collect());
        std::thread::park_timeout(Duration::from_millis(500));
        world.settle();
        assert_eq!(ours(&world), before);
    });
}
