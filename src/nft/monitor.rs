//! Hears when somebody else changes our tables: a restarted firewall that flushes everything, a person with `nft`.
//!
//! The kernel tells a multicast group of each change in a commit, with the port of the socket that made it, the family and the table's
//! name (`nf_tables_commit` and `nf_tables_*_notify` in `net/netfilter/nf_tables_api.c`). What changed is of no interest here: it is a
//! hint to look.

use std::io;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::objects::TableId;
use super::socket;
use super::wire::attributes::{Message, Messages};
use super::wire::consts::{SUBSYSTEM, msg, table};
use super::wire::types;
use crate::sys::readable::Readable;

/// The kernel collects changes up to `NLMSG_GOODSIZE`, which is less than two pages of 4 KiB; only one change alone may be longer, and of
/// that the beginning is enough.
const RECEIVE: usize = 16 * 1024;

/// Listens to changes of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Monitor {
    socket: Readable,
    tables: Vec<TableId>,
    buffer: Box<[u8]>,
}

impl Monitor {
    /// Changes from now on are heard. Must be called within a tokio runtime.
    pub fn open(tables: Vec<TableId>) -> io::Result<Self> {
        Ok(Self { socket: Readable::new(socket::listen().map_err(socket::io_error)?)?, tables, buffer: vec![0; RECEIVE].into() })
    }

    /// Returns when one of the tables was changed through another socket than that with port `own`; with `None` when changes were lost,
    /// so that nobody knows. May be dropped at any time.
    pub async fn disturbed(&mut self, own: Option<u32>) -> Option<TableId> {
        let Self { socket, tables, buffer } = self;
        let look = |fd| {
            let len = recv(fd, buffer, MsgFlags::empty())?;
            let messages = Messages(buffer.get(..len).unwrap_or_default());
            let touched = messages.filter(|message| Some(message.port) != own).find_map(|message| touched(&message, tables));
            Ok::<_, Errno>(touched)
        };
        let mut look = look;
        loop {
            match socket.read(&mut look).await {
                Ok(None) => {}
                Ok(Some(table)) => return Some(table),
                // ENOBUFS: there was more than the socket holds. Whatever else goes wrong here, looking is right.
                Err(_) => return None,
            }
        }
    }
}

/// Which of the tables a message tells of. The table's name is the first attribute of every kind of object.
fn touched(message: &Message<'_>, tables: &[TableId]) -> Option<TableId> {
    if message.kind >> 8 != SUBSYSTEM || message.kind & 0xff == msg::NEWGEN {
        return None;
    }
    let (family, name) = (message.family()?, message.attributes().get_str(table::NAME)?);
    tables.iter().find(|id| types::family(id.family) == family && *id.name == *name).cloned()
}

#[cfg(test)]
mod tests {
    use super::super::objects::Family;
    use super::super::wire::buffer::Buffer;
    use super::*;

    #[test]
    fn only_our_tables_count() {
        let ours = [Family::Ip, Family::Ip6].map(|family| TableId::new(family, "kubelet-rs"));
        let tells = |kind, family, name: &str| {
            let mut buffer = Buffer::default();
            buffer.nft_message(kind, 0, 0, family, |b| b.attr_str(table::NAME, name));
            touched(&Messages(&buffer.0).next().unwrap(), &ours).map(|table| table.family)
        };
        assert_eq!(tells(msg::DELRULE, 2, "kubelet-rs"), Some(Family::Ip));
        assert_eq!(tells(msg::DELTABLE, 10, "kubelet-rs"), Some(Family::Ip6));
        assert_eq!(tells(msg::DELRULE, 1, "kubelet-rs"), None, "inet");
        assert_eq!(tells(msg::DELRULE, 2, "kube-proxy"), None);
        assert_eq!(tells(msg::NEWGEN, 2, "kubelet-rs"), None);
    }

    #[test]
    fn absurd_messages_are_passed_over() {
        for body in [&[][..], &[2], &[2, 0, 0, 0], &[255; 32]] {
            assert_eq!(touched(&Message { kind: SUBSYSTEM << 8, flags: 0, seq: 0, port: 0, body }, &[]), None);
        }
    }
}
