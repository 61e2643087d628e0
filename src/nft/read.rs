//! Requests that read what stands in the kernel.

use nix::errno::Errno;

use super::backend::{ChainState, SetState, TableState};
use super::objects::{Element, TableId};
use super::socket::Socket;
use super::wire::buffer::Buffer;
use super::wire::consts::{GEN_ID, chain, elem, msg, rule, set, table};
use super::wire::{decode, types};

/// One message as bytes.
fn request(kind: u16, flags: u16, seq: u32, family: u8, body: impl FnOnce(&mut Buffer)) -> Vec<u8> {
    let mut buffer = Buffer::default();
    buffer.nft_message(kind, flags, seq, family, body);
    buffer.0
}

/// The number of the ruleset's generation, which each commit of anybody raises by one. Asking for it is also the least that shows
/// whether nftables may be used.
pub fn generation(socket: &mut Socket) -> Result<u32, Errno> {
    let mut generation = None;
    socket
        .get_with(|flags, seq| request(msg::GETGEN, flags, seq, 0, |_| {}), |message| generation = message.attributes().get_u32(GEN_ID))?;
    generation.ok_or(Errno::EBADMSG)
}

/// Chains, with their rules' handles, and sets of a table; `None` if there is no such table.
pub fn table(socket: &mut Socket, id: &TableId) -> Result<Option<TableState>, Errno> {
    let family = types::family(id.family);
    let in_table =
        |kind: u16, attribute: u16| move |flags: u16, seq: u32| request(kind, flags, seq, family, |out| out.attr_str(attribute, &id.name));
    match socket.get(in_table(msg::GETTABLE, table::NAME)) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other?,
    }
    let mut chains: Vec<ChainState> = socket.dump(in_table(msg::GETCHAIN, chain::TABLE), |all: &mut Vec<_>, message| {
        all.extend(decode::chain(message, &id.name).map(|chain| ChainState { chain, rules: Vec::new() }));
    })?;
    let rules: Vec<(String, u64)> = socket.dump(in_table(msg::GETRULE, rule::TABLE), |all: &mut Vec<_>, message| {
        all.extend(decode::rule(message).map(|(chain, handle)| (chain.to_owned(), handle)));
    })?;
    // Rules come chain by chain, in the chains' order.
    let mut at = 0;
    for (chain, handle) in rules {
        let found = (at..chains.len()).chain(0..at).find(|index| chains.get(*index).is_some_and(|state| *state.chain.name == *chain));
        if let Some(state) = found.and_then(|index| chains.get_mut(index)) {
            state.rules.push(handle);
            at = found.unwrap_or(0);
        }
    }
    let sets: Vec<SetState> =
        socket.dump(in_table(msg::GETSET, set::TABLE), |all: &mut Vec<_>, message| all.extend(decode::set(message)))?;
    Ok(Some(TableState { chains, sets }))
}

/// Elements of a set, ordered by key; `None` if one makes no sense.
pub fn elements(socket: &mut Socket, id: &TableId, name: &str) -> Result<Option<Vec<Element>>, Errno> {
    let request = |flags, seq| {
        request(msg::GETSETELEM, flags, seq, types::family(id.family), |out| {
            out.attr_str(elem::LIST_TABLE, &id.name);
            out.attr_str(elem::LIST_SET, name);
        })
    };
    let (mut elements, broken) = socket.dump(request, |(all, broken): &mut (Vec<Element>, bool), message| {
        *broken |= decode::elements(message, all).is_none();
    })?;
    // The kernel gives an element twice if its hash table grew meanwhile.
    elements.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    elements.dedup_by(|a, b| a.key == b.key);
    Ok((!broken).then_some(elements))
}
