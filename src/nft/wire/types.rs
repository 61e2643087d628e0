//! Type numbers of `nft`, families, hooks and verdicts as numbers. The kernel keeps set types only so that `nft list` can show them.

use super::super::objects::{DataType, Family, HookPoint, HookType, Verdict};

/// Bits that each part of a concatenation takes in a type number (`TYPE_BITS` of nft's `datatype.h`).
const TYPE_BITS: u32 = 6;

/// nft's number of a type (`enum datatypes` of nft's `datatype.h`).
fn number(kind: DataType) -> u32 {
    match kind {
        DataType::Ipv4 => 7,
        DataType::Ipv6 => 8,
        DataType::Proto => 12,
        DataType::Service => 13,
        DataType::Mark => 19,
    }
}

/// Number of a concatenation: the parts' numbers, first part highest.
pub fn concat_number(parts: &[DataType]) -> u32 {
    parts.iter().fold(0, |sum, part| sum << TYPE_BITS | number(*part))
}

/// The parts that a number stands for, or `None` if one is of a type that this room doesn't know.
pub fn concat_parts(mut number_of: u32) -> Option<Vec<DataType>> {
    const KNOWN: [DataType; 5] = [DataType::Ipv4, DataType::Ipv6, DataType::Proto, DataType::Service, DataType::Mark];
    let mut parts = Vec::new();
    while number_of != 0 {
        let part = number_of & ((1 << TYPE_BITS) - 1);
        parts.push(*KNOWN.iter().find(|known| number(**known) == part)?);
        number_of >>= TYPE_BITS;
    }
    parts.reverse();
    (!parts.is_empty()).then_some(parts)
}

/// nft's `enum byteorder` of a key or of data: it shows values of a concatenation by their own types.
pub fn byteorder(parts: &[DataType]) -> u32 {
    match parts {
        [DataType::Mark] => 1,
        [_] => 2,
        _ => 0,
    }
}

/// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
pub fn family(family: Family) -> u8 {
    match family {
        Family::Ip => 2,
        Family::Ip6 => 10,
    }
}

/// `NF_INET_*` hook numbers.
const HOOKS: [HookPoint; 5] = [HookPoint::Prerouting, HookPoint::Input, HookPoint::Forward, HookPoint::Output, HookPoint::Postrouting];

/// Number of a hook.
pub fn hook(point: HookPoint) -> u32 {
    HOOKS.iter().zip(0..).find(|(known, _)| **known == point).map_or(0, |(_, number)| number)
}

/// Hook of a number.
pub fn hook_point(number: u32) -> Option<HookPoint> {
    HOOKS.get(usize::try_from(number).ok()?).copied()
}

/// Name of a chain type.
pub fn chain_type(kind: HookType) -> &'static str {
    match kind {
        HookType::Filter => "filter",
        HookType::Nat => "nat",
    }
}

/// `NF_*` and `NFT_*` verdict codes.
pub fn verdict_code(verdict: &Verdict) -> i32 {
    match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Continue => -1,
        Verdict::Jump(_) => -3,
        Verdict::Goto(_) => -4,
        Verdict::Return => -5,
    }
}

/// Verdict of a code and a chain.
pub fn verdict(code: i32, chain: Option<&str>) -> Option<Verdict> {
    Some(match (code, chain) {
        (0, _) => Verdict::Drop,
        (1, _) => Verdict::Accept,
        (-1, _) => Verdict::Continue,
        (-3, Some(chain)) => Verdict::jump(chain),
        (-4, Some(chain)) => Verdict::goto(chain),
        (-5, _) => Verdict::Return,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_numbers_are_nfts() {
        use DataType::*;
        // As nft 1.0.6 sends them for `ipv4_addr . inet_proto . inet_service [. mark]`.
        assert_eq!(concat_number(&[Ipv4, Proto, Service]), 0x730d);
        assert_eq!(concat_number(&[Ipv4, Proto, Service, Mark]), 0x1c_c353);
        assert_eq!(concat_parts(0x1c_c353), Some(vec![Ipv4, Proto, Service, Mark]));
        assert_eq!(concat_parts(0), None);
        assert_eq!(concat_parts(41), None, "ifname");
    }

    #[test]
    fn verdicts_come_back() {
        for verdict_of in [Verdict::Drop, Verdict::Accept, Verdict::Continue, Verdict::Return, Verdict::jump("a"), Verdict::goto("b")] {
            assert_eq!(verdict(verdict_code(&verdict_of), verdict_of.target().map(|t| &**t)), Some(verdict_of));
        }
        assert_eq!(verdict(-3, None), None);
    }
}
