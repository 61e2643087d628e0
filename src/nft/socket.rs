//! The netlink socket. Its calls block: the kernel does the work of a transaction inside the call that sends it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, getsockopt, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::wire::attributes::{Message, Messages};
use super::wire::consts::{GROUP, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use super::wire::decode::{Answer, answer};

/// `SOL_NETLINK`, `NETLINK_CAP_ACK`: answers don't carry the refused message, which may have 64 KB.
mod options {
    #![allow(missing_docs, reason = "the macro can't document what it makes")]
    use nix::{setsockopt_impl, sockopt_impl};
    sockopt_impl!(CapAck, SetOnly, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, bool);
    sockopt_impl!(ExtAck, SetOnly, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, bool);
}

/// The kernel puts at most 32 KiB into one answer to a dump (`netlink_dump` in `net/netlink/af_netlink.c`).
const RECEIVE: usize = 64 * 1024;
/// An answer to a change has a header, an error number, the change's header and a sentence.
const RECEIVE_ANSWER: usize = 4 * 1024;
/// What the kernel takes off the send buffer before it compares a message's length with it.
const OVERHEAD: usize = 4096;
/// Messages of changes that wait to be read, in bytes. The kernel takes memory for it only while they wait.
const WAITING: usize = 4 << 20;
/// A dump that others' changes tear is started again this often.
const DUMP_ATTEMPTS: usize = 20;

/// A socket on nfnetlink. It belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
}

impl Socket {
    /// Opens a socket; `patience` is how long it waits for an answer of the kernel.
    pub fn open(patience: Duration) -> Result<Self, Errno> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, options::CapAck, &true)?;
        setsockopt(&fd, options::ExtAck, &true)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(i64::try_from(patience.as_secs()).unwrap_or(i64::MAX), 0))?;
        Ok(Self { fd, seq: 0 })
    }

    /// The number by which the kernel knows the socket: what it tells others of a change names who made it.
    pub fn port(&self) -> Result<u32, Errno> {
        getsockname::<NetlinkAddr>(self.fd.as_raw_fd()).map(|address| address.pid())
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// Sends a batch and collects all answers. When the call that sends returns, the kernel has done the work and queued the answers.
    pub fn batch(&mut self, bytes: &[u8]) -> Result<Vec<Answer>, Errno> {
        self.make_room(bytes.len())?;
        self.send(bytes)?;
        let mut buffer = vec![0; RECEIVE_ANSWER];
        let mut answers = Vec::new();
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => answers.extend(Messages(buffer.get(..len).unwrap_or_default()).filter_map(|message| answer(&message))),
                Err(Errno::EAGAIN) => return Ok(answers),
                // More refusals than the receive buffer holds: the first ones, which came before, are enough.
                Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Asks for one object, to see whether it is there. The error is the kernel's.
    pub fn get(&mut self, request: impl Fn(u16, u32) -> Vec<u8>) -> Result<(), Errno> {
        self.get_with(request, |_| {})
    }

    /// Asks for one object and reads it.
    pub fn get_with(&mut self, request: impl Fn(u16, u32) -> Vec<u8>, mut each: impl FnMut(&Message<'_>)) -> Result<(), Errno> {
        let seq = self.next_seq();
        self.send(&request(NLM_F_REQUEST | NLM_F_ACK, seq))?;
        self.receive(seq, &mut each).map(|_| ())
    }

    /// Asks for all objects of a kind and collects what `each` makes of the messages. Starts again, with a new collection, if something
    /// changed meanwhile.
    pub fn dump<T: Default>(&mut self, request: impl Fn(u16, u32) -> Vec<u8>, each: impl Fn(&mut T, &Message<'_>)) -> Result<T, Errno> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut all = T::default();
            let seq = self.next_seq();
            self.send(&request(NLM_F_REQUEST | NLM_F_DUMP, seq))?;
            match self.receive(seq, &mut |message| each(&mut all, message)) {
                Ok(false) => return Ok(all),
                Ok(true) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EINTR)
    }

    /// Reads messages up to the one that ends the answer. True if something changed meanwhile.
    fn receive(&self, seq: u32, each: &mut impl FnMut(&Message<'_>)) -> Result<bool, Errno> {
        let mut buffer = vec![0; RECEIVE];
        let (mut torn, mut generation) = (false, None);
        loop {
            let len = match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let bytes = buffer.get(..len).ok_or(Errno::EMSGSIZE)?;
            for message in Messages(bytes).filter(|message| message.seq == seq) {
                torn |= message.flags & NLM_F_DUMP_INTR != 0;
                match answer(&message) {
                    None => {
                        // Elements come without the flag; every message has the ruleset's generation in its head.
                        torn |= *generation.get_or_insert(message.generation()) != message.generation();
                        each(&message);
                    }
                    Some(Answer { errno: 0, .. }) => return Ok(torn),
                    Some(Answer { errno, .. }) => return Err(Errno::from_raw(errno)),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => return other.map(|_| ()),
            }
        }
    }

    /// Raises the send buffer so that a batch fits: it must go in one call. Past the host's limit this needs CAP_NET_ADMIN in the first
    /// user namespace; without it the limit holds, and sending says that the message is too long.
    fn make_room(&self, len: usize) -> Result<(), Errno> {
        let want = len + OVERHEAD;
        if getsockopt(&self.fd, sockopt::SndBuf)? < want && setsockopt(&self.fd, sockopt::SndBufForce, &want).is_err() {
            setsockopt(&self.fd, sockopt::SndBuf, &want)?;
        }
        Ok(())
    }
}

/// Opens a socket, not blocking, that hears of each change of the ruleset, whoever makes it.
pub fn listen() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    // With less room changes are lost sooner, and that the kernel tells. Past the host's limit this needs CAP_NET_ADMIN in the first
    // user namespace.
    if setsockopt(&fd, sockopt::RcvBufForce, &WAITING).is_err() {
        let _ = setsockopt(&fd, sockopt::RcvBuf, &WAITING);
    }
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1 << (GROUP - 1)))?;
    Ok(fd)
}

/// An error number of a system call as the standard library's error.
pub fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}
