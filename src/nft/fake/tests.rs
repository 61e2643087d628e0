use std::net::Ipv4Addr;

use super::*;
use crate::nft::value::TCP;
use crate::nft::*;

fn table() -> TableId {
    TableId::new(Family::Ip, "t")
}

fn tx(build: impl FnOnce(&mut Transaction)) -> Transaction {
    let mut transaction = Transaction::new(table());
    build(&mut transaction);
    transaction
}

fn key(last: u8) -> Concat {
    Concat::of(&[Value::from(Ipv4Addr::new(10, 0, 0, last)), Value::Proto(TCP), Value::Port(80)])
}

fn small() -> Transaction {
    tx(|tx| {
        tx.add_table_with_comment("why");
        tx.add_chain(Chain::plain("n1"));
        tx.add_chain(Chain::base("pre", HookType::Nat, HookPoint::Prerouting, objects::PRIORITY_DSTNAT));
        tx.add_set(Set::verdict_map("vips", [DataType::Ipv4, DataType::Proto, DataType::Service]).comment("c"));
        tx.add_rule("pre", Rule::new().vmap([Expr::Daddr, Expr::L4Proto, Expr::Dport], "vips"));
        tx.add_element(&"vips".into(), Element::verdict(key(2), Verdict::Drop));
        tx.add_element(&"vips".into(), Element::verdict(key(1), Verdict::goto("n1")).comment("ns/a"));
    })
}

fn errno(result: Result<(), Error>) -> (Option<usize>, Errno) {
    match result {
        Err(Error::Refused { index, errno, .. }) => (index, Errno::from_raw(errno)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_dump_reads_like_nft() {
    let mut fake = Fake::new();
    fake.apply(&small()).await.unwrap();
    let want = "table ip t {
\tcomment \"why\"

\tmap vips {
\t\ttype ipv4_addr . inet_proto . inet_service : verdict
\t\tcomment \"c\"
\t\telements = { 10.0.0.1 . tcp . 80 comment \"ns/a\" : goto n1,
\t\t\t     10.0.0.2 . tcp . 80 : drop }
\t}

\tchain n1 {
\t}

\tchain pre {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tip daddr . meta l4proto . th dport vmap @vips
\t}
}
";
    assert_eq!(fake.dump(), want);
}

#[tokio::test]
async fn adding_again_changes_nothing() {
    let mut fake = Fake::new();
    fake.apply(&small()).await.unwrap();
    let before = fake.dump();
    let mut again = small();
    again.ops.retain(|op| !matches!(op, Op::AddRule { .. }));
    fake.apply(&again).await.unwrap();
    assert_eq!(fake.dump(), before);
    assert_eq!(fake.take_applied().len(), 2);
}

#[tokio::test]
async fn mistakes_change_nothing_and_name_the_change() {
    let vips: Name = "vips".into();
    let element = |data| Element { key: key(1), data, comment: None };
    type Build = Box<dyn Fn(&mut Transaction)>;
    let table: [(Errno, Build); 13] = [
        (Errno::ENOENT, Box::new(|tx| tx.delete_chain("none"))),
        (Errno::ENOENT, Box::new(|tx| tx.flush_chain("none"))),
        (Errno::ENOENT, Box::new(|tx| tx.add_rule("none", Rule::new()))),
        (Errno::ENOENT, Box::new(|tx| tx.add_rule("n1", Rule::new().jump("none")))),
        (Errno::ENOENT, Box::new(|tx| tx.add_rule("n1", Rule::new().vmap([Expr::Daddr], "none")))),
        (Errno::EOPNOTSUPP, Box::new(|tx| tx.add_rule("n1", Rule::new().jump("pre")))),
        (Errno::EEXIST, Box::new(|tx| tx.add_chain(Chain::base("n1", HookType::Nat, HookPoint::Output, 0)))),
        (Errno::EEXIST, Box::new(|tx| tx.add_set(Set::set("vips", [DataType::Ipv4])))),
        (Errno::EBUSY, Box::new(|tx| tx.delete_set("vips"))),
        (Errno::EBUSY, Box::new(|tx| tx.delete_chain("n1"))),
        (Errno::ENOENT, {
            let vips = vips.clone();
            Box::new(move |tx| tx.delete_element(&vips, Element::key(key(9))))
        }),
        (Errno::EINVAL, {
            let vips = vips.clone();
            Box::new(move |tx| tx.add_element(&vips, Element::key(key(9))))
        }),
        (Errno::EEXIST, Box::new(move |tx| tx.add_element(&vips, element(Data::Verdict(Verdict::Accept))))),
    ];
    let mut fake = Fake::new();
    fake.apply(&small()).await.unwrap();
    let before = fake.dump();
    for (want, build) in table {
        let transaction = tx(|tx| {
            tx.add_chain(Chain::plain("new"));
            build(tx);
        });
        assert_eq!(errno(fake.apply(&transaction).await), (Some(1), want), "{:?}", transaction.ops[1]);
        assert_eq!(fake.dump(), before);
    }
}

#[tokio::test]
async fn what_is_no_longer_used_can_go_in_one_transaction() {
    let mut fake = Fake::new();
    fake.apply(&small()).await.unwrap();
    let vips: Name = "vips".into();
    let transaction = tx(|tx| {
        tx.delete_element(&vips, Element::key(key(1)));
        tx.delete_chain("n1");
        tx.flush_chain("pre");
        tx.delete_set("vips");
        tx.delete_chain("pre");
    });
    fake.apply(&transaction).await.unwrap();
    assert_eq!(fake.dump(), "table ip t {\n\tcomment \"why\"\n\n}\n");
    fake.apply(&tx(Transaction::delete_table)).await.unwrap();
    assert_eq!(fake.dump(), "");
    assert_eq!(errno(fake.apply(&tx(Transaction::delete_table)).await), (Some(0), Errno::ENOENT));
}

#[tokio::test]
async fn what_stands_is_read_back() {
    let mut fake = Fake::new();
    assert_eq!(fake.table(&table()).await.unwrap(), None);
    fake.apply(&small()).await.unwrap();
    let state = fake.table(&table()).await.unwrap().unwrap();
    assert_eq!(state.chains.iter().map(|chain| (&*chain.chain.name, chain.rules.len())).collect::<Vec<_>>(), [("n1", 0), ("pre", 1)]);
    assert!(matches!(&state.sets[..], [SetState::Known(set)] if *set.name == *"vips"));
    let elements = fake.elements(&table(), "vips").await.unwrap();
    assert_eq!(elements[0], Element::verdict(key(1), Verdict::goto("n1")).comment("ns/a"));
    assert!(matches!(fake.elements(&table(), "none").await, Err(Error::NoSuchSet { .. })));
    let handle = state.chains[1].rules[0];
    fake.apply(&tx(|tx| tx.delete_rule("pre", handle))).await.unwrap();
    assert!(!fake.dump().contains("vmap"));
}

#[tokio::test]
async fn a_failure_can_be_ordered() {
    let mut fake = Fake::new();
    fake.fail_next(Errno::ENOMEM);
    let clone = fake.clone();
    assert_eq!(errno(fake.apply(&small()).await), (None, Errno::ENOMEM));
    fake.apply(&small()).await.unwrap();
    assert_eq!(clone.dump(), fake.dump());
}
