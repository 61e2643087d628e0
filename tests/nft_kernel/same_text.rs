//! What `nft list ruleset` reads back from the kernel is what the fake holds after the same transactions.

use std::net::Ipv4Addr;
use std::time::Duration;

use kubelet_rs::nft::objects::{PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT};
use kubelet_rs::nft::value::TCP;
use kubelet_rs::nft::{
    Chain, Concat, CtState, Data, DataType, Element, Expr, Fake, Family, HookPoint, HookType, Kernel, Name, Netfilter, Reject, Rule, Set,
    SetState, Statement, Transaction, Value, Verdict,
};

use crate::host::{in_namespace, list, normal};
use crate::rulesets::{add_elements, backend, backend_key, key, layout, table, target, vip};

/// The kernel and the fake side by side.
struct Both {
    kernel: Kernel,
    fake: Fake,
}

impl Both {
    fn new(kernel: Kernel) -> Self {
        Self { kernel, fake: Fake::new() }
    }

    async fn apply(&mut self, tx: &Transaction) {
        self.kernel.apply(tx).await.unwrap();
        self.fake.apply(tx).await.unwrap();
        assert_eq!(normal(&list()), normal(&self.fake.dump()));
    }
}

fn both_families(test: impl AsyncFn(Both, Family) + Clone + Send + 'static) {
    for family in [Family::Ip, Family::Ip6] {
        let test = test.clone();
        in_namespace(async move |kernel| test(Both::new(kernel), family).await);
    }
}

#[test]
fn the_flat_layout() {
    both_families(async |mut both, family| {
        let mut tx = layout(family, 3);
        add_elements(&mut tx);
        both.apply(&tx).await;
        // The same again with other data, as after a restart: chains are flushed, elements stay.
        let mut again = layout(family, 3);
        let chains = both.fake.table(&table(family)).await.unwrap().unwrap().chains;
        let mut tx = Transaction::new(table(family));
        chains.iter().for_each(|state| tx.flush_chain(state.chain.name.clone()));
        tx.ops.append(&mut again.ops);
        both.apply(&tx).await;
    });
}

#[test]
fn one_endpoint_changes() {
    both_families(async |mut both, family| {
        let mut tx = layout(family, 3);
        add_elements(&mut tx);
        both.apply(&tx).await;
        let (ep2, ep1): (Name, Name) = ("ep2".into(), "ep1".into());
        let ip = vip(family, 1);
        // Another backend in the second place.
        let mut tx = Transaction::new(table(family));
        tx.delete_element(&ep2, Element::key(backend_key(ip, TCP, 80, 1)));
        tx.add_element(&ep2, Element::value(backend_key(ip, TCP, 80, 1), target(backend(family, 9), 8080)));
        both.apply(&tx).await;
        // One backend fewer.
        let mut tx = Transaction::new(table(family));
        tx.delete_element(&"service-ips".into(), Element::key(key(ip, TCP, 80)));
        tx.add_element(&"service-ips".into(), Element::verdict(key(ip, TCP, 80), Verdict::goto("n1")));
        tx.add_element(&ep1, Element::value(backend_key(ip, TCP, 80, 0), target(backend(family, 9), 8080)));
        tx.delete_element(&ep2, Element::key(backend_key(ip, TCP, 80, 0)));
        tx.delete_element(&ep2, Element::key(backend_key(ip, TCP, 80, 1)));
        both.apply(&tx).await;
        // Everything that only two backends needed.
        let mut tx = Transaction::new(table(family));
        tx.delete_chain("n2");
        tx.delete_set("ep2");
        both.apply(&tx).await;
        let mut tx = Transaction::new(table(family));
        tx.delete_table();
        both.apply(&tx).await;
    });
}

