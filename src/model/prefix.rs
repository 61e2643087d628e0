//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// Its first address.
    addr: IpAddr,
    /// How many leading bits its addresses share.
    bits: u8,
}

/// A text that names no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses such as 10.0.0.0/8 or fd00::/64")]
pub struct NoPrefix(String);

impl Prefix {
    /// The range of this address and so many bits; bits of the address behind them don't count. `None`: the family has fewer bits.
    pub fn new(addr: IpAddr, bits: u8) -> Option<Self> {
        let most = if addr.is_ipv4() { 32 } else { 128 };
        (bits <= most).then(|| Self { addr: first(addr, bits), bits })
    }

    /// The range of one address.
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, bits: if addr.is_ipv4() { 32 } else { 128 } }
    }

    /// Its first address.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// How many leading bits its addresses share.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether an address lies in it.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && first(addr, self.bits) == self.addr
    }
}

/// The first address of the range: bits behind the prefix cleared.
fn first(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::V4((addr.to_bits() & u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0)).into()),
        IpAddr::V6(addr) => IpAddr::V6((addr.to_bits() & u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0)).into()),
    }
}

impl FromStr for Prefix {
    type Err = NoPrefix;

    fn from_str(text: &str) -> Result<Self, NoPrefix> {
        let parse = || {
            let (addr, bits) = text.split_once('/')?;
            // Only digits: the standard library would take a sign as well.
            let bits = bits.bytes().all(|b| b.is_ascii_digit()).then(|| bits.parse().ok())??;
            Self::new(addr.parse().ok()?, bits)
        };
        parse().ok_or_else(|| NoPrefix(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_hold_their_addresses() {
        for (text, inside, outside) in [
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "192.0.2.1", "fd00::1"),
            ("fd00::5/64", "fd00::ffff:1", "fd00:0:0:1::1"),
            ("::/0", "fd00::1", "10.0.0.1"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert!(prefix.contains(inside.parse().unwrap()), "{text}");
            assert!(!prefix.contains(outside.parse().unwrap()), "{text}");
        }
        assert_eq!("10.1.2.3/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
        for text in ["", "10.0.0.1", "10.0.0.0/33", "fd00::/129", "10.0.0.0/+8", "10.0.0.0/", "10.0.0/8", "10.0.0.0/8 "] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
    }
}
