//! Statements as the kernel's expressions, which work on registers.
//!
//! A key is put together in registers of four bytes that follow each other, from the first on: each part fills whole registers.

use std::net::IpAddr;

use super::super::objects::{Family, Verdict};
use super::super::rule::{Expr, Reject, Statement};
use super::super::value::{Concat, Value};
use super::buffer::Buffer;
use super::consts::{REG_1, REG_VERDICT, REG32_00, data, rule};
use super::types;

const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const CMP_LTE: u32 = 3;
const CMP_GTE: u32 = 5;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_PROTO_DST: u32 = 12;
const CT_DST_IP: u32 = 20;
const CT_DST_IP6: u32 = 22;
/// `IFNAMSIZ`.
const IFNAME_LEN: usize = 16;

/// Length in bytes of what an expression loads.
pub fn width(expr: Expr, family: Family) -> usize {
    match expr {
        Expr::Saddr | Expr::Daddr | Expr::OriginalDaddr => family.addr_type().size(),
        Expr::Dport | Expr::OriginalDport => 2,
        Expr::L4Proto => 1,
        Expr::Mark | Expr::FibSaddrType | Expr::FibDaddrType | Expr::Random(_) => 4,
    }
}

/// The register that starts after so many registers of four bytes, in the numbers that `nft` uses.
fn register(index: usize) -> u32 {
    match u32::try_from(index) {
        Ok(0) => REG_1,
        Ok(index) => REG32_00 + index,
        Err(_) => u32::MAX,
    }
}

/// Writes one expression: its name and its attributes.
fn expression(out: &mut Buffer, name: &str, body: impl FnOnce(&mut Buffer)) {
    out.nested(rule::LIST_ELEM, |out| {
        out.attr_str(rule::EXPR_NAME, name);
        out.nested(rule::EXPR_DATA, body);
    });
}

fn value(out: &mut Buffer, attribute: u16, bytes: &[u8]) {
    out.nested(attribute, |out| out.attr(data::VALUE, bytes));
}

/// Writes a verdict as data: of an element, or of the expression that ends a rule.
pub fn verdict(out: &mut Buffer, attribute: u16, verdict: &Verdict) {
    out.nested(attribute, |out| {
        out.nested(data::VERDICT, |out| {
            out.attr(data::VERDICT_CODE, &types::verdict_code(verdict).to_be_bytes());
            if let Some(chain) = verdict.target() {
                out.attr_str(data::VERDICT_CHAIN, chain);
            }
        });
    });
}

fn load(out: &mut Buffer, expr: Expr, family: Family, reg: u32) {
    let payload = |out: &mut Buffer, base: u32, offset: u32| {
        expression(out, "payload", |out| {
            let len = u32::try_from(width(expr, family)).unwrap_or(u32::MAX);
            for (attribute, number) in [(1, reg), (2, base), (3, offset), (4, len)] {
                out.attr_u32(attribute, number);
            }
        });
    };
    let (saddr, daddr) = match family {
        Family::Ip => (12, 16),
        Family::Ip6 => (8, 24),
    };
    match expr {
        Expr::Saddr => payload(out, 1, saddr),
        Expr::Daddr => payload(out, 1, daddr),
        Expr::Dport => payload(out, 2, 2),
        Expr::OriginalDaddr => match family {
            Family::Ip => original(out, CT_DST_IP, reg),
            Family::Ip6 => original(out, CT_DST_IP6, reg),
        },
        Expr::OriginalDport => original(out, CT_PROTO_DST, reg),
        Expr::L4Proto => keyed(out, "meta", META_L4PROTO, reg),
        Expr::Mark => keyed(out, "meta", META_MARK, reg),
        Expr::FibSaddrType => fib(out, reg, NFTA_FIB_F_SADDR),
        Expr::FibDaddrType => fib(out, reg, NFTA_FIB_F_DADDR),
        Expr::Random(modulus) => expression(out, "numgen", |out| {
            // NFTA_NG_DREG, _MODULUS, _TYPE = NFT_NG_RANDOM
            for (attribute, number) in [(1, reg), (2, modulus), (3, 1)] {
                out.attr_u32(attribute, number);
            }
        }),
    }
}

/// Something of a connection's tuple in its original direction.
fn original(out: &mut Buffer, key: u32, reg: u32) {
    expression(out, "ct", |out| {
        out.attr_u32(1, reg);
        out.attr_u32(2, key);
        out.attr(3, &[0]); // NFTA_CT_DIRECTION = IP_CT_DIR_ORIGINAL
    });
}

const NFTA_FIB_F_SADDR: u32 = 1;
const NFTA_FIB_F_DADDR: u32 = 2;

