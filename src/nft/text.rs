//! Objects in the form in which `nft list ruleset` shows them (nft 1.0.6), for dumps, for errors and for comparison in tests.

use std::fmt::{self, Display};
use std::net::IpAddr;

use super::objects::{
    Chain, Data, DataType, Element, Family, Hook, HookPoint, HookType, PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT, Set, SetKind,
    Verdict,
};
use super::rule::{CtState, CtStatus, Expr, ROUTE_LOCAL, Reject, Rule, Statement};
use super::transaction::Op;
use super::value::{Concat, SCTP, TCP, UDP, Value};

impl Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Proto => "inet_proto",
            Self::Service => "inet_service",
            Self::Mark => "mark",
        })
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Proto(TCP) => f.write_str("tcp"),
            Self::Proto(UDP) => f.write_str("udp"),
            Self::Proto(SCTP) => f.write_str("sctp"),
            Self::Proto(proto) => proto.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
        }
    }
}

/// Parts with ` . ` between them.
fn joined(parts: impl IntoIterator<Item = impl Display>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(" . ")
}

fn commented(mut text: String, comment: Option<&str>) -> String {
    if let Some(comment) = comment {
        text.push_str(&format!(" comment \"{comment}\""));
    }
    text
}

/// A key or data of these types; bytes of other types as they are.
pub fn concat(value: &Concat, types: &[DataType]) -> String {
    value.values(types).map_or_else(|| format!("{value:?}"), joined)
}

/// `type` line of a set or map.
pub fn set_type(set: &Set) -> String {
    let key = joined(&set.key);
    match &set.kind {
        SetKind::Set => format!("type {key}"),
        SetKind::VerdictMap => format!("type {key} : verdict"),
        SetKind::DataMap(parts) => format!("type {key} : {}", joined(parts)),
    }
}

/// Further lines of a set or map that learns.
pub fn set_flags(set: &Set) -> Vec<String> {
    set.learns.map_or(Vec::new(), |size| vec![format!("size {size}"), "flags dynamic,timeout".to_owned()])
}

/// An element of a set.
pub fn element(set: &Set, element: &Element) -> String {
    let text = commented(concat(&element.key, &set.key), element.comment.as_deref());
    match (&element.data, &set.kind) {
        (Data::None, _) => text,
        (Data::Verdict(verdict), _) => format!("{text} : {verdict}"),
        (Data::Value(value), SetKind::DataMap(parts)) => format!("{text} : {}", concat(value, parts)),
        (Data::Value(value), _) => format!("{text} : {value:?}"),
    }
}

/// A priority: by name where `nft` has one within a distance of ten, which `dstnat` and `srcnat` have at one hook each.
fn priority(hook: Hook) -> String {
    let named = [
        (PRIORITY_DSTNAT, "dstnat", Some(HookPoint::Prerouting)),
        (PRIORITY_FILTER, "filter", None),
        (PRIORITY_SRCNAT, "srcnat", Some(HookPoint::Postrouting)),
    ];
    let near = named
        .iter()
        .find(|(base, _, only)| (hook.priority - base).abs() <= 10 && only.is_none_or(|point| point == hook.point))
        .map(|(base, name, _)| (name, hook.priority - base));
    match near {
        None => hook.priority.to_string(),
        Some((name, 0)) => (*name).to_owned(),
        Some((name, more)) if more > 0 => format!("{name} + {more}"),
        Some((name, less)) => format!("{name} - {}", -less),
    }
}

/// First line of a base chain.
pub fn hook(hook: Hook) -> String {
    let kind = match hook.kind {
        HookType::Filter => "filter",
        HookType::Nat => "nat",
    };
    let point = match hook.point {
        HookPoint::Prerouting => "prerouting",
        HookPoint::Input => "input",
        HookPoint::Forward => "forward",
        HookPoint::Output => "output",
        HookPoint::Postrouting => "postrouting",
    };
    format!("type {kind} hook {point} priority {}; policy accept;", priority(hook))
}

fn expr(expr: Expr, family: Family) -> String {
    match expr {
        Expr::Saddr => format!("{family} saddr"),
        Expr::Daddr => format!("{family} daddr"),
        Expr::OriginalDaddr => format!("ct original {family} daddr"),
        Expr::OriginalDport => "ct original proto-dst".to_owned(),
        Expr::Dport => "th dport".to_owned(),
        Expr::L4Proto => "meta l4proto".to_owned(),
        Expr::Mark => "meta mark".to_owned(),
        Expr::FibSaddrType => "fib saddr type".to_owned(),
        Expr::FibDaddrType => "fib daddr type".to_owned(),
        Expr::Random(modulus) => format!("numgen random mod {modulus}"),
    }
}

