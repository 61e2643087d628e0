//! Rules: what they look at, and what they do.
//!
//! A rule is a list of [`Statement`]s that the kernel runs from left to right until one does not match. Registers are no concern here:
//! the encoder hands them out.
//!
//! ```
//! use kubelet_rs::nft::{Expr::*, Rule, Verdict};
//! let rule = Rule::new().vmap([Daddr, L4Proto, Dport], "service-ips");
//! let check = Rule::new().ct_new().in_set([Daddr], "cluster-ips").verdict(Verdict::Drop);
//! # let _ = (rule, check);
//! ```

use std::net::IpAddr;

use super::objects::{Name, Verdict};
use super::value::Value;

/// Something of a packet that can be compared or looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `ip saddr` or `ip6 saddr`, as the table's family is.
    Saddr,
    /// `ip daddr` or `ip6 daddr`.
    Daddr,
    /// `ct original ip daddr`, or of IPv6: where the connection's first packet was sent before its destination was rewritten.
    OriginalDaddr,
    /// `ct original proto-dst`: the port that goes with it.
    OriginalDport,
    /// `th dport`: the destination port of TCP, UDP or SCTP.
    Dport,
    /// `meta l4proto`.
    L4Proto,
    /// `meta mark`.
    Mark,
    /// `fib saddr type`, to be compared with a route type.
    FibSaddrType,
    /// `fib daddr type`, to be compared with a route type.
    FibDaddrType,
    /// `numgen random mod N`: a number from 0 to N-1.
    Random(u32),
}

/// Bits of `ct state`.
pub struct CtState;

impl CtState {
    /// `established`.
    pub const ESTABLISHED: u32 = 2;
    /// `related`.
    pub const RELATED: u32 = 4;
    /// `new`.
    pub const NEW: u32 = 8;
}

/// Bits of `ct status` (`enum ip_conntrack_status`).
pub struct CtStatus;

impl CtStatus {
    /// `dnat`: the destination was rewritten.
    pub const DNAT: u32 = 1 << 5;
}

/// How a refused packet is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// ICMP or ICMPv6 port unreachable.
    PortUnreachable,
    /// A TCP reset; the rule must match TCP.
    TcpReset,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Goes on if the value is (or is not) this one.
    Compare {
        /// What is looked at.
        left: Expr,
        /// Turns the answer round.
        not: bool,
        /// What it is compared with.
        right: Value,
    },
    /// Goes on if the address lies (or does not) in a prefix.
    Prefix {
        /// `Saddr` or `Daddr`.
        left: Expr,
        /// Turns the answer round.
        not: bool,
        /// Any address of the prefix.
        addr: IpAddr,
        /// Length of the prefix in bits.
        bits: u8,
    },
    /// Goes on if the value lies (or does not) in a range; both ends belong to it.
    Range {
        /// What is looked at.
        left: Expr,
        /// Turns the answer round.
        not: bool,
        /// First value.
        from: Value,
        /// Last value.
        to: Value,
    },
    /// Goes on if `mark & mask == value` (or is not).
    MarkBits {
        /// Bits to look at.
        mask: u32,
        /// Turns the answer round.
        not: bool,
        /// What they must be.
        value: u32,
    },
    /// Goes on if any of these [`CtState`] bits is set.
    CtState(u32),
    /// Goes on if any of these [`CtStatus`] bits is set.
    CtStatus(u32),
    /// Goes on if the packet came in through this interface (or did not). A `*` at the end matches any rest.
    Iifname {
        /// Turns the answer round.
        not: bool,
        /// Name, at most 15 bytes.
        name: Name,
    },
    /// Goes on if the concatenated key is (or is not) in a set.
    Lookup {
        /// Parts of the key.
        key: Vec<Expr>,
        /// Turns the answer round.
        not: bool,
        /// Name of the set.
        set: Name,
    },
    /// Looks the key up in a verdict map and takes the verdict; goes on if there is none.
    Vmap {
        /// Parts of the key.
        key: Vec<Expr>,
        /// Name of the map.
        map: Name,
    },
    /// Rewrites destination address and port to what a data map holds for the key; goes on if there is none.
    DnatMap {
        /// Parts of the key.
        key: Vec<Expr>,
        /// Name of a map to address and port.
        map: Name,
    },
    /// Puts a value into a map that learns; goes on if there is no room. An element that stands keeps what it holds, and its timeout
    /// starts anew.
    Learn {
        /// Parts of the key.
        key: Vec<Expr>,
        /// Name of the map that learns.
        map: Name,
        /// How long the element lives without being learned again, in whole seconds.
        seconds: u32,
        /// Parts of the value.
        value: Vec<Expr>,
    },
    /// Rewrites destination address and port.
    Dnat {
        /// New address.
        addr: IpAddr,
        /// New port.
        port: u16,
    },
    /// `mark = (mark & and) ^ xor`.
    SetMark {
        /// Bits to keep.
        and: u32,
        /// Bits to turn round after that.
        xor: u32,
    },
    /// Rewrites the source address to that of the interface where the packet leaves.
    Masquerade {
        /// Picks source ports at random, so that two connections started at once don't fight for one port.
        fully_random: bool,
    },
    /// Refuses the packet with an answer to its sender.
    Reject(Reject),
    /// Counts packets and bytes.
    Counter,
    /// Ends the rule.
    Verdict(Verdict),
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Steps, from left to right.
    pub statements: Vec<Statement>,
    /// Shown by `nft list`.
    pub comment: Option<Name>,
}

/// `RTN_LOCAL` of `linux/rtnetlink.h`: an address of this host.
pub const ROUTE_LOCAL: u32 = 2;

