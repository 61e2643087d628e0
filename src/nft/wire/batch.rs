//! A transaction as one netlink batch.

use super::super::check::check;
use super::super::error::Error;
use super::super::objects::{Chain, Data, DataType, Element, Set, SetKind};
use super::super::transaction::{Op, Transaction};
use super::buffer::Buffer;
use super::consts::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, SUBSYSTEM, chain, elem, msg, rule, set,
    table, udata,
};
use super::{statement, types};

/// Elements go into one message until its list is this long, in bytes: an attribute's length has 16 bits, and one element has at most
/// 700 bytes.
const LIST_FULL: usize = 64_000;

/// A transaction, ready to be sent.
#[derive(Debug)]
pub struct Batch {
    /// All messages.
    pub bytes: Vec<u8>,
    /// Sequence number of the first change's first message. The message that opens the batch has the number before.
    first: u32,
    /// For each message between begin and end, the change that it belongs to.
    ops: Vec<u32>,
}

impl Batch {
    /// Encodes a transaction. Its messages have sequence numbers from `seq` on. Only the last change asks for an answer: others answer
    /// only if they fail, so that the socket's receive buffer can't overflow.
    pub fn encode(transaction: &Transaction, seq: u32) -> Result<Self, Error> {
        check(transaction)?;
        let elements: usize = transaction.ops.iter().flat_map(element_list).map(element_len).sum();
        let mut encoder = Encoder {
            out: Buffer(Vec::with_capacity(256 + transaction.ops.len() * 128 + elements)),
            first: seq.wrapping_add(1),
            ops: Vec::new(),
            transaction,
            last: 0,
        };
        encoder.out.message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, seq, 0, SUBSYSTEM, |_| {});
        for (op, index) in transaction.ops.iter().zip(0..) {
            encoder.op(op, index);
        }
        encoder.ask_for_answer();
        let end = encoder.next_seq();
        encoder.out.message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, end, 0, SUBSYSTEM, |_| {});
        Ok(Self { bytes: encoder.out.0, first: encoder.first, ops: encoder.ops })
    }

    /// The change that a message with this sequence number belongs to; `None` for the messages that open and close the batch.
    pub fn op_of(&self, seq: u32) -> Option<usize> {
        let message = usize::try_from(seq.wrapping_sub(self.first)).ok()?;
        usize::try_from(*self.ops.get(message)?).ok()
    }

    /// Sequence number of the message that asks for an answer.
    pub fn answered(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.ops.len()).unwrap_or(u32::MAX)).wrapping_sub(1)
    }
}

struct Encoder<'a> {
    out: Buffer,
    first: u32,
    ops: Vec<u32>,
    transaction: &'a Transaction,
    /// Where the last message starts.
    last: usize,
}

impl Encoder<'_> {
    fn next_seq(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.ops.len()).unwrap_or(u32::MAX))
    }

    fn message(&mut self, op: u32, kind: u16, flags: u16, body: impl FnOnce(&mut Buffer, &str)) {
        let seq = self.next_seq();
        self.last = self.out.0.len();
        self.ops.push(op);
        let id = &self.transaction.table;
        self.out.nft_message(kind, NLM_F_REQUEST | flags, seq, types::family(id.family), |out| body(out, &id.name));
    }

    /// Adds NLM_F_ACK to the last message. The one that closes the batch can't be asked: kernels before 6.12 don't answer it.
    fn ask_for_answer(&mut self) {
        if let Some(flags) = self.out.0.get_mut(self.last + 6..self.last + 8)
            && let Ok(old) = <[u8; 2]>::try_from(&*flags)
        {
            flags.copy_from_slice(&(u16::from_ne_bytes(old) | NLM_F_ACK).to_ne_bytes());
        }
    }

    fn op(&mut self, op: &Op, index: u32) {
        let family = self.transaction.table.family;
        match op {
            Op::AddTable { comment: text } => self.message(index, msg::NEWTABLE, NLM_F_CREATE, |out, name| {
                out.attr_str(table::NAME, name);
                comment(out, table::USERDATA, text.as_deref());
            }),
            Op::DeleteTable => self.message(index, msg::DELTABLE, 0, |out, name| out.attr_str(table::NAME, name)),
            Op::AddChain(new) => self.message(index, msg::NEWCHAIN, NLM_F_CREATE, |out, name| add_chain(out, name, new)),
            Op::DeleteChain(old) => self.message(index, msg::DELCHAIN, 0, |out, name| named(out, chain::TABLE, name, chain::NAME, old)),
            Op::FlushChain(of) => self.message(index, msg::DELRULE, 0, |out, name| named(out, rule::TABLE, name, rule::CHAIN, of)),
            Op::AddRule { chain: of, rule: new } => self.message(index, msg::NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |out, name| {
                named(out, rule::TABLE, name, rule::CHAIN, of);
                out.nested(rule::EXPRESSIONS, |out| new.statements.iter().for_each(|step| statement::statement(out, step, family)));
                comment(out, rule::USERDATA, new.comment.as_deref());
            }),
            Op::DeleteRule { chain: of, handle } => self.message(index, msg::DELRULE, 0, |out, name| {
                named(out, rule::TABLE, name, rule::CHAIN, of);
                out.attr(rule::HANDLE, &handle.to_be_bytes());
            }),
            Op::AddSet(new) => self.message(index, msg::NEWSET, NLM_F_CREATE, |out, name| add_set(out, name, new, index)),
            Op::DeleteSet(old) => self.message(index, msg::DELSET, 0, |out, name| named(out, set::TABLE, name, set::NAME, old)),
            Op::FlushSet(of) => self.message(index, msg::DELSETELEM, 0, |out, name| named(out, elem::LIST_TABLE, name, elem::LIST_SET, of)),
            Op::AddElements { set: to, elements } => self.elements(index, msg::NEWSETELEM, NLM_F_CREATE, to, elements, add_element),
            Op::DeleteElements { set: from, elements } => self.elements(index, msg::DELSETELEM, 0, from, elements, element_key),
        }
    }

    fn elements(&mut self, op: u32, kind: u16, flags: u16, set: &str, elements: &[Element], write: fn(&mut Buffer, &Element)) {
        let mut rest = elements.iter().peekable();
        while rest.peek().is_some() {
            self.message(op, kind, flags, |out, name| {
                named(out, elem::LIST_TABLE, name, elem::LIST_SET, set);
                out.nested(elem::LIST_ELEMENTS, |out| {
                    let full = out.0.len() + LIST_FULL;
                    while out.0.len() < full
                        && let Some(element) = rest.next()
                    {
                        out.nested(rule::LIST_ELEM, |out| write(out, element));
                    }
                });
            });
        }
    }
}

