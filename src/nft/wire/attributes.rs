//! Reads netlink messages and attributes. Bytes that make no sense end the reading: nothing here panics or loops.

/// A netlink message without its header.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Type, with the subsystem in the high byte.
    pub kind: u16,
    /// Flags.
    pub flags: u16,
    /// Sequence number of the request that it answers.
    pub seq: u32,
    /// Port of the socket whose request it answers, or that made the change it tells of.
    pub port: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after `struct nfgenmsg`.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(4..).unwrap_or_default())
    }

    /// The address family that it is about: `nfgen_family` of `struct nfgenmsg`.
    pub fn family(&self) -> Option<u8> {
        self.body.first().copied()
    }

    /// The low half of the ruleset's generation, which each change of any table raises: `res_id` of `struct nfgenmsg`.
    pub fn generation(&self) -> Option<u16> {
        short(self.body.get(2..4)?)
    }
}

/// Messages one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let head = self.0.get(..16)?;
        let len = usize::try_from(number(head.get(..4)?)?).ok()?;
        let kind = short(head.get(4..6)?)?;
        let flags = short(head.get(6..8)?)?;
        let seq = number(head.get(8..12)?)?;
        let port = number(head.get(12..16)?)?;
        let body = self.0.get(16..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, flags, seq, port, body })
    }
}

/// Attributes one after the other: type without flag bits, and payload.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Payload of the first attribute of a type.
    pub fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(found, _)| *found == kind).map(|(_, payload)| payload)
    }

    /// Attributes inside the first attribute of a type.
    pub fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }

    /// A number in network order.
    pub fn get_u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A number of eight bytes in network order.
    pub fn get_u64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A text without its closing zero.
    pub fn get_str(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(short(self.0.get(..2)?)?);
        let kind = short(self.0.get(2..4)?)? & 0x3fff;
        let payload = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn short(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::buffer::Buffer;
    use super::*;

    #[test]
    fn reads_what_the_buffer_writes() {
        let mut buffer = Buffer::default();
        buffer.nft_message(9, 1, 7, 2, |b| {
            b.attr_str(1, "name");
            b.nested(2, |b| b.attr_u32(3, 5));
        });
        buffer.nft_message(10, 0, 8, 10, |_| {});
        let messages: Vec<_> = Messages(&buffer.0).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].seq), (0x0a09, 7));
        assert_eq!(messages[0].attributes().get_str(1), Some("name"));
        assert_eq!(messages[0].attributes().nested(2).and_then(|a| a.get_u32(3)), Some(5));
        assert_eq!(messages[1].attributes().count(), 0);
    }

    #[test]
    fn truncated_and_absurd_bytes_end_the_reading() {
        let mut buffer = Buffer::default();
        buffer.nft_message(9, 1, 7, 2, |b| b.attr_str(1, "name"));
        for len in 0..buffer.0.len() {
            assert_eq!(Messages(&buffer.0[..len]).count(), 0, "{len} bytes");
        }
        assert_eq!(Attributes(&[0; 64]).count(), 0, "length zero must not loop");
        assert_eq!(Attributes(&[255; 64]).count(), 0);
        assert_eq!(Messages(&[0; 64]).count(), 0);
    }
}
