//! Writes netlink messages: headers and nested attributes, lengths filled in at the end of each.

use super::consts::SUBSYSTEM;

/// Set in the type of an attribute that holds attributes.
const NLA_F_NESTED: u16 = 0x8000;

/// Bytes of messages, one after the other.
#[derive(Debug, Default)]
pub struct Buffer(pub Vec<u8>);

impl Buffer {
    /// Writes a message: `struct nlmsghdr`, `struct nfgenmsg`, then the attributes that `body` writes.
    pub fn message(&mut self, kind: u16, flags: u16, seq: u32, family: u8, resource: u16, body: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(&flags.to_ne_bytes());
        self.0.extend_from_slice(&seq.to_ne_bytes());
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&[family, 0]);
        self.0.extend_from_slice(&resource.to_be_bytes());
        body(self);
        let len = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.fill(start, &len.to_ne_bytes());
    }

    /// Writes an nftables message.
    pub fn nft_message(&mut self, kind: u16, flags: u16, seq: u32, family: u8, body: impl FnOnce(&mut Self)) {
        self.message(SUBSYSTEM << 8 | kind, flags, seq, family, 0, body);
    }

    /// Writes an attribute, padded to four bytes.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) {
        let start = self.open(kind);
        self.0.extend_from_slice(payload);
        self.close(start);
    }

    /// Writes a number in network order, as nftables wants all its numbers.
    pub fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Writes a name with its closing zero.
    pub fn attr_str(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self.close(start);
    }

    /// Writes an attribute that holds the attributes that `body` writes. They must be shorter than 64 KiB together.
    pub fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NLA_F_NESTED);
        body(self);
        self.close(start);
    }

    /// Starts an attribute; returns where.
    fn open(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    /// Ends the attribute that started there.
    fn close(&mut self, start: usize) {
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.fill(start, &len.to_ne_bytes());
        let padded = self.0.len().next_multiple_of(4);
        self.0.resize(padded, 0);
    }

    fn fill(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_headers_but_no_padding() {
        let mut buffer = Buffer::default();
        buffer.nft_message(0, 1, 7, 2, |b| {
            b.attr_str(1, "t");
            b.nested(2, |b| b.attr_u32(3, 1));
        });
        let mut want = Vec::new();
        want.extend(40_u32.to_ne_bytes());
        want.extend(0x0a00_u16.to_ne_bytes());
        want.extend(1_u16.to_ne_bytes());
        want.extend(7_u32.to_ne_bytes());
        want.extend([0, 0, 0, 0, 2, 0, 0, 0]);
        want.extend(6_u16.to_ne_bytes());
        want.extend(1_u16.to_ne_bytes());
        want.extend(*b"t\0\0\0");
        want.extend(12_u16.to_ne_bytes());
        want.extend(0x8002_u16.to_ne_bytes());
        want.extend(8_u16.to_ne_bytes());
        want.extend(3_u16.to_ne_bytes());
        want.extend([0, 0, 0, 1]);
        assert_eq!(buffer.0, want);
    }
}