/// A readable way to write rules. Each method adds one step at the end.
impl Rule {
    /// A rule without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any step.
    #[must_use]
    pub fn then(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    /// `left right`.
    #[must_use]
    pub fn is(self, left: Expr, right: impl Into<Value>) -> Self {
        self.then(Statement::Compare { left, not: false, right: right.into() })
    }

    /// `left != right`.
    #[must_use]
    pub fn is_not(self, left: Expr, right: impl Into<Value>) -> Self {
        self.then(Statement::Compare { left, not: true, right: right.into() })
    }

    /// `fib daddr type local`: the destination is an address of this host.
    #[must_use]
    pub fn daddr_local(self) -> Self {
        self.is(Expr::FibDaddrType, Value::Mark(ROUTE_LOCAL))
    }

    /// `fib saddr type local`: the source is an address of this host.
    #[must_use]
    pub fn saddr_local(self) -> Self {
        self.is(Expr::FibSaddrType, Value::Mark(ROUTE_LOCAL))
    }

    /// `left addr/bits`.
    #[must_use]
    pub fn within(self, left: Expr, addr: impl Into<IpAddr>, bits: u8) -> Self {
        self.then(Statement::Prefix { left, not: false, addr: addr.into(), bits })
    }

    /// `left != addr/bits`.
    #[must_use]
    pub fn not_within(self, left: Expr, addr: impl Into<IpAddr>, bits: u8) -> Self {
        self.then(Statement::Prefix { left, not: true, addr: addr.into(), bits })
    }

    /// `left from-to`.
    #[must_use]
    pub fn in_range(self, left: Expr, from: impl Into<Value>, to: impl Into<Value>) -> Self {
        self.then(Statement::Range { left, not: false, from: from.into(), to: to.into() })
    }

    /// `ct state new`.
    #[must_use]
    pub fn ct_new(self) -> Self {
        self.then(Statement::CtState(CtState::NEW))
    }

    /// `ct status dnat`.
    #[must_use]
    pub fn ct_dnat(self) -> Self {
        self.then(Statement::CtStatus(CtStatus::DNAT))
    }

    /// `iifname name`.
    #[must_use]
    pub fn iifname(self, name: impl Into<Name>) -> Self {
        self.then(Statement::Iifname { not: false, name: name.into() })
    }

    /// `iifname != name`.
    #[must_use]
    pub fn iifname_not(self, name: impl Into<Name>) -> Self {
        self.then(Statement::Iifname { not: true, name: name.into() })
    }

    /// `key @set`.
    #[must_use]
    pub fn in_set(self, key: impl Into<Vec<Expr>>, set: impl Into<Name>) -> Self {
        self.then(Statement::Lookup { key: key.into(), not: false, set: set.into() })
    }

    /// `key != @set`.
    #[must_use]
    pub fn not_in_set(self, key: impl Into<Vec<Expr>>, set: impl Into<Name>) -> Self {
        self.then(Statement::Lookup { key: key.into(), not: true, set: set.into() })
    }

    /// `key vmap @map`.
    #[must_use]
    pub fn vmap(self, key: impl Into<Vec<Expr>>, map: impl Into<Name>) -> Self {
        self.then(Statement::Vmap { key: key.into(), map: map.into() })
    }

    /// `dnat ip addr . port to key map @map`.
    #[must_use]
    pub fn dnat_map(self, key: impl Into<Vec<Expr>>, map: impl Into<Name>) -> Self {
        self.then(Statement::DnatMap { key: key.into(), map: map.into() })
    }

    /// `update @map { key timeout … : value }`.
    #[must_use]
    pub fn learn(self, map: impl Into<Name>, key: impl Into<Vec<Expr>>, seconds: u32, value: impl Into<Vec<Expr>>) -> Self {
        self.then(Statement::Learn { key: key.into(), map: map.into(), seconds, value: value.into() })
    }

    /// `dnat to addr:port`.
    #[must_use]
    pub fn dnat(self, addr: impl Into<IpAddr>, port: u16) -> Self {
        self.then(Statement::Dnat { addr: addr.into(), port })
    }

    /// Goes on if all these bits of the mark are set.
    #[must_use]
    pub fn marked(self, bits: u32) -> Self {
        self.then(Statement::MarkBits { mask: bits, not: false, value: bits })
    }

    /// Goes on if none of these bits of the mark is set.
    #[must_use]
    pub fn not_marked(self, bits: u32) -> Self {
        self.then(Statement::MarkBits { mask: bits, not: false, value: 0 })
    }

    /// `meta mark set meta mark or bits`.
    #[must_use]
    pub fn mark_or(self, bits: u32) -> Self {
        self.then(Statement::SetMark { and: !bits, xor: bits })
    }

    /// `meta mark set meta mark xor bits`.
    #[must_use]
    pub fn mark_xor(self, bits: u32) -> Self {
        self.then(Statement::SetMark { and: u32::MAX, xor: bits })
    }

    /// `masquerade fully-random`.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.then(Statement::Masquerade { fully_random: true })
    }

    /// `reject`.
    #[must_use]
    pub fn reject(self, how: Reject) -> Self {
        self.then(Statement::Reject(how))
    }

    /// `counter`.
    #[must_use]
    pub fn counter(self) -> Self {
        self.then(Statement::Counter)
    }

    /// Any verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.then(Statement::Verdict(verdict))
    }

    /// `jump chain`.
    #[must_use]
    pub fn jump(self, chain: impl Into<Name>) -> Self {
        self.verdict(Verdict::jump(chain))
    }

    /// `goto chain`.
    #[must_use]
    pub fn goto(self, chain: impl Into<Name>) -> Self {
        self.verdict(Verdict::goto(chain))
    }

    /// Adds a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<Name>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}