/// The route type of an address.
fn fib(out: &mut Buffer, reg: u32, flags: u32) {
    expression(out, "fib", |out| {
        // NFTA_FIB_DREG, _RESULT = NFT_FIB_RESULT_ADDRTYPE, _FLAGS
        for (attribute, number) in [(1, reg), (2, 3), (3, flags)] {
            out.attr_u32(attribute, number);
        }
    });
}

/// `meta` and `ct`: register and key.
fn keyed(out: &mut Buffer, name: &str, key: u32, reg: u32) {
    expression(out, name, |out| {
        out.attr_u32(1, reg);
        out.attr_u32(2, key);
    });
}

fn load_key(out: &mut Buffer, key: &[Expr], family: Family) {
    load_key_from(out, 0, key, family);
}

/// Puts a key together from a register on.
fn load_key_from(out: &mut Buffer, mut index: usize, key: &[Expr], family: Family) {
    for expr in key {
        load(out, *expr, family, register(index));
        index += width(*expr, family).div_ceil(4);
    }
}

fn cmp(out: &mut Buffer, op: u32, bytes: &[u8]) {
    expression(out, "cmp", |out| {
        out.attr_u32(1, REG_1);
        out.attr_u32(2, op);
        value(out, 3, bytes);
    });
}

fn equality(not: bool) -> u32 {
    if not { CMP_NEQ } else { CMP_EQ }
}

/// `reg1 = (reg1 & mask) ^ xor`.
fn bitwise(out: &mut Buffer, mask: &[u8], xor: &[u8]) {
    expression(out, "bitwise", |out| {
        out.attr_u32(1, REG_1);
        out.attr_u32(2, REG_1);
        out.attr_u32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
        value(out, 4, mask);
        value(out, 5, xor);
    });
}

/// Any of these bits of a number in host order.
fn any_bit(out: &mut Buffer, bits: u32) {
    bitwise(out, &bits.to_ne_bytes(), &[0; 4]);
    cmp(out, CMP_NEQ, &[0; 4]);
}

fn lookup(out: &mut Buffer, set: &str, to: Option<u32>, not: bool) {
    expression(out, "lookup", |out| {
        out.attr_str(1, set);
        out.attr_u32(2, REG_1);
        if let Some(reg) = to {
            out.attr_u32(3, reg);
        }
        if not {
            out.attr_u32(5, 1);
        }
    });
}

fn immediate(out: &mut Buffer, reg: u32, bytes: &[u8]) {
    expression(out, "immediate", |out| {
        out.attr_u32(1, reg);
        value(out, 2, bytes);
    });
}

/// Destination NAT to the address in the first register and the port in `port_reg`.
fn nat(out: &mut Buffer, family: Family, port_reg: u32) {
    expression(out, "nat", |out| {
        // NFTA_NAT_TYPE = NFT_NAT_DNAT, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN
        for (attribute, number) in [(1, 1), (2, types::family(family).into()), (3, REG_1), (5, port_reg)] {
            out.attr_u32(attribute, number);
        }
    });
}

fn reject(out: &mut Buffer, how: Reject, family: Family) {
    expression(out, "reject", |out| {
        // ICMP_PORT_UNREACH of icmp.h, ICMPV6_PORT_UNREACH of icmpv6.h.
        let (kind, code) = match (how, family) {
            (Reject::PortUnreachable, Family::Ip) => (0, 3),
            (Reject::PortUnreachable, Family::Ip6) => (0, 4),
            (Reject::TcpReset, _) => (1, 0),
        };
        out.attr_u32(1, kind);
        out.attr(2, &[code]);
    });
}

/// A mask of so many one bits at the front.
fn prefix_mask(len: usize, bits: u8) -> Vec<u8> {
    (0..len)
        .map(|byte| {
            let ones = usize::from(bits).saturating_sub(byte * 8).min(8);
            u8::try_from(0xff_u16 << (8 - ones) & 0xff).unwrap_or(0)
        })
        .collect()
}

fn prefix(out: &mut Buffer, addr: IpAddr, bits: u8, not: bool) {
    let packed = Concat::of(&[Value::Ip(addr)]);
    let addr = packed.as_bytes();
    if usize::from(bits) >= addr.len() * 8 {
        return cmp(out, equality(not), addr);
    }
    let mask = prefix_mask(addr.len(), bits);
    let network: Vec<u8> = addr.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    bitwise(out, &mask, &vec![0; mask.len()]);
    cmp(out, equality(not), &network);
}