#[test]
fn every_statement() {
    in_namespace(async |kernel| {
        let mut both = Both::new(kernel);
        let lan = Ipv4Addr::new(192, 168, 0, 0);
        let mut tx = Transaction::new(table(Family::Ip));
        tx.add_table();
        tx.add_set(Set::set("ports", [DataType::Service]));
        tx.add_set(Set::set("marks", [DataType::Mark]).comment("single mark"));
        tx.add_set(Set::data_map("ports-of", [DataType::Mark], [DataType::Service]));
        tx.add_element(&"ports".into(), Element::key(Concat::of(&[Value::Port(80)])).comment("web"));
        tx.add_element(&"marks".into(), Element::key(Concat::of(&[Value::Mark(1)])));
        tx.add_element(&"ports-of".into(), Element::value(Concat::of(&[Value::Mark(2)]), Concat::of(&[Value::Port(443)])));
        tx.add_chain(Chain::plain("other"));
        tx.add_chain(Chain::base("in", HookType::Filter, HookPoint::Input, PRIORITY_FILTER - 5));
        tx.add_chain(Chain::base("out", HookType::Nat, HookPoint::Output, PRIORITY_DSTNAT));
        for rule in [
            Rule::new().is(Expr::Saddr, lan).counter().verdict(Verdict::Accept),
            Rule::new().is_not(Expr::Daddr, lan).jump("other").comment("not there"),
            Rule::new().within(Expr::Saddr, lan, 14).goto("other"),
            Rule::new().not_within(Expr::Saddr, lan, 16).verdict(Verdict::Return),
            Rule::new().within(Expr::Saddr, lan, 32).verdict(Verdict::Continue),
            Rule::new().in_range(Expr::Saddr, lan, Ipv4Addr::new(192, 168, 0, 9)).counter(),
            Rule::new().then(Statement::Range { left: Expr::Mark, not: true, from: Value::Mark(1), to: Value::Mark(7) }).counter(),
            Rule::new().in_range(Expr::Dport, Value::Port(80), Value::Port(90)).counter(),
            Rule::new().is(Expr::L4Proto, Value::Proto(TCP)).counter(),
            Rule::new().is(Expr::Mark, Value::Mark(5)).mark_or(1),
            Rule::new().marked(0x10).mark_xor(0x10),
            Rule::new().then(Statement::SetMark { and: 0xff, xor: 0 }),
            Rule::new().daddr_local().counter(),
            Rule::new().saddr_local().counter(),
            Rule::new().ct_new().verdict(Verdict::Drop),
            Rule::new().then(Statement::CtState(CtState::ESTABLISHED | CtState::RELATED)).verdict(Verdict::Accept),
            Rule::new().ct_dnat().counter(),
            Rule::new().iifname("lo").counter(),
            Rule::new().iifname_not("cni*").counter(),
            Rule::new().in_set([Expr::Dport], "ports").counter(),
            Rule::new().not_in_set([Expr::Mark], "marks").counter(),
            Rule::new().is(Expr::L4Proto, Value::Proto(TCP)).reject(Reject::TcpReset),
            Rule::new().reject(Reject::PortUnreachable),
        ] {
            tx.add_rule("in", rule);
        }
        tx.add_rule("out", Rule::new().is(Expr::L4Proto, Value::Proto(TCP)).dnat(Ipv4Addr::LOCALHOST, 8080));
        both.apply(&tx).await;
    });
}

#[test]
fn what_is_learned() {
    both_families(async |mut both, family| {
        let addr = family.addr_type();
        let mut tx = Transaction::new(table(family));
        tx.add_table();
        let key = [addr, addr, DataType::Proto, DataType::Service];
        tx.add_set(Set::data_map("affinity", key, [addr, DataType::Service]).learns(1000));
        tx.add_chain(Chain::base("out", HookType::Nat, HookPoint::Postrouting, PRIORITY_SRCNAT));
        tx.add_chain(Chain::base("in", HookType::Nat, HookPoint::Input, PRIORITY_SRCNAT));
        tx.add_chain(Chain::plain("sticky"));
        let client = [Expr::Saddr, Expr::OriginalDaddr, Expr::L4Proto, Expr::OriginalDport];
        for (chain, seconds) in [("out", 10_800), ("in", 90_061)] {
            tx.add_rule(chain, Rule::new().learn("affinity", client, seconds, [Expr::Daddr, Expr::Dport]));
        }
        tx.add_rule("sticky", Rule::new().dnat_map([Expr::Saddr, Expr::Daddr, Expr::L4Proto, Expr::Dport], "affinity"));
        both.apply(&tx).await;
        let sets = both.kernel.table(&table(family)).await.unwrap().unwrap().sets;
        assert_eq!(sets, both.fake.table(&table(family)).await.unwrap().unwrap().sets);
    });
}