/// Elements that a change adds or removes.
fn element_list(op: &Op) -> &[Element] {
    match op {
        Op::AddElements { elements, .. } | Op::DeleteElements { elements, .. } => elements,
        _ => &[],
    }
}

/// What an element takes at most, in bytes: so that the memory for tens of thousands is taken once.
fn element_len(element: &Element) -> usize {
    let data = match &element.data {
        Data::None => 0,
        Data::Verdict(verdict) => 24 + verdict.target().map_or(0, |chain| chain.len()),
        Data::Value(value) => 8 + value.as_bytes().len(),
    };
    // Headers of element, key, value; and what padding adds.
    24 + element.key.as_bytes().len() + data + element.comment.as_ref().map_or(0, |text| text.len() + 8)
}

/// The table's name and that of something in it.
fn named(out: &mut Buffer, table_attribute: u16, table: &str, attribute: u16, name: &str) {
    out.attr_str(table_attribute, table);
    out.attr_str(attribute, name);
}

/// One entry of user data: kind, length, bytes.
fn user_data(bytes: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    bytes.push(kind);
    bytes.push(u8::try_from(payload.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(payload);
}

/// A comment with its closing zero, as user data of anything but a set.
fn comment(out: &mut Buffer, attribute: u16, text: Option<&str>) {
    if let Some(text) = text {
        let mut bytes = Vec::with_capacity(text.len() + 3);
        user_data(&mut bytes, udata::COMMENT, &[text.as_bytes(), &[0]].concat());
        out.attr(attribute, &bytes);
    }
}

fn add_chain(out: &mut Buffer, table: &str, new: &Chain) {
    named(out, chain::TABLE, table, chain::NAME, &new.name);
    if let Some(hook) = new.hook {
        out.attr_str(chain::TYPE, types::chain_type(hook.kind));
        out.nested(chain::HOOK, |out| {
            out.attr_u32(chain::HOOK_NUM, types::hook(hook.point));
            out.attr(chain::HOOK_PRIORITY, &hook.priority.to_be_bytes());
        });
    }
}

fn add_set(out: &mut Buffer, table: &str, new: &Set, id: u32) {
    let length = |parts: &[DataType]| u32::try_from(DataType::concat_len(parts)).unwrap_or(u32::MAX);
    named(out, set::TABLE, table, set::NAME, &new.name);
    let (flags, data) = match &new.kind {
        SetKind::Set => (0, None),
        SetKind::VerdictMap => (set::FLAG_MAP, Some((set::DATA_VERDICT, 0, 0))),
        SetKind::DataMap(parts) => (set::FLAG_MAP, Some((types::concat_number(parts), length(parts), types::byteorder(parts)))),
    };
    let learns = if new.learns.is_some() { set::FLAG_TIMEOUT | set::FLAG_EVAL } else { 0 };
    out.attr_u32(set::FLAGS, flags | learns);
    out.attr_u32(set::KEY_TYPE, types::concat_number(&new.key));
    out.attr_u32(set::KEY_LEN, length(&new.key));
    let mut bytes = Vec::new();
    user_data(&mut bytes, udata::SET_KEY_BYTEORDER, &types::byteorder(&new.key).to_ne_bytes());
    if let Some((number, len, order)) = data {
        out.attr_u32(set::DATA_TYPE, number);
        out.attr_u32(set::DATA_LEN, len);
        user_data(&mut bytes, udata::SET_DATA_BYTEORDER, &order.to_ne_bytes());
    }
    if let Some(size) = new.learns {
        out.nested(set::DESC, |out| out.attr_u32(set::DESC_SIZE, size));
    }
    out.attr_u32(set::ID, id.wrapping_add(1));
    if let Some(text) = &new.comment {
        user_data(&mut bytes, udata::SET_COMMENT, &[text.as_bytes(), &[0]].concat());
    }
    out.attr(set::USERDATA, &bytes);
}

fn element_key(out: &mut Buffer, element: &Element) {
    out.nested(elem::KEY, |out| out.attr(super::consts::data::VALUE, element.key.as_bytes()));
}

fn add_element(out: &mut Buffer, element: &Element) {
    element_key(out, element);
    match &element.data {
        Data::None => {}
        Data::Verdict(verdict) => statement::verdict(out, elem::DATA, verdict),
        Data::Value(value) => out.nested(elem::DATA, |out| out.attr(super::consts::data::VALUE, value.as_bytes())),
    }
    comment(out, elem::USERDATA, element.comment.as_deref());
}

#[cfg(test)]
mod tests;
