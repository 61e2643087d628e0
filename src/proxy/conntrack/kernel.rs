//! The kernel's conntrack table over netlink (`linux/netfilter/nfnetlink_conntrack.h`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;

use super::{Conntrack, Flow, Judge, Stale, UdpFlows};
use crate::nft::Family;
use crate::nft::socket::Socket;
use crate::nft::value::UDP;
use crate::nft::wire::attributes::{Attributes, Message};
use crate::nft::wire::buffer::Buffer;

/// How long one answer of the kernel may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// Since Linux 5.8; earlier kernels ignore it and send everything.
const FILTER: u16 = 25;
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
/// `CTA_FILTER_F_CTA_PROTO_NUM` (`net/netfilter/nf_internals.h`).
const FILTER_PROTO_NUM: u32 = 1 << 3;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;

/// Conntrack of the network namespace that the agent runs in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Conntrack for Kernel {
    async fn find(&mut self, flows: Vec<UdpFlows>) -> Result<Vec<Stale>, String> {
        call(move || find(&flows)).await
    }

    async fn delete(&mut self, stale: Vec<Stale>) -> Result<(), String> {
        call(move || delete(&stale)).await
    }
}

/// Runs a blocking call beside the async tasks, with a deadline.
async fn call<T: Send + 'static>(work: impl FnOnce() -> Result<T, Errno> + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE * 2, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result.map_err(|errno| match errno {
            Errno::EPERM => "no permission: run as root, or give the process CAP_NET_ADMIN".to_string(),
            Errno::EPROTONOSUPPORT | Errno::EINVAL => {
                "this kernel can't list connections: load the module (modprobe nf_conntrack_netlink)".to_string()
            }
            other => format!("conntrack over netlink: {other}; their clients must wait until the flows time out"),
        }),
        Ok(Err(panicked)) => Err(panicked.to_string()),
        Err(_) => Err("the kernel did not answer in time".to_string()),
    }
}

fn find(flows: &[UdpFlows]) -> Result<Vec<Stale>, Errno> {
    let judge = Judge::new(flows, local_addresses()?);
    let mut socket = Socket::open(PATIENCE)?;
    let mut all = Vec::new();
    for family in flows.iter().map(|f| f.frontend.family()).collect::<BTreeSet<_>>() {
        all.extend(socket.dump(
            |flags, seq| list_request(family, flags, seq),
            |stale: &mut Vec<Stale>, message| {
                if let Some(flow) = read(family, message.attributes())
                    && let Some(frontend) = judge.misses(&flow)
                    && let Some(name) = name_of(message)
                {
                    stale.push(Stale { frontend, answers: flow.answers, name });
                }
            },
        )?);
    }
    Ok(all)
}

/// Goes on after a flow that can't be deleted; the first error is returned.
fn delete(stale: &[Stale]) -> Result<(), Errno> {
    let mut socket = Socket::open(PATIENCE)?;
    let mut outcome = Ok(());
    for Stale { frontend, name, .. } in stale {
        match socket.get(|flags, seq| delete_request(frontend.family(), name, flags, seq)) {
            Ok(()) | Err(Errno::ENOENT) => {} // deleted, or it had ended by itself
            Err(errno) => outcome = outcome.and(Err(errno)),
        }
    }
    outcome
}

/// All addresses of this host.
pub fn local_addresses() -> Result<impl Iterator<Item = IpAddr>, Errno> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    Ok(addresses)
}

fn number(family: Family) -> u8 {
    let number = match family {
        Family::Ip => libc::AF_INET,
        Family::Ip6 => libc::AF_INET6,
    };
    u8::try_from(number).unwrap_or_default()
}

/// Asks for all UDP flows of a family.
fn list_request(family: Family, flags: u16, seq: u32) -> Vec<u8> {
    let mut buffer = Buffer::default();
    buffer.message(GET, flags, seq, number(family), 0, |b| {
        b.nested(TUPLE_ORIG, |b| b.nested(TUPLE_PROTO, |b| b.attr(PROTO_NUM, &[UDP])));
        b.nested(FILTER, |b| {
            b.attr(FILTER_ORIG_FLAGS, &FILTER_PROTO_NUM.to_ne_bytes());
            b.attr(FILTER_REPLY_FLAGS, &0_u32.to_ne_bytes());
        });
    });
    buffer.0
}

