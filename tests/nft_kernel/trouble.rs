//! What the kernel refuses, and what is said then.

use kubelet_rs::nft::value::TCP;
use kubelet_rs::nft::{
    Chain, DataType, Element, Error, Expr, Fake, Family, HookPoint, HookType, Kernel, Name, Netfilter, Rule, Set, Transaction, Verdict,
};

use crate::host::{in_namespace, list, run};
use crate::rulesets::{CONNECTION, add_elements, backend_key, key, layout, table, target, vip};

fn refusal(result: Result<(), Error>) -> (Option<usize>, i32) {
    match result {
        Err(Error::Refused { index, errno, .. }) => (index, errno),
        other => panic!("{other:?}"),
    }
}

#[test]
fn kernel_and_fake_refuse_the_same_changes() {
    in_namespace(async |mut kernel| {
        let mut fake = Fake::new();
        let mut tx = layout(Family::Ip, 2);
        add_elements(&mut tx);
        kernel.apply(&tx).await.unwrap();
        fake.apply(&tx).await.unwrap();
        let before = list();
        let ip = vip(Family::Ip, 1);
        type Build = fn(&mut Transaction, std::net::IpAddr);
        let mistakes: [(&str, Build); 16] = [
            ("delete a chain that is not there", |tx, _| tx.delete_chain("none")),
            ("flush a chain that is not there", |tx, _| tx.flush_chain("none")),
            ("delete a set that is not there", |tx, _| tx.delete_set("none")),
            ("a rule in no chain", |tx, _| tx.add_rule("none", Rule::new().counter())),
            ("a jump to nowhere", |tx, _| tx.add_rule("n1", Rule::new().jump("none"))),
            ("a jump to a base chain", |tx, _| tx.add_rule("n1", Rule::new().jump("nat-output"))),
            ("a look-up in no map", |tx, _| tx.add_rule("n1", Rule::new().vmap(CONNECTION, "none"))),
            ("a vmap of a plain set", |tx, _| tx.add_rule("n1", Rule::new().vmap([Expr::Daddr], "cluster-ips"))),
            ("a chain at another hook", |tx, _| tx.add_chain(Chain::base("n1", HookType::Nat, HookPoint::Output, 0))),
            ("a set of other types", |tx, _| tx.add_set(Set::set("service-ips", [DataType::Ipv4]))),
            ("a set in use", |tx, _| tx.delete_set("service-ips")),
            ("a chain in use", |tx, _| tx.delete_chain("n1")),
            ("an element of no set", |tx, ip| tx.add_element(&"none".into(), Element::key(key(ip, TCP, 1)))),
            ("an element that is not there", |tx, ip| tx.delete_element(&"service-ips".into(), Element::key(key(ip, TCP, 1)))),
            ("an element with other data", |tx, ip| {
                tx.add_element(&"ep2".into(), Element::value(backend_key(ip, TCP, 80, 0), target(ip, 1)));
            }),
            ("an element of other types", |tx, ip| tx.add_element(&"cluster-ips".into(), Element::key(key(ip, TCP, 1)))),
        ];
        for (what, build) in mistakes {
            let mut tx = Transaction::new(table(Family::Ip));
            tx.add_chain(Chain::plain("new"));
            build(&mut tx, ip);
            let said = kernel.apply(&tx).await;
            println!("{what}: {}", said.as_ref().unwrap_err());
            assert_eq!(refusal(said), refusal(fake.apply(&tx).await), "{what}");
            assert_eq!(list(), before, "{what}");
        }
    });
}

#[test]
fn the_first_of_many_refusals_is_named() {
    in_namespace(async |mut kernel| {
        let set: Name = "ports".into();
        let mut tx = Transaction::new(table(Family::Ip));
        tx.add_table();
        tx.add_set(Set::set(set.clone(), [DataType::Ipv4]));
        for n in 0..20_000 {
            tx.delete_chain(format!("none{n}"));
        }
        let error = kernel.apply(&tx).await.unwrap_err();
        assert!(error.to_string().contains("delete chain none0: "), "{error}");
        assert_eq!(kernel.table(&table(Family::Ip)).await.unwrap(), None, "nothing took place");
    });
}

#[test]
fn a_circle_of_chains_is_refused() {
    in_namespace(async |mut kernel| {
        let mut tx = Transaction::new(table(Family::Ip));
        tx.add_table();
        tx.add_chain(Chain::base("in", HookType::Filter, HookPoint::Input, 0));
        tx.add_chain(Chain::plain("a"));
        tx.add_chain(Chain::plain("b"));
        tx.add_rule("in", Rule::new().jump("a"));
        tx.add_rule("a", Rule::new().jump("b"));
        tx.add_rule("b", Rule::new().verdict(Verdict::jump("a")));
        let error = kernel.apply(&tx).await.unwrap_err();
        println!("{error}");
        assert!(matches!(error, Error::Refused { .. }));
        assert_eq!(list(), "");
    });
}

/// Set in the process that [`without_permission_one_line_says_so`] starts without rights over its network namespace.
const WITHOUT_RIGHTS: &str = "NFT_KERNEL_WITHOUT_RIGHTS";

#[test]
fn without_permission_one_line_says_so() {
    if std::env::var_os(WITHOUT_RIGHTS).is_none() {
        let program = std::env::current_exe().unwrap();
        let again = ["--user", "env", &format!("{WITHOUT_RIGHTS}=1"), program.to_str().unwrap()];
        run("unshare", &[&again[..], &["--exact", "trouble::without_permission_one_line_says_so"]].concat());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Kernel::open()).unwrap_err();
    assert!(matches!(error, Error::NoPermission), "{error}");
    assert_eq!(error.to_string(), "no permission to use nftables: run as root, or give the process CAP_NET_ADMIN");
}
