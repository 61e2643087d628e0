//! What can be seen to be wrong in a transaction before anything is sent: mistakes of the caller, which the kernel would answer with a
//! bare "invalid argument".

use std::net::IpAddr;

use super::error::Error;
use super::objects::{COMMENT_MAX, Chain, Data, DataType, Element, Family, NAME_MAX, Set, SetKind};
use super::rule::{Expr, Rule, Statement};
use super::text;
use super::transaction::{Op, Transaction};
use super::value::Value;
use super::wire::consts::{REGISTERS_LEN, RULE_MAX_EXPRESSIONS};
use super::wire::statement::width;

/// Parts that a set's type number has room for.
const KEY_PARTS: usize = 5;
/// Expressions that a statement takes besides one for each part of a key.
const STATEMENT_EXPRESSIONS: usize = 3;
/// `IFNAMSIZ` less the closing zero.
const IFNAME_MAX: usize = 15;

/// Checks every change; the first wrong one is the error.
pub fn check(transaction: &Transaction) -> Result<(), Error> {
    let family = transaction.table.family;
    let wrong = |op: String, reason| Error::Invalid { table: transaction.table.clone(), op, reason };
    name(&transaction.table.name).map_err(|reason| wrong("table".to_owned(), reason))?;
    for op in &transaction.ops {
        check_op(op, family).map_err(|reason| wrong(text::op(family, op), reason))?;
    }
    Ok(())
}

type Check = Result<(), &'static str>;

fn ensure(holds: bool, reason: &'static str) -> Check {
    if holds { Ok(()) } else { Err(reason) }
}

fn name(name: &str) -> Check {
    ensure(!name.is_empty() && name.len() <= NAME_MAX && !name.contains('\0'), "a name must have 1 to 255 bytes, none of them zero")
}

fn comment(text: Option<&str>) -> Check {
    ensure(
        text.is_none_or(|text| text.len() <= COMMENT_MAX && !text.contains('\0')),
        "a comment may have at most 127 bytes, none of them zero",
    )
}

fn check_op(op: &Op, family: Family) -> Check {
    match op {
        Op::AddTable { comment: text } => comment(text.as_deref()),
        Op::DeleteTable => Ok(()),
        Op::AddChain(Chain { name: of, .. })
        | Op::DeleteChain(of)
        | Op::FlushChain(of)
        | Op::DeleteRule { chain: of, .. }
        | Op::DeleteSet(of)
        | Op::FlushSet(of) => name(of),
        Op::AddRule { chain, rule } => name(chain).and_then(|()| check_rule(rule, family)),
        Op::AddSet(set) => check_set(set),
        Op::AddElements { set, elements } | Op::DeleteElements { set, elements } => {
            name(set)?;
            ensure(!elements.is_empty(), "no elements")?;
            elements.iter().try_for_each(check_element)
        }
    }
}

fn types(parts: &[DataType]) -> Check {
    ensure(!parts.is_empty() && parts.len() <= KEY_PARTS, "a concatenation must have 1 to 5 parts")?;
    ensure(DataType::concat_len(parts) <= REGISTERS_LEN, "a concatenation may have at most 64 bytes")
}

fn check_set(set: &Set) -> Check {
    name(&set.name)?;
    comment(set.comment.as_deref())?;
    types(&set.key)?;
    match &set.kind {
        SetKind::DataMap(parts) => types(parts),
        SetKind::Set | SetKind::VerdictMap => Ok(()),
    }
}

fn check_element(element: &Element) -> Check {
    let length = |bytes: &[u8]| ensure((1..=REGISTERS_LEN).contains(&bytes.len()), "keys and data must have 1 to 64 bytes");
    length(element.key.as_bytes())?;
    comment(element.comment.as_deref())?;
    match &element.data {
        Data::None => Ok(()),
        Data::Value(value) => length(value.as_bytes()),
        Data::Verdict(verdict) => verdict.target().map_or(Ok(()), |chain| name(chain)),
    }
}

fn check_rule(rule: &Rule, family: Family) -> Check {
    comment(rule.comment.as_deref())?;
    let mut expressions = 0;
    for statement in &rule.statements {
        expressions += STATEMENT_EXPRESSIONS + key(statement).map_or(0, <[Expr]>::len);
        check_statement(statement, family)?;
    }
    ensure(expressions <= RULE_MAX_EXPRESSIONS, "a rule may have at most 128 expressions")
}

fn key(statement: &Statement) -> Option<&[Expr]> {
    match statement {
        Statement::Lookup { key, .. } | Statement::Vmap { key, .. } | Statement::DnatMap { key, .. } | Statement::Learn { key, .. } => {
            Some(key)
        }
        _ => None,
    }
}

