use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::attributes::{Attributes, Message, Messages};
use super::super::decode;
use super::*;
use crate::nft::objects::PRIORITY_DSTNAT;
use crate::nft::value::TCP;
use crate::nft::*;

fn tx(build: impl FnOnce(&mut Transaction)) -> Transaction {
    let mut transaction = Transaction::new(TableId::new(Family::Ip, "t"));
    build(&mut transaction);
    transaction
}

fn messages(batch: &Batch) -> Vec<Message<'_>> {
    Messages(&batch.bytes).collect()
}

/// The attributes of each message but the first and the last, as hex in words of four bytes.
fn bodies(transaction: &Transaction) -> Vec<String> {
    let batch = Batch::encode(transaction, 1).unwrap();
    let all = messages(&batch);
    let hex = |message: &Message<'_>| {
        let words: Vec<String> =
            message.body.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).collect();
        words.join(" ")
    };
    all[1..all.len() - 1].iter().map(hex).collect()
}

fn key(n: u32) -> Concat {
    let ip = Ipv4Addr::new(10, 0, 0, 1);
    Concat::of(&[ip.into(), Value::Proto(TCP), Value::Port(80), Value::Mark(n)])
}

/// The words are those that nft 1.0.6 sends for the same objects (`nft --debug=mnl`), on a host with the low byte first, but for the order
/// of attributes in `meta` and the number that nft gives a set, which the kernel doesn't need.
#[test]
#[cfg(target_endian = "little")]
fn messages_are_those_of_nft() {
    let transaction = tx(|tx| {
        tx.add_table_with_comment("hello");
        tx.add_chain(Chain::base("services", HookType::Nat, HookPoint::Prerouting, PRIORITY_DSTNAT));
        tx.add_rule("n2", Rule::new().counter().reject(Reject::PortUnreachable));
        tx.add_rule("n2", Rule::new().iifname_not("cni*").masquerade().comment("foo"));
        tx.add_element(&"ep".into(), Element::value(key(0), Concat::of(&[Ipv4Addr::new(10, 1, 0, 1).into(), Value::Port(8080)])));
    });
    let got = bodies(&transaction);
    let want = [
        // nfgenmsg; name; comment
        "02000000 06000100 74000000 0c000600 00066865 6c6c6f00",
        // table, name, type, hook
        "02000000 06000100 74000000 0d000300 73657276 69636573 00000000 08000700 6e617400 14000480 08000100 00000000 08000200 ffffff9c",
        // table, chain, counter and reject with type 0, code 3
        "02000000 06000100 74000000 07000200 6e320000 3c000480 14000180 0c000100 636f756e 74657200 04000280 \
         24000180 0b000100 72656a65 63740000 14000280 08000100 00000000 05000200 03000000",
        // table, chain, meta, cmp, masq, comment
        "02000000 06000100 74000000 07000200 6e320000 70000480 24000180 09000100 6d657461 00000000 14000280 08000100 00000001 08000200 \
         00000006 2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000001 0c000380 07000100 636e6900 1c000180 09000100 \
         6d617371 00000000 0c000280 08000100 00000010 0a000700 0004666f 6f000000",
        // table, set, elements: key and data
        "02000000 06000100 74000000 07000200 65700000 30000380 2c000180 18000180 14000100 0a000001 06000000 00500000 00000000 \
         10000280 0c000100 0a010001 1f900000",
    ];
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got, want);
    }
}

#[test]
fn a_batch_is_framed_and_only_its_last_change_asks_for_an_answer() {
    let transaction = tx(|tx| {
        tx.add_table();
        tx.add_chain(Chain::plain("a"));
        tx.delete_chain("b");
    });
    let batch = Batch::encode(&transaction, 7).unwrap();
    let all = messages(&batch);
    let heads: Vec<_> = all.iter().map(|message| (message.kind, message.seq, message.flags & NLM_F_ACK != 0)).collect();
    let (new_table, new_chain, del_chain) = (0x0a00, 0x0a03, 0x0a05);
    assert_eq!(
        heads,
        [
            (NFNL_MSG_BATCH_BEGIN, 7, false),
            (new_table, 8, false),
            (new_chain, 9, false),
            (del_chain, 10, true),
            (NFNL_MSG_BATCH_END, 11, false)
        ]
    );
    assert_eq!(all[0].body, [0, 0, 0, 10], "the subsystem");
    assert_eq!(batch.answered(), 10);
    assert_eq!([6, 7, 8, 9, 10, 11].map(|seq| batch.op_of(seq)), [None, None, Some(0), Some(1), Some(2), None]);
}

