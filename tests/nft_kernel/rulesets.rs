//! Rulesets to test with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kubelet_rs::nft::objects::{PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT};
use kubelet_rs::nft::value::{TCP, UDP};
use kubelet_rs::nft::{
    Chain, Concat, DataType, Element, Expr, Family, HookPoint, HookType, Name, Reject, Rule, Set, TableId, Transaction, Value, Verdict,
};

/// The bit that asks for masquerading.
pub const MARK: u32 = 0x4000;
/// What a connection is looked up by.
pub const CONNECTION: [Expr; 3] = [Expr::Daddr, Expr::L4Proto, Expr::Dport];

/// The table that the tests program.
pub fn table(family: Family) -> TableId {
    TableId::new(family, "services")
}

/// A virtual address.
pub fn vip(family: Family, n: u16) -> IpAddr {
    match family {
        Family::Ip => Ipv4Addr::from_bits(0x0a60_0000 + u32::from(n)).into(),
        Family::Ip6 => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, n).into(),
    }
}

/// The address of a backend.
pub fn backend(family: Family, n: u16) -> IpAddr {
    match family {
        Family::Ip => Ipv4Addr::from_bits(0x0af4_0000 + u32::from(n)).into(),
        Family::Ip6 => Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, n).into(),
    }
}

/// Key of a virtual address and port.
pub fn key(addr: IpAddr, proto: u8, port: u16) -> Concat {
    Concat::of(&[addr.into(), Value::Proto(proto), Value::Port(port)])
}

/// Key of one backend of a virtual address and port.
pub fn backend_key(addr: IpAddr, proto: u8, port: u16, index: u32) -> Concat {
    Concat::of(&[addr.into(), Value::Proto(proto), Value::Port(port), Value::Mark(index)])
}

/// Address and port that a connection is sent to.
pub fn target(addr: IpAddr, port: u16) -> Concat {
    Concat::of(&[addr.into(), Value::Port(port)])
}

