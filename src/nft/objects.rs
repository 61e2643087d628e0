//! What a table is made of: chains, sets, maps and their elements.

use std::fmt;
use std::sync::Arc;

use super::value::Concat;

/// Name of a table, chain, set or map. Shared, because thousands of elements name the same few chains.
pub type Name = Arc<str>;

/// Longest name that the kernel takes, in bytes (`NFT_NAME_MAXLEN` less the closing zero).
pub const NAME_MAX: usize = 255;

/// Longest comment that `nft` shows, in bytes (`NFTNL_UDATA_COMMENT_MAXLEN` less the closing zero).
pub const COMMENT_MAX: usize = 127;

/// Priority of chains that rewrite destinations, as in `nft`'s `dstnat`.
pub const PRIORITY_DSTNAT: i32 = -100;
/// Priority of chains that only filter, as in `nft`'s `filter`.
pub const PRIORITY_FILTER: i32 = 0;
/// Priority of chains that rewrite sources, as in `nft`'s `srcnat`.
pub const PRIORITY_SRCNAT: i32 = 100;

/// Address family of a table. `ip saddr` of a rule means the family of the table that holds the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4, `ip`.
    Ip,
    /// IPv6, `ip6`.
    Ip6,
}

impl Family {
    /// The type of an address in this family.
    pub fn addr_type(self) -> DataType {
        match self {
            Self::Ip => DataType::Ipv4,
            Self::Ip6 => DataType::Ipv6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        })
    }
}

/// A table: the unit that one owner programs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    /// Address family.
    pub family: Family,
    /// Name, unique within the family.
    pub name: Name,
}

impl TableId {
    /// Names a table.
    pub fn new(family: Family, name: impl Into<Name>) -> Self {
        Self { family, name: name.into() }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// Where packets enter a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Every packet that arrives, before routing.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets that are routed through.
    Forward,
    /// Packets that this host makes.
    Output,
    /// Every packet that leaves, after routing.
    Postrouting,
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookType {
    /// Accept, drop, reject, mark.
    Filter,
    /// Rewrite addresses; sees only the first packet of a connection.
    Nat,
}

/// The place of a base chain. Its policy is always accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Kind of chain.
    pub kind: HookType,
    /// Where packets enter.
    pub point: HookPoint,
    /// Order among the chains of the same point, lower first.
    pub priority: i32,
}

/// A chain of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name.
    pub name: Name,
    /// Where packets enter; `None` for a chain that others jump to.
    pub hook: Option<Hook>,
}

impl Chain {
    /// A chain that packets reach only by jump or goto.
    pub fn plain(name: impl Into<Name>) -> Self {
        Self { name: name.into(), hook: None }
    }

    /// A chain where packets enter.
    pub fn base(name: impl Into<Name>, kind: HookType, point: HookPoint, priority: i32) -> Self {
        Self { name: name.into(), hook: Some(Hook { kind, point, priority }) }
    }
}

/// Type of one part of a key or of a map's data. The doc of each variant is `nft`'s word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `ipv4_addr`, 4 bytes.
    Ipv4,
    /// `ipv6_addr`, 16 bytes.
    Ipv6,
    /// `inet_proto`, 1 byte: an IP protocol number.
    Proto,
    /// `inet_service`, 2 bytes: a port.
    Service,
    /// `mark`, 4 bytes in host order. Also what holds the result of `numgen` as part of a key.
    Mark,
}

/// What a set maps its keys to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Nothing: a plain set.
    Set,
    /// A verdict each.
    VerdictMap,
    /// A value each, of these concatenated types.
    DataMap(Vec<DataType>),
}

/// A named set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name. Sets and maps of a table share one name space.
    pub name: Name,
    /// Types of the concatenated key; one for a simple key.
    pub key: Vec<DataType>,
    /// What keys map to.
    pub kind: SetKind,
    /// Rules may add elements, each with a timeout, up to so many. `None`: only transactions add elements.
    pub learns: Option<u32>,
    /// Shown by `nft list`.
    pub comment: Option<Name>,
}

impl Set {
    /// A plain set.
    #[allow(clippy::self_named_constructors, reason = "its neighbours are the kinds of map")]
    pub fn set(name: impl Into<Name>, key: impl Into<Vec<DataType>>) -> Self {
        Self { name: name.into(), key: key.into(), kind: SetKind::Set, learns: None, comment: None }
    }

    /// A map of keys to verdicts.
    pub fn verdict_map(name: impl Into<Name>, key: impl Into<Vec<DataType>>) -> Self {
        Self { name: name.into(), key: key.into(), kind: SetKind::VerdictMap, learns: None, comment: None }
    }

    /// A map of keys to values.
    pub fn data_map(name: impl Into<Name>, key: impl Into<Vec<DataType>>, data: impl Into<Vec<DataType>>) -> Self {
        Self { name: name.into(), key: key.into(), kind: SetKind::DataMap(data.into()), learns: None, comment: None }
    }

    /// Lets rules add elements with a timeout, up to so many.
    #[must_use]
    pub fn learns(mut self, size: u32) -> Self {
        self.learns = Some(size);
        self
    }

    /// Adds a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<Name>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

/// What happens to a packet next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Leaves this base chain; later base chains still see the packet.
    Accept,
    /// The packet is gone.
    Drop,
    /// Goes on with the next rule.
    Continue,
    /// Back to the chain that jumped here.
    Return,
    /// Runs another chain and comes back.
    Jump(Name),
    /// Runs another chain and doesn't come back.
    Goto(Name),
}

impl Verdict {
    /// `jump chain`.
    pub fn jump(chain: impl Into<Name>) -> Self {
        Self::Jump(chain.into())
    }

    /// `goto chain`.
    pub fn goto(chain: impl Into<Name>) -> Self {
        Self::Goto(chain.into())
    }

    /// The chain that this verdict leads to.
    pub fn target(&self) -> Option<&Name> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// What an element's key maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: the element of a plain set.
    None,
    /// The element of a verdict map.
    Verdict(Verdict),
    /// The element of a data map.
    Value(Concat),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Key.
    pub key: Concat,
    /// What the key maps to.
    pub data: Data,
    /// Shown by `nft list`.
    pub comment: Option<Box<str>>,
}

impl Element {
    /// An element of a plain set; also what names an element to delete, in any kind of set.
    pub fn key(key: Concat) -> Self {
        Self { key, data: Data::None, comment: None }
    }

    /// An element of a verdict map.
    pub fn verdict(key: Concat, verdict: Verdict) -> Self {
        Self { key, data: Data::Verdict(verdict), comment: None }
    }

    /// An element of a data map.
    pub fn value(key: Concat, value: Concat) -> Self {
        Self { key, data: Data::Value(value), comment: None }
    }

    /// Adds a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<Box<str>>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}
