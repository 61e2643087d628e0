//! Values and concatenations of values, packed as the kernel packs them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::objects::DataType;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of SCTP.
pub const SCTP: u8 = 132;

/// One value of a packet, a key or a map's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// An address.
    Ip(IpAddr),
    /// An IP protocol number.
    Proto(u8),
    /// A port.
    Port(u16),
    /// A packet mark, a number from `numgen`, or a set of conntrack bits: 32 bits in host order.
    Mark(u32),
}

impl From<IpAddr> for Value {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl From<Ipv4Addr> for Value {
    fn from(ip: Ipv4Addr) -> Self {
        Self::Ip(ip.into())
    }
}

impl From<Ipv6Addr> for Value {
    fn from(ip: Ipv6Addr) -> Self {
        Self::Ip(ip.into())
    }
}

impl Value {
    /// The type that a set with such values as key declares.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Ip(IpAddr::V4(_)) => DataType::Ipv4,
            Self::Ip(IpAddr::V6(_)) => DataType::Ipv6,
            Self::Proto(_) => DataType::Proto,
            Self::Port(_) => DataType::Service,
            Self::Mark(_) => DataType::Mark,
        }
    }

    /// Writes the value as the kernel keeps it in a register and returns its length in bytes: network order, marks in host order.
    fn write(&self, out: &mut [u8; 16]) -> usize {
        let mut put = |bytes: &[u8]| {
            for (to, from) in out.iter_mut().zip(bytes) {
                *to = *from;
            }
            bytes.len()
        };
        match self {
            Self::Ip(IpAddr::V4(ip)) => put(&ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => put(&ip.octets()),
            Self::Proto(proto) => put(&[*proto]),
            Self::Port(port) => put(&port.to_be_bytes()),
            Self::Mark(mark) => put(&mark.to_ne_bytes()),
        }
    }

    /// Reads the value of a type from its unpadded bytes.
    fn read(kind: DataType, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            DataType::Ipv4 => Self::Ip(<[u8; 4]>::try_from(bytes).ok()?.into()),
            DataType::Ipv6 => Self::Ip(<[u8; 16]>::try_from(bytes).ok()?.into()),
            DataType::Proto => Self::Proto(*bytes.first()?),
            DataType::Service => Self::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
            DataType::Mark => Self::Mark(u32::from_ne_bytes(bytes.try_into().ok()?)),
        })
    }
}

impl DataType {
    /// Length of one value in bytes, without padding.
    pub fn size(self) -> usize {
        match self {
            Self::Proto => 1,
            Self::Service => 2,
            Self::Ipv4 | Self::Mark => 4,
            Self::Ipv6 => 16,
        }
    }

    /// Length in bytes of a concatenation of these types: a single value is not padded, parts of a longer one fill whole 32-bit registers.
    pub fn concat_len(parts: &[Self]) -> usize {
        match parts {
            [one] => one.size(),
            parts => parts.iter().map(|part| part.size().next_multiple_of(4)).sum(),
        }
    }
}

/// Bytes that fit beside the tag without a heap allocation: IPv4 keys with address, protocol, port and number, and IPv6 address and port.
const INLINE: usize = 22;

#[derive(Clone)]
enum Repr {
    Inline(u8, [u8; INLINE]),
    Heap(Box<[u8]>),
}

/// A key or a map's data, packed: 24 bytes in memory for the common ones, because they exist in tens of thousands.
#[derive(Clone)]
pub struct Concat(Repr);

impl Concat {
    /// Packs values: one value as it is, several with each padded to four bytes.
    pub fn of(values: &[Value]) -> Self {
        // The kernel's registers hold 64 bytes: a longer key is refused there, with an error that names the set.
        let mut out = [0_u8; 256];
        let mut end = 0;
        let pad = if values.len() == 1 { 1 } else { 4 };
        for value in values {
            let mut bytes = [0_u8; 16];
            let len = value.write(&mut bytes);
            for (to, from) in out.iter_mut().skip(end).zip(bytes.iter().take(len)) {
                *to = *from;
            }
            end += len.next_multiple_of(pad);
        }
        Self::from_bytes(out.get(..end).unwrap_or(&out))
    }

    /// Takes bytes that are packed already, as the kernel gave them.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut inline = [0_u8; INLINE];
        match (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(bytes);
                Self(Repr::Inline(len, inline))
            }
            _ => Self(Repr::Heap(bytes.into())),
        }
    }

    /// The packed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Repr::Heap(bytes) => bytes,
        }
    }

    /// Takes the values out again, or `None` if the bytes are no concatenation of these types.
    pub fn values(&self, types: &[DataType]) -> Option<Vec<Value>> {
        let mut rest = self.as_bytes();
        if rest.len() != DataType::concat_len(types) {
            return None;
        }
        let pad = if types.len() == 1 { 1 } else { 4 };
        types
            .iter()
            .map(|kind| {
                let (part, after) = rest.split_at_checked(kind.size().next_multiple_of(pad))?;
                rest = after;
                Value::read(*kind, part.get(..kind.size())?)
            })
            .collect()
    }
}

impl PartialEq for Concat {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Concat {}

impl PartialOrd for Concat {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Concat {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Concat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Concat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: [DataType; 4] = [DataType::Ipv4, DataType::Proto, DataType::Service, DataType::Mark];

    #[test]
    fn parts_are_padded_to_registers_and_come_back() {
        let values = [Value::from(Ipv4Addr::new(10, 0, 0, 1)), Value::Proto(TCP), Value::Port(80), Value::Mark(1)];
        let packed = Concat::of(&values);
        let mut want = vec![10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0];
        want.extend(1_u32.to_ne_bytes());
        assert_eq!(packed.as_bytes(), want);
        assert_eq!(packed.values(&TYPES).as_deref(), Some(&values[..]));
        assert_eq!(packed.values(&TYPES[..3]), None, "other types");
    }

    #[test]
    fn a_single_value_is_not_padded() {
        assert_eq!(Concat::of(&[Value::Port(443)]).as_bytes(), [1, 187]);
        assert_eq!(DataType::concat_len(&[DataType::Service]), 2);
        assert_eq!(DataType::concat_len(&[DataType::Proto, DataType::Service]), 8);
    }

    #[test]
    fn long_keys_go_to_the_heap_and_compare_the_same() {
        let ip = Value::from(Ipv6Addr::LOCALHOST);
        let long = Concat::of(&[ip, ip, Value::Proto(UDP), Value::Port(53)]);
        assert_eq!(long.as_bytes().len(), 40);
        assert_eq!(long, Concat::from_bytes(long.as_bytes()));
        assert_eq!(size_of::<Concat>(), 24);
    }
}
