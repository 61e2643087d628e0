//! Random Services, the same each time.

use kubelet_rs::model::prefix::Prefix;
use kubelet_rs::model::service::{Endpoint, Service, Traffic};
use kubelet_rs::nft::Family;

use crate::world::{address, external};

/// A generator that gives the same numbers each time (Knuth's MMIX).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// True so many times in ten.
    pub fn often(&mut self, times: u64) -> bool {
        self.roll(10) < times
    }

    /// Gives Service number `n` what some Services ask for.
    pub fn dress(&mut self, service: &mut Service, family: Family, n: u16) {
        let n = u8::try_from(n).unwrap();
        let mut addresses = |kind: u8| -> Box<[_]> { if self.often(5) { [external(family, kind + n)].into() } else { Box::default() } };
        let (external_ips, load_balancer_ips) = (addresses(0), addresses(100));
        let links = [1, 3].into_iter().filter(|_| self.often(5)).collect::<Vec<_>>();
        let range = |link: u8| Prefix::new(address(family, link, 0), if family == Family::Ip { 24 } else { 64 }).unwrap();
        let traffic = Traffic {
            affinity: self.often(3).then_some(3600),
            internal_local: self.often(3),
            external_local: self.often(5),
            external_ips,
            load_balancer_ips,
            source_ranges: if self.often(4) { links.into_iter().map(range).collect() } else { Box::default() },
            health_check_port: 0,
        };
        service.traffic = self.often(8).then(|| Box::new(traffic));
    }

    /// An endpoint in any state.
    pub fn endpoint(&mut self, ip: std::net::IpAddr, local: bool) -> Endpoint {
        let ready = self.often(5);
        Endpoint { ip, ready, serving: ready || self.often(6), terminating: !ready && self.often(7), local, hints: None }
    }
}
