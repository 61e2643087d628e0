//! A list answer, read while it comes in: a list of ten thousand Services is megabytes long, one of them a few hundred bytes.

use prost::Message;

use super::{DecodeError, Objects, Slim, malformed, wire};

/// An object above this many bytes is a broken stream: etcd's own limit for one object is far below.
const LARGEST: usize = 16 << 20;

/// Where in the answer the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the four bytes of Kubernetes protobuf.
    Magic,
    /// In `runtime.Unknown`, before its field `raw`. Next: [`Place::List`].
    Envelope,
    /// In the list message, of which `left` bytes are to come. Next: [`Place::End`].
    List { left: usize },
    /// Behind it; what follows is of no interest.
    End,
}

/// Takes a list answer in pieces of any size. Holds at most one object that is not complete.
pub struct ListReader<T> {
    node: String,
    place: Place,
    pending: Vec<u8>,
    list: Objects<T>,
}

impl<T: Slim> ListReader<T> {
    /// `node` decides what `local` means.
    pub fn new(node: &str) -> Self {
        let list = Objects { items: Vec::new(), resource_version: String::new(), problems: Vec::new() };
        Self { node: node.to_owned(), place: Place::Magic, pending: Vec::new(), list }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        if self.pending.is_empty() {
            let used = self.take(piece)?;
            self.pending.extend_from_slice(piece.get(used..).unwrap_or_default());
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(piece);
            let used = self.take(&pending)?;
            pending.drain(..used);
            self.pending = pending;
        }
        Ok(())
    }

    /// The whole list, when all of it has come.
    pub fn finish(self) -> Result<Objects<T>, DecodeError> {
        match self.place {
            // An empty list may have no `raw` at all.
            Place::End => Ok(self.list),
            Place::List { left: 0 } => Ok(self.list),
            Place::Envelope if self.pending.is_empty() => Ok(self.list),
            Place::Magic => Err(DecodeError::NotProtobuf),
            _ => Err(DecodeError::Truncated),
        }
    }