#[test]
fn many_elements_are_spread_over_messages_of_one_change() {
    let set: Name = "s".into();
    let transaction = tx(|tx| {
        tx.add_table();
        for n in 0..10_000 {
            tx.add_element(&set, Element::verdict(key(n), Verdict::goto("n2")).comment("ns/name"));
        }
        tx.delete_element(&set, Element::key(key(1)));
    });
    let batch = Batch::encode(&transaction, 1).unwrap();
    let all = messages(&batch);
    let mut elements = Vec::new();
    for message in &all[2..all.len() - 2] {
        assert_eq!(batch.op_of(message.seq), Some(1));
        assert!(message.body.len() < 65_536, "an attribute's length has 16 bits");
        decode::elements(message, &mut elements).unwrap();
    }
    assert!(all.len() > 10);
    let Op::AddElements { elements: want, .. } = &transaction.ops[1] else { panic!() };
    assert_eq!(&elements, want);
    assert_eq!(batch.op_of(batch.answered()), Some(2));
}

#[test]
fn sets_and_chains_come_back_from_their_messages() {
    use DataType::*;
    let sets = [
        Set::set("a", [Ipv6]),
        Set::set("b", [Ipv4, Ipv4, Proto, Service]).comment("why"),
        Set::verdict_map("c", [Proto, Service]),
        Set::data_map("d", [Ipv6, Proto, Service, Mark], [Ipv6, Service]).comment("which"),
    ];
    let chains = [Chain::plain("e"), Chain::base("f", HookType::Filter, HookPoint::Forward, -5)];
    let transaction = tx(|tx| {
        sets.iter().for_each(|set| tx.add_set(set.clone()));
        chains.iter().for_each(|chain| tx.add_chain(chain.clone()));
    });
    let batch = Batch::encode(&transaction, 1).unwrap();
    let all = messages(&batch);
    let got: Vec<_> = all[1..5].iter().map(|message| decode::set(message).unwrap()).collect();
    assert_eq!(got, sets.map(SetState::Known));
    let got: Vec<_> = all[5..7].iter().map(|message| decode::chain(message, "t").unwrap()).collect();
    assert_eq!(got, chains);
    assert_eq!(decode::chain(&all[5], "other"), None);
}

/// Names of a rule's expressions and the registers that they load or read.
fn expressions(family: Family, rule: Rule) -> Vec<(String, Vec<u32>)> {
    let mut transaction = Transaction::new(TableId::new(family, "t"));
    transaction.add_rule("c", rule);
    let batch = Batch::encode(&transaction, 1).unwrap();
    let all = messages(&batch);
    let list = all[1].attributes().nested(4).unwrap();
    list.map(|(_, bytes)| {
        let data = Attributes(bytes).nested(2).unwrap();
        let numbers = [1, 2, 3, 5].iter().filter_map(|kind| data.get_u32(*kind)).collect();
        (Attributes(bytes).get_str(1).unwrap().to_owned(), numbers)
    })
    .collect()
}

#[test]
fn a_map_gives_address_and_port_in_registers() {
    let key = [Expr::Daddr, Expr::L4Proto, Expr::Dport, Expr::Random(3)];
    let (dnat, ip, ip6) = (1, 2, 10);
    let want = |daddr: [u32; 3], regs: [u32; 3], family: u32, port: u32| {
        [
            ("payload".to_owned(), daddr.to_vec()),
            ("meta".to_owned(), vec![regs[0], 16]),
            ("payload".to_owned(), vec![regs[1], 2, 2]),
            ("numgen".to_owned(), vec![regs[2], 3, 1]),
            ("lookup".to_owned(), vec![1, 1]),
            ("nat".to_owned(), vec![dnat, family, 1, port]),
        ]
    };
    assert_eq!(expressions(Family::Ip, Rule::new().dnat_map(key, "backends")), want([1, 1, 16], [9, 10, 11], ip, 9));
    assert_eq!(expressions(Family::Ip6, Rule::new().dnat_map(key, "backends")), want([1, 1, 24], [12, 13, 14], ip6, 12));
    let fixed = expressions(Family::Ip6, Rule::new().dnat(Ipv6Addr::LOCALHOST, 80));
    assert_eq!(fixed.last(), Some(&("nat".to_owned(), vec![dnat, ip6, 1, 12])));
}

#[test]
fn mistakes_are_refused_before_encoding() {
    let transaction = tx(|tx| tx.add_chain(Chain::plain("")));
    assert!(matches!(Batch::encode(&transaction, 1), Err(Error::Invalid { .. })));
}