fn key(parts: &[Expr], family: Family) -> String {
    joined(parts.iter().map(|part| expr(*part, family)))
}

fn unless(not: bool) -> &'static str {
    if not { "!= " } else { "" }
}

/// Names of set bits, lowest first.
fn bits(value: u32, names: &[(u32, &str)]) -> String {
    let known: Vec<_> = names.iter().filter(|(bit, _)| value & bit != 0).map(|(_, name)| *name).collect();
    if known.is_empty() { format!("{value:#x}") } else { known.join(",") }
}

fn statement(statement: &Statement, family: Family) -> String {
    match statement {
        Statement::Compare { left: left @ (Expr::FibSaddrType | Expr::FibDaddrType), not, right: Value::Mark(ROUTE_LOCAL) } => {
            format!("{} {}local", expr(*left, family), unless(*not))
        }
        Statement::Compare { left, not, right } => format!("{} {}{right}", expr(*left, family), unless(*not)),
        Statement::Prefix { left, not, addr, bits } if usize::from(*bits) == family.addr_type().size() * 8 => {
            format!("{} {}{addr}", expr(*left, family), unless(*not))
        }
        Statement::Prefix { left, not, addr, bits } => format!("{} {}{}/{bits}", expr(*left, family), unless(*not), network(*addr, *bits)),
        Statement::Range { left, not, from, to } => format!("{} {}{from}-{to}", expr(*left, family), unless(*not)),
        Statement::MarkBits { mask, not, value } => {
            format!("meta mark & {mask:#010x} {} {value:#010x}", if *not { "!=" } else { "==" })
        }
        Statement::CtState(state) => {
            let names = [(CtState::ESTABLISHED, "established"), (CtState::RELATED, "related"), (CtState::NEW, "new")];
            format!("ct state {}", bits(*state, &names))
        }
        Statement::CtStatus(status) => format!("ct status {}", bits(*status, &[(CtStatus::DNAT, "dnat")])),
        Statement::Iifname { not, name } => format!("iifname {}\"{name}\"", unless(*not)),
        Statement::Lookup { key: parts, not, set } => format!("{} {}@{set}", key(parts, family), unless(*not)),
        Statement::Vmap { key: parts, map } => format!("{} vmap @{map}", key(parts, family)),
        Statement::DnatMap { key: parts, map } => format!("dnat {family} addr . port to {} map @{map}", key(parts, family)),
        Statement::Learn { key: parts, map, seconds, value } => {
            format!("update @{map} {{ {} timeout {} : {} }}", key(parts, family), duration(*seconds), key(value, family))
        }
        Statement::Dnat { addr: IpAddr::V4(addr), port } => format!("dnat to {addr}:{port}"),
        Statement::Dnat { addr: IpAddr::V6(addr), port } => format!("dnat to [{addr}]:{port}"),
        Statement::SetMark { and, xor } if *and == !xor => format!("meta mark set meta mark | {xor:#010x}"),
        Statement::SetMark { and: u32::MAX, xor } => format!("meta mark set meta mark ^ {xor:#010x}"),
        Statement::SetMark { and, xor: 0 } => format!("meta mark set meta mark & {and:#010x}"),
        Statement::SetMark { and, xor } => format!("meta mark set meta mark & {and:#010x} ^ {xor:#010x}"),
        Statement::Masquerade { fully_random: true } => "masquerade fully-random".to_owned(),
        Statement::Masquerade { fully_random: false } => "masquerade".to_owned(),
        Statement::Reject(Reject::PortUnreachable) => "reject".to_owned(),
        Statement::Reject(Reject::TcpReset) => "reject with tcp reset".to_owned(),
        Statement::Counter => "counter packets 0 bytes 0".to_owned(),
        Statement::Verdict(verdict) => verdict.to_string(),
    }
}

/// As `nft` writes seconds: `1d2h3m4s`.
fn duration(seconds: u32) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let (text, _) = units.iter().fold((String::new(), seconds), |(text, rest), (unit, letter)| match rest / unit {
        0 => (text, rest),
        count => (format!("{text}{count}{letter}"), rest % unit),
    });
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// The address with all bits after the prefix cleared.
fn network(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V4((addr.to_bits() & mask).into())
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V6((addr.to_bits() & mask).into())
        }
    }
}