/// The attributes that name one flow: its original direction, its id (so that a new flow of the same tuple is spared), its zone.
fn name_of(message: &Message<'_>) -> Option<Vec<u8>> {
    let attributes = message.attributes();
    attributes.get(TUPLE_ORIG)?;
    let mut buffer = Buffer::default();
    for kind in [TUPLE_ORIG, ID, ZONE] {
        if let Some(payload) = attributes.get(kind) {
            match kind {
                TUPLE_ORIG => buffer.nested(kind, |b| b.0.extend_from_slice(payload)),
                _ => buffer.attr(kind, payload),
            }
        }
    }
    Some(buffer.0)
}

fn delete_request(family: Family, name: &[u8], flags: u16, seq: u32) -> Vec<u8> {
    let mut buffer = Buffer::default();
    buffer.message(DELETE, flags, seq, number(family), 0, |b| b.0.extend_from_slice(name));
    buffer.0
}

/// Reads a UDP flow; `None` for other protocols.
fn read(family: Family, attributes: Attributes<'_>) -> Option<Flow> {
    let (original, reply) = (attributes.nested(TUPLE_ORIG)?, attributes.nested(TUPLE_REPLY)?);
    if original.nested(TUPLE_PROTO)?.get(PROTO_NUM)? != [UDP] {
        return None;
    }
    // `CTA_IP_V4_SRC` is 1 and `…_DST` 2; for IPv6 they are 3 and 4.
    let (source, destination) = match family {
        Family::Ip => (1, 2),
        Family::Ip6 => (3, 4),
    };
    Some(Flow {
        destination: (address(original, destination)?, port(original, PROTO_DST_PORT)?),
        answers: (address(reply, source)?, port(reply, PROTO_SRC_PORT)?),
    })
}

fn address(tuple: Attributes<'_>, kind: u16) -> Option<IpAddr> {
    let bytes = tuple.nested(TUPLE_IP)?.get(kind)?;
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn port(tuple: Attributes<'_>, kind: u16) -> Option<u16> {
    Some(u16::from_be_bytes(tuple.nested(TUPLE_PROTO)?.get(kind)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::wire::attributes::Messages;

    /// A conntrack entry as the kernel writes it.
    fn entry(protocol: u8) -> Vec<u8> {
        let tuple = |b: &mut Buffer, kind, source: [u8; 4], destination: [u8; 4], ports: [u16; 2]| {
            b.nested(kind, |b| {
                b.nested(TUPLE_IP, |b| {
                    b.attr(1, &source);
                    b.attr(2, &destination);
                });
                b.nested(TUPLE_PROTO, |b| {
                    b.attr(PROTO_NUM, &[protocol]);
                    b.attr(PROTO_SRC_PORT, &ports[0].to_be_bytes());
                    b.attr(PROTO_DST_PORT, &ports[1].to_be_bytes());
                });
            });
        };
        let mut buffer = Buffer::default();
        buffer.message(SUBSYSTEM << 8, 0, 1, number(Family::Ip), 0, |b| {
            tuple(b, TUPLE_ORIG, [10, 0, 0, 9], [10, 96, 0, 10], [4000, 53]);
            tuple(b, TUPLE_REPLY, [10, 0, 0, 1], [10, 0, 0, 9], [5353, 4000]);
            b.attr_u32(ID, 77);
        });
        buffer.0
    }

    #[test]
    fn an_entry_is_read_and_named() {
        let bytes = entry(UDP);
        let message = Messages(&bytes).next().unwrap();
        let flow = read(Family::Ip, message.attributes()).unwrap();
        assert_eq!(flow.destination, ([10, 96, 0, 10].into(), 53));
        assert_eq!(flow.answers, ([10, 0, 0, 1].into(), 5353));
        let request = delete_request(Family::Ip, &name_of(&message).unwrap(), 0, 1);
        let named = Messages(&request).next().unwrap().attributes();
        assert_eq!((named.get(ID), named.get(TUPLE_ORIG)), (message.attributes().get(ID), message.attributes().get(TUPLE_ORIG)));
        assert_eq!(named.get(TUPLE_REPLY), None);
    }

    #[test]
    fn other_protocols_and_cut_entries_are_passed_over() {
        assert_eq!(read(Family::Ip, Messages(&entry(6)).next().unwrap().attributes()), None);
        let bytes = entry(UDP);
        let body = Messages(&bytes).next().unwrap().body;
        for len in 0..body.len() - 8 {
            let cut = Message { kind: 0, flags: 0, seq: 0, port: 0, body: &body[..len] };
            let _ = read(Family::Ip, cut.attributes()); // never a panic
        }
    }
}