fn check_statement(statement: &Statement, family: Family) -> Check {
    if let Some(key) = key(statement) {
        let len: usize = key.iter().map(|expr| width(*expr, family).next_multiple_of(4)).sum();
        ensure((1..=REGISTERS_LEN).contains(&len), "a key must have 1 to 64 bytes")?;
        ensure(key.iter().all(|expr| *expr != Expr::Random(0)), "numgen needs a modulus of at least 1")?;
    }
    match statement {
        Statement::Learn { map, seconds, key, value } => {
            let registers: usize = key.iter().chain(value).map(|expr| width(*expr, family).next_multiple_of(4)).sum();
            ensure(!value.is_empty() && registers <= REGISTERS_LEN, "key and value may have at most 64 bytes together")?;
            ensure(*seconds > 0, "what is learned must live for a second at least")?;
            name(map)
        }
        Statement::Compare { left, right, .. } => same_type(*left, *right, family),
        Statement::Range { left, from, to, .. } => same_type(*left, *from, family).and_then(|()| same_type(*left, *to, family)),
        Statement::Prefix { left, addr, bits, .. } => {
            ensure(matches!(left, Expr::Saddr | Expr::Daddr), "only an address lies in a prefix")?;
            address(*addr, family)?;
            ensure(usize::from(*bits) <= family.addr_type().size() * 8, "the prefix is longer than the address")
        }
        Statement::Dnat { addr, .. } => address(*addr, family),
        Statement::Iifname { name, .. } => {
            ensure((1..=IFNAME_MAX).contains(&name.len()) && &**name != "*", "an interface name must have 1 to 15 bytes")
        }
        Statement::Lookup { set: of, .. } | Statement::Vmap { map: of, .. } | Statement::DnatMap { map: of, .. } => name(of),
        Statement::Verdict(verdict) => verdict.target().map_or(Ok(()), |chain| name(chain)),
        Statement::MarkBits { .. }
        | Statement::CtState(_)
        | Statement::CtStatus(_)
        | Statement::SetMark { .. }
        | Statement::Masquerade { .. }
        | Statement::Reject(_)
        | Statement::Counter => Ok(()),
    }
}

fn address(addr: IpAddr, family: Family) -> Check {
    ensure(addr.is_ipv4() == (family == Family::Ip), "the address is not of the table's family")
}

fn same_type(left: Expr, right: Value, family: Family) -> Check {
    let wanted = match left {
        Expr::Saddr | Expr::Daddr | Expr::OriginalDaddr => family.addr_type(),
        Expr::Dport | Expr::OriginalDport => DataType::Service,
        Expr::L4Proto => DataType::Proto,
        Expr::Mark | Expr::FibSaddrType | Expr::FibDaddrType | Expr::Random(_) => DataType::Mark,
    };
    ensure(right.data_type() == wanted, "the value is not of the type that it is compared with")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::super::objects::TableId;
    use super::super::value::Concat;
    use super::*;

    fn refused(op: Op) -> Option<&'static str> {
        let mut transaction = Transaction::new(TableId::new(Family::Ip, "t"));
        transaction.ops.push(op);
        match check(&transaction) {
            Ok(()) => None,
            Err(Error::Invalid { reason, .. }) => Some(reason),
            Err(other) => panic!("{other}"),
        }
    }

    fn rule(rule: Rule) -> Op {
        Op::AddRule { chain: "c".into(), rule }
    }

    #[test]
    fn mistakes_are_named_before_anything_is_sent() {
        let v6 = Ipv6Addr::LOCALHOST;
        let wrong = [
            Op::AddChain(Chain::plain("")),
            Op::AddChain(Chain::plain("x".repeat(256))),
            Op::AddTable { comment: Some("x".repeat(128).into()) },
            Op::AddSet(Set::set("s", [])),
            Op::AddSet(Set::set("s", [DataType::Proto; 6])),
            Op::AddSet(Set::set("s", [DataType::Ipv6; 5])),
            Op::AddElements { set: "s".into(), elements: vec![] },
            Op::AddElements { set: "s".into(), elements: vec![Element::key(Concat::of(&[]))] },
            rule(Rule::new().is(Expr::Saddr, v6)),
            rule(Rule::new().is(Expr::Dport, Value::Proto(6))),
            rule(Rule::new().within(Expr::Saddr, v6, 8)),
            rule(Rule::new().within(Expr::Saddr, Ipv4Addr::LOCALHOST, 33)),
            rule(Rule::new().within(Expr::Dport, Ipv4Addr::LOCALHOST, 8)),
            rule(Rule::new().dnat(v6, 80)),
            rule(Rule::new().iifname("sixteen-bytes-is")),
            rule(Rule::new().vmap([], "m")),
            rule(Rule::new().vmap([Expr::Random(0)], "m")),
            rule((0..50).fold(Rule::new(), |rule, _| rule.counter())),
        ];
        for op in wrong {
            assert!(refused(op.clone()).is_some(), "{op:?}");
        }
        let right = [
            Op::AddChain(Chain::plain("x".repeat(255))),
            Op::AddSet(Set::set("s", [DataType::Ipv6, DataType::Ipv6, DataType::Proto, DataType::Service])),
            rule(Rule::new().vmap([Expr::Daddr, Expr::L4Proto, Expr::Dport], "m")),
        ];
        for op in right {
            assert_eq!(refused(op.clone()), None, "{op:?}");
        }
    }
}