/// Writes a statement of a rule in a table of this family.
pub fn statement(out: &mut Buffer, statement: &Statement, family: Family) {
    match statement {
        Statement::Compare { left, not, right } => {
            load(out, *left, family, REG_1);
            cmp(out, equality(*not), Concat::of(&[*right]).as_bytes());
        }
        Statement::Prefix { left, not, addr, bits } => {
            load(out, *left, family, REG_1);
            prefix(out, *addr, *bits, *not);
        }
        Statement::Range { left, not, from, to } => {
            load(out, *left, family, REG_1);
            let (from, to) = (Concat::of(&[*from]), Concat::of(&[*to]));
            if *not {
                expression(out, "range", |out| {
                    out.attr_u32(1, REG_1);
                    out.attr_u32(2, CMP_NEQ);
                    value(out, 3, from.as_bytes());
                    value(out, 4, to.as_bytes());
                });
            } else {
                cmp(out, CMP_GTE, from.as_bytes());
                cmp(out, CMP_LTE, to.as_bytes());
            }
        }
        Statement::MarkBits { mask, not, value } => {
            load(out, Expr::Mark, family, REG_1);
            bitwise(out, &mask.to_ne_bytes(), &[0; 4]);
            cmp(out, equality(*not), &value.to_ne_bytes());
        }
        Statement::CtState(bits) => {
            keyed(out, "ct", CT_STATE, REG_1);
            any_bit(out, *bits);
        }
        Statement::CtStatus(bits) => {
            keyed(out, "ct", CT_STATUS, REG_1);
            any_bit(out, *bits);
        }
        Statement::Iifname { not, name } => {
            keyed(out, "meta", META_IIFNAME, REG_1);
            let mut bytes = name.as_bytes().to_vec();
            if bytes.last() == Some(&b'*') {
                bytes.pop();
            } else {
                bytes.resize(IFNAME_LEN, 0);
            }
            cmp(out, equality(*not), &bytes);
        }
        Statement::Lookup { key, not, set } => {
            load_key(out, key, family);
            lookup(out, set, None, *not);
        }
        Statement::Vmap { key, map } => {
            load_key(out, key, family);
            lookup(out, map, Some(REG_VERDICT), false);
        }
        Statement::DnatMap { key, map } => {
            load_key(out, key, family);
            lookup(out, map, Some(REG_1), false);
            nat(out, family, register(family.addr_type().size() / 4));
        }
        Statement::Learn { key, map, seconds, value } => {
            load_key(out, value, family);
            let after = value.iter().map(|expr| width(*expr, family).div_ceil(4)).sum();
            load_key_from(out, after, key, family);
            expression(out, "dynset", |out| {
                out.attr_str(1, map);
                // NFTA_DYNSET_OP = NFT_DYNSET_OP_UPDATE, _SREG_KEY, _SREG_DATA
                for (attribute, number) in [(3, 1), (4, register(after)), (5, REG_1)] {
                    out.attr_u32(attribute, number);
                }
                // NFTA_DYNSET_TIMEOUT, in milliseconds.
                out.attr(6, &(u64::from(*seconds) * 1000).to_be_bytes());
            });
        }
        Statement::Dnat { addr, port } => {
            let port_reg = register(family.addr_type().size() / 4);
            immediate(out, REG_1, Concat::of(&[Value::Ip(*addr)]).as_bytes());
            immediate(out, port_reg, &port.to_be_bytes());
            nat(out, family, port_reg);
        }
        Statement::SetMark { and, xor } => {
            load(out, Expr::Mark, family, REG_1);
            bitwise(out, &and.to_ne_bytes(), &xor.to_ne_bytes());
            expression(out, "meta", |out| {
                out.attr_u32(2, META_MARK);
                out.attr_u32(3, REG_1);
            });
        }
        Statement::Masquerade { fully_random } => expression(out, "masq", |out| {
            if *fully_random {
                out.attr_u32(1, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
            }
        }),
        Statement::Reject(how) => reject(out, *how, family),
        Statement::Counter => expression(out, "counter", |_| {}),
        Statement::Verdict(to) => expression(out, "immediate", |out| {
            out.attr_u32(1, REG_VERDICT);
            verdict(out, 2, to);
        }),
    }
}

/// Of `linux/netfilter/nf_nat.h`.
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_masks() {
        assert_eq!(prefix_mask(4, 0), [0, 0, 0, 0]);
        assert_eq!(prefix_mask(4, 14), [255, 252, 0, 0]);
        assert_eq!(prefix_mask(4, 32), [255; 4]);
        assert_eq!(prefix_mask(16, 65)[..10], [255, 255, 255, 255, 255, 255, 255, 255, 128, 0]);
    }

    #[test]
    fn key_parts_follow_each_other_in_registers() {
        assert_eq!([0, 1, 2, 4, 6].map(register), [1, 9, 10, 12, 14]);
    }
}