/// A rule of a table of this family.
pub fn rule(family: Family, rule: &Rule) -> String {
    let steps: Vec<_> = rule.statements.iter().map(|step| statement(step, family)).collect();
    commented(steps.join(" "), rule.comment.as_deref())
}

/// A change, for errors: what is done to which object.
pub fn op(family: Family, op: &Op) -> String {
    let elements = |verb: &str, set: &str, elements: &[Element]| match elements {
        [one] => format!("{verb} element {set} {{ {:?} }}", one.key),
        many => format!("{verb} {} elements of {set}", many.len()),
    };
    match op {
        Op::AddTable { .. } => "add table".to_owned(),
        Op::DeleteTable => "delete table".to_owned(),
        Op::AddChain(Chain { name, .. }) => format!("add chain {name}"),
        Op::DeleteChain(name) => format!("delete chain {name}"),
        Op::FlushChain(name) => format!("flush chain {name}"),
        Op::AddRule { chain, rule: new } => format!("add rule {chain} {}", rule(family, new)),
        Op::DeleteRule { chain, handle } => format!("delete rule {chain} handle {handle}"),
        Op::AddSet(set) => format!("add {} {} {{ {}; }}", set_word(set), set.name, set_type(set)),
        Op::DeleteSet(name) => format!("delete set {name}"),
        Op::FlushSet(name) => format!("flush set {name}"),
        Op::AddElements { set, elements: new } => elements("add", set, new),
        Op::DeleteElements { set, elements: old } => elements("delete", set, old),
    }
}

/// `set` or `map`.
pub fn set_word(set: &Set) -> &'static str {
    match set.kind {
        SetKind::Set => "set",
        SetKind::VerdictMap | SetKind::DataMap(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn rules_read_like_nft() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let flat = [Expr::Daddr, Expr::L4Proto, Expr::Dport, Expr::Random(2)];
        let table = [
            (Rule::new().vmap(&flat[..3], "service-ips"), "ip daddr . meta l4proto . th dport vmap @service-ips"),
            (Rule::new().dnat_map(flat, "ep2"), "dnat ip addr . port to ip daddr . meta l4proto . th dport . numgen random mod 2 map @ep2"),
            (
                Rule::new().daddr_local().not_within(Expr::Daddr, ip("127.0.0.1"), 8).jump("np"),
                "fib daddr type local ip daddr != 127.0.0.0/8 jump np",
            ),
            (Rule::new().not_marked(0x4000).verdict(Verdict::Return), "meta mark & 0x00004000 == 0x00000000 return"),
            (Rule::new().mark_or(0x4000), "meta mark set meta mark | 0x00004000"),
            (Rule::new().mark_xor(0x4000), "meta mark set meta mark ^ 0x00004000"),
            (Rule::new().ct_dnat().masquerade(), "ct status dnat masquerade fully-random"),
            (
                Rule::new().ct_new().not_in_set([Expr::Daddr], "s").counter().comment("why"),
                "ct state new ip daddr != @s counter packets 0 bytes 0 comment \"why\"",
            ),
            (Rule::new().iifname_not("cni*").reject(Reject::PortUnreachable), "iifname != \"cni*\" reject"),
            (
                Rule::new().in_range(Expr::Dport, Value::Port(80), Value::Port(90)).dnat(ip("10.0.0.1"), 8080),
                "th dport 80-90 dnat to 10.0.0.1:8080",
            ),
        ];
        for (rule_of, want) in table {
            assert_eq!(rule(Family::Ip, &rule_of), want);
        }
        assert_eq!(rule(Family::Ip6, &Rule::new().dnat(Ipv6Addr::LOCALHOST, 80)), "dnat to [::1]:80");
    }

    #[test]
    fn priorities_have_names_where_nft_gives_them() {
        let text = |point, priority| super::priority(Hook { kind: HookType::Nat, point, priority });
        assert_eq!(text(HookPoint::Prerouting, -100), "dstnat");
        assert_eq!(text(HookPoint::Prerouting, -110), "dstnat - 10");
        assert_eq!(text(HookPoint::Output, -100), "-100");
        assert_eq!(text(HookPoint::Postrouting, 100), "srcnat");
        assert_eq!(text(HookPoint::Input, 5), "filter + 5");
        assert_eq!(text(HookPoint::Input, 11), "11");
    }
}