#[test]
fn what_stands_is_read_back() {
    both_families(async |mut both, family| {
        let id = table(family);
        assert_eq!(both.kernel.table(&id).await.unwrap(), None);
        let mut tx = layout(family, 3);
        add_elements(&mut tx);
        both.apply(&tx).await;
        let kernel = both.kernel.table(&id).await.unwrap().unwrap();
        let fake = both.fake.table(&id).await.unwrap().unwrap();
        let shape = |state: &kubelet_rs::nft::TableState| {
            state.chains.iter().map(|chain| (chain.chain.clone(), chain.rules.len())).collect::<Vec<_>>()
        };
        assert_eq!(shape(&kernel), shape(&fake));
        assert_eq!(kernel.sets, fake.sets);
        for state in &kernel.sets {
            let SetState::Known(set) = state else { panic!("{state:?}") };
            let elements = both.kernel.elements(&id, &set.name).await.unwrap();
            assert_eq!(elements, both.fake.elements(&id, &set.name).await.unwrap(), "{}", set.name);
        }
        // A handle that was read removes its rule.
        let masquerading = kernel.chains.iter().find(|state| &*state.chain.name == "masquerading").unwrap();
        let mut tx = Transaction::new(id);
        tx.delete_rule("masquerading", masquerading.rules[1]);
        both.kernel.apply(&tx).await.unwrap();
        assert!(!list().contains("meta mark set meta mark ^"));
        assert!(list().contains("masquerade fully-random"));
    });
}

#[test]
fn sets_of_others_are_named_but_not_understood() {
    in_namespace(async |mut kernel| {
        crate::host::run("nft", &["add table ip services; add set ip services aff { type ipv4_addr; flags dynamic,timeout; timeout 3h; }"]);
        let state = kernel.table(&table(Family::Ip)).await.unwrap().unwrap();
        assert_eq!(state.sets, [SetState::Foreign("aff".into())]);
    });
}

/// A set of numbers with one value each.
fn many(elements: u32) -> Transaction {
    let set: Name = "many".into();
    let mut tx = Transaction::new(table(Family::Ip));
    tx.add_table();
    tx.add_set(Set::data_map(set.clone(), [DataType::Mark], [DataType::Ipv4, DataType::Service]));
    for n in 0..elements {
        tx.add_element(&set, Element::value(Concat::of(&[Value::Mark(n)]), target(backend(Family::Ip, 1), 80)));
    }
    tx
}

#[test]
fn a_large_set_comes_back_whole_while_others_change_things() {
    in_namespace(async |mut kernel| {
        kernel.apply(&many(20_000)).await.unwrap();
        // Another program's changes, which make the kernel say that what it gives may be torn.
        let mut other = Kernel::open().await.unwrap();
        let changes = tokio::spawn(async move {
            for n in 0..5 {
                tokio::time::sleep(Duration::from_millis(30)).await;
                let mut tx = Transaction::new(table(Family::Ip6));
                tx.add_table();
                tx.add_chain(Chain::plain(format!("c{n}")));
                other.apply(&tx).await.unwrap();
            }
        });
        loop {
            let quiet = changes.is_finished();
            let elements = kernel.elements(&table(Family::Ip), "many").await.unwrap();
            assert_eq!(elements.len(), 20_000);
            assert!(elements.iter().all(|element| element.data == Data::Value(target(backend(Family::Ip, 1), 80))));
            if quiet {
                break;
            }
        }
    });
}