    /// Reads what is complete at the front of `bytes`, and says how much that was.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, DecodeError> {
        let mut used = 0;
        while let Some(step) = self.step(bytes.get(used..).unwrap_or_default())? {
            used += step;
        }
        Ok(used)
    }

    fn step(&mut self, bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        match self.place {
            Place::Magic => {
                let Some(start) = bytes.get(..4) else { return Ok(None) };
                if !wire::is_enveloped(start) {
                    return Err(DecodeError::NotProtobuf);
                }
                self.place = Place::Envelope;
                Ok(Some(4))
            }
            Place::Envelope => {
                let Some((number, length, head)) = header(bytes)? else { return Ok(None) };
                if number == 2 {
                    self.place = Place::List { left: length };
                    return Ok(Some(head));
                }
                Ok(whole(bytes, head, length)?.map(|_| head + length))
            }
            Place::List { left: 0 } => {
                self.place = Place::End;
                Ok(Some(0))
            }
            Place::List { left } => {
                let Some((number, length, head)) = header(bytes)? else { return Ok(None) };
                let left = left.checked_sub(head.saturating_add(length)).ok_or(DecodeError::Truncated)?;
                let Some(message) = whole(bytes, head, length)? else { return Ok(None) };
                self.field(number, message)?;
                self.place = Place::List { left };
                Ok(Some(head + length))
            }
            Place::End => Ok((!bytes.is_empty()).then_some(bytes.len())),
        }
    }

    fn field(&mut self, number: u64, message: &[u8]) -> Result<(), DecodeError> {
        match number {
            1 => {
                let meta = wire::ListMeta::decode(message).map_err(|e| malformed("list", &e))?;
                self.list.resource_version = meta.resource_version;
            }
            2 => {
                // One object that makes no sense doesn't hide the others.
                match T::read(message, &self.node) {
                    Ok(mut decoded) => {
                        self.list.problems.append(&mut decoded.problems);
                        self.list.items.push(decoded.object);
                    }
                    Err(error) => self.list.problems.push(format!("{} {}: {error}; left out", T::KIND, wire::name_in(message))),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Number and length of a length-delimited field (lists and envelopes have no others) and how long this header is itself.
fn header(bytes: &[u8]) -> Result<Option<(u64, usize, usize)>, DecodeError> {
    let Some((key, first)) = varint(bytes)? else { return Ok(None) };
    if key & 7 != 2 {
        return Err(DecodeError::Truncated);
    }
    let Some((length, second)) = varint(bytes.get(first..).unwrap_or_default())? else { return Ok(None) };
    let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
    Ok(Some((key >> 3, length, first + second)))
}

fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, DecodeError> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(i).unwrap_or(0)).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    if bytes.len() < 10 { Ok(None) } else { Err(DecodeError::Truncated) }
}

/// The message behind a header, once it is there.
fn whole(bytes: &[u8], head: usize, length: usize) -> Result<Option<&[u8]>, DecodeError> {
    if length > LARGEST {
        return Err(DecodeError::FrameTooLong(length));
    }
    Ok(bytes.get(head..head + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Service;

    /// A length-delimited field.
    fn field(number: u8, message: &[u8]) -> Vec<u8> {
        assert!(message.len() < 16384);
        let (low, high) = (message.len() as u8 & 0x7f | 0x80, (message.len() >> 7) as u8);
        [&[number << 3 | 2, low, high], message].concat()
    }

    fn answer(services: usize) -> Vec<u8> {
        let meta = field(1, &field(2, b"77"));
        let item = |i: usize| field(2, &field(1, &[field(1, format!("svc-{i}").as_bytes()), field(3, b"ns")].concat()));
        let list = (0..services).fold(meta, |list, i| [list, item(i)].concat());
        [b"k8s\0".to_vec(), field(1, &field(1, b"v1")), field(2, &list), field(4, b"")].concat()
    }

    fn read(body: &[u8], piece: usize) -> Result<Objects<Service>, DecodeError> {
        let mut reader = ListReader::new("n");
        body.chunks(piece).try_for_each(|piece| reader.push(piece))?;
        reader.finish()
    }

    #[test]
    fn the_size_of_the_pieces_makes_no_difference() {
        let body = answer(100);
        for piece in [1, 2, 3, 7, 64, 1000, body.len()] {
            let page = read(&body, piece).expect("whole");
            assert_eq!((page.items.len(), page.resource_version.as_str()), (100, "77"), "{piece}");
            assert_eq!(page.items.last().map(|s| s.id.name.to_string()).as_deref(), Some("svc-99"));
        }
        assert_eq!(read(&answer(0), 5).map(|page| page.items.len()), Ok(0));
    }

    #[test]
    fn one_bad_object_is_left_out_and_named() {
        let meta = field(1, &[field(1, b"bad"), field(3, b"ns")].concat());
        let bad = field(2, &[meta, field(2, b"\xff\xff\xff")].concat());
        let good = field(2, &field(1, &[field(1, b"good"), field(3, b"ns")].concat()));
        let list = [field(1, &field(2, b"77")), bad, good].concat();
        let page = read(&[b"k8s\0".to_vec(), field(2, &list)].concat(), 9).expect("the rest");
        assert_eq!(page.items.iter().map(|s| s.id.to_string()).collect::<Vec<_>>(), ["ns/good"]);
        assert!(page.problems.len() == 1 && page.problems[0].starts_with("Service ns/bad: malformed"), "{:?}", page.problems);
    }

    #[test]
    fn a_list_that_breaks_off_is_an_error() {
        let body = answer(3);
        let list_ends = body.len() - field(4, b"").len();
        for end in 4 + field(1, &field(1, b"v1")).len() + 1..list_ends {
            assert_eq!(read(body.get(..end).expect("part"), 16), Err(DecodeError::Truncated), "{end}");
        }
        assert!(read(b"", 1).is_err() && read(b"{\"kind\":\"List\"}", 4).is_err());
    }

    #[test]
    fn garbage_is_an_error() {
        let bad: [&[u8]; 4] = [
            b"k8s\0\x08\x01",
            b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"k8s\0\x12\x03\x12\x05abcde",
            b"k8s\0\x0a\xff\xff\xff\xff\x7f",
        ];
        for body in bad {
            assert!(read(body, 3).is_err(), "{body:?}");
        }
    }
}