/// The layout without objects a Service: chains and maps by the number of backends, up to `most`, and no elements.
pub fn layout(family: Family, most: u32) -> Transaction {
    let addr = family.addr_type();
    let connection = [addr, DataType::Proto, DataType::Service];
    let filter = |name: &str, point| Chain::base(name, HookType::Filter, point, PRIORITY_FILTER);
    let mut tx = Transaction::new(table(family));
    tx.add_table_with_comment("flat layout");
    tx.add_set(Set::verdict_map("service-ips", connection).comment("virtual address to number of backends"));
    tx.add_set(Set::verdict_map("service-nodeports", [DataType::Proto, DataType::Service]));
    tx.add_set(Set::verdict_map("no-endpoint-services", connection));
    tx.add_set(Set::set("cluster-ips", [addr]));
    tx.add_set(Set::set("hairpin-connections", [addr, addr, DataType::Proto, DataType::Service]));
    for count in 1..=most {
        let map = format!("ep{count}");
        let chain = format!("n{count}");
        tx.add_set(Set::data_map(&*map, [addr, DataType::Proto, DataType::Service, DataType::Mark], [addr, DataType::Service]));
        tx.add_chain(Chain::plain(&*chain));
        let [daddr, proto, dport] = CONNECTION;
        tx.add_rule(&*chain, Rule::new().dnat_map([daddr, proto, dport, Expr::Random(count)], &*map));
    }
    for chain in ["services", "mark-for-masquerade", "masquerading", "reject-chain", "service-endpoints-check", "cluster-ips-check"] {
        tx.add_chain(Chain::plain(chain));
    }
    tx.add_chain(Chain::base("nat-prerouting", HookType::Nat, HookPoint::Prerouting, PRIORITY_DSTNAT));
    tx.add_chain(Chain::base("nat-output", HookType::Nat, HookPoint::Output, PRIORITY_DSTNAT));
    tx.add_chain(Chain::base("nat-postrouting", HookType::Nat, HookPoint::Postrouting, PRIORITY_SRCNAT));
    tx.add_chain(filter("filter-input", HookPoint::Input));
    tx.add_chain(filter("filter-forward", HookPoint::Forward));
    tx.add_chain(filter("filter-output", HookPoint::Output));
    tx.add_rule("mark-for-masquerade", Rule::new().mark_or(MARK));
    tx.add_rule("masquerading", Rule::new().not_marked(MARK).verdict(Verdict::Return));
    tx.add_rule("masquerading", Rule::new().mark_xor(MARK));
    tx.add_rule("masquerading", Rule::new().masquerade());
    tx.add_rule("reject-chain", Rule::new().reject(Reject::PortUnreachable));
    tx.add_rule("services", Rule::new().vmap(CONNECTION, "service-ips"));
    let loopback = match family {
        Family::Ip => (IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
        Family::Ip6 => (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    };
    let node_port = Rule::new().daddr_local().not_within(Expr::Daddr, loopback.0, loopback.1);
    tx.add_rule("services", node_port.vmap([Expr::L4Proto, Expr::Dport], "service-nodeports"));
    let hairpin = [Expr::Saddr, Expr::Daddr, Expr::L4Proto, Expr::Dport];
    tx.add_rule("nat-postrouting", Rule::new().ct_dnat().in_set(hairpin, "hairpin-connections").masquerade());
    tx.add_rule("nat-postrouting", Rule::new().jump("masquerading"));
    tx.add_rule("service-endpoints-check", Rule::new().vmap(CONNECTION, "no-endpoint-services"));
    tx.add_rule("cluster-ips-check", Rule::new().in_set([Expr::Daddr], "cluster-ips").goto("reject-chain").comment("wrong port"));
    for chain in ["nat-prerouting", "nat-output"] {
        tx.add_rule(chain, Rule::new().jump("services"));
    }
    for chain in ["filter-input", "filter-forward", "filter-output"] {
        tx.add_rule(chain, Rule::new().ct_new().jump("service-endpoints-check"));
    }
    for chain in ["filter-forward", "filter-output"] {
        tx.add_rule(chain, Rule::new().ct_new().jump("cluster-ips-check"));
    }
    tx
}

/// Adds a virtual address with so many backends, which have consecutive addresses.
pub fn add_service(tx: &mut Transaction, vip: IpAddr, port: u16, backends: &[(IpAddr, u16)]) {
    let count = backends.len();
    let map: Name = format!("ep{count}").into();
    for (index, (addr, to)) in (0..).zip(backends) {
        tx.add_element(&map, Element::value(backend_key(vip, TCP, port, index), target(*addr, *to)));
    }
    let vips: Name = "service-ips".into();
    tx.add_element(&vips, Element::verdict(key(vip, TCP, port), Verdict::goto(format!("n{count}"))));
    tx.add_element(&"cluster-ips".into(), Element::key(Concat::of(&[vip.into()])));
}

/// Elements of every kind.
pub fn add_elements(tx: &mut Transaction) {
    let family = tx.table.family;
    let ip = |n| vip(family, n);
    add_service(tx, ip(1), 80, &[(backend(family, 1), 8080), (backend(family, 2), 8080)]);
    add_service(tx, ip(2), 443, &[(backend(family, 3), 8443)]);
    let refused: Name = "no-endpoint-services".into();
    tx.add_element(&refused, Element::verdict(key(ip(3), UDP, 53), Verdict::goto("reject-chain")).comment("kube-system/dns"));
    tx.add_element(&refused, Element::verdict(key(ip(4), 132, 9), Verdict::Drop));
    let port = Concat::of(&[Value::Proto(TCP), Value::Port(30080)]);
    tx.add_element(&"service-nodeports".into(), Element::verdict(port, Verdict::goto("n1")));
    let hairpin = Concat::of(&[backend(family, 1).into(), backend(family, 1).into(), Value::Proto(TCP), Value::Port(8080)]);
    tx.add_element(&"hairpin-connections".into(), Element::key(hairpin));
}
