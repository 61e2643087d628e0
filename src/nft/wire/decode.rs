//! The kernel's messages as objects. What this room can't have made is read as far as possible and never an error.

use super::super::objects::{Chain, Data, Element, Hook, HookType, Set, SetKind};
use super::super::value::Concat;
use super::attributes::{Attributes, Message};
use super::consts::{NLM_F_ACK_TLVS, NLMSG_DONE, NLMSG_ERROR, NLMSGERR_ATTR_MSG, chain, data, elem, rule, set, udata};
use super::types;
use crate::nft::SetState;

/// `NLM_F_CAPPED`: of the refused message only the header came back.
const NLM_F_CAPPED: u16 = 0x100;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// What the kernel says at the end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Sequence number of the message that is answered.
    pub seq: u32,
    /// Linux error number; 0 for success.
    pub errno: i32,
    /// The kernel's own words, where it has some.
    pub text: Option<String>,
}

/// Reads `NLMSG_ERROR` (an error, or success as an error of zero) and `NLMSG_DONE`; `None` for other messages.
pub fn answer(message: &Message<'_>) -> Option<Answer> {
    if message.kind != NLMSG_ERROR && message.kind != NLMSG_DONE {
        return None;
    }
    let code = message.body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    let refused = if message.kind == NLMSG_DONE {
        0
    } else if message.flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        let len = message.body.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        usize::try_from(len).unwrap_or(usize::MAX).next_multiple_of(4)
    };
    let text = (message.flags & NLM_F_ACK_TLVS != 0)
        .then(|| message.body.get(refused.saturating_add(4)..))
        .flatten()
        .and_then(|bytes| Attributes(bytes).get_str(NLMSGERR_ATTR_MSG))
        .map(str::to_owned);
    Some(Answer { seq: message.seq, errno: code.saturating_neg(), text })
}

/// A chain of a table; `None` for chains of other tables. A hook of a kind that this room doesn't make is read as none.
pub fn chain(message: &Message<'_>, table: &str) -> Option<Chain> {
    let attributes = message.attributes();
    if attributes.get_str(chain::TABLE)? != table {
        return None;
    }
    let name = attributes.get_str(chain::NAME)?;
    Some(Chain { name: name.into(), hook: hook(attributes) })
}

fn hook(attributes: Attributes<'_>) -> Option<Hook> {
    let kind =
        [HookType::Filter, HookType::Nat].into_iter().find(|kind| attributes.get_str(chain::TYPE) == Some(types::chain_type(*kind)))?;
    let hook = attributes.nested(chain::HOOK)?;
    let point = types::hook_point(hook.get_u32(chain::HOOK_NUM)?)?;
    let priority = i32::from_be_bytes(hook.get(chain::HOOK_PRIORITY)?.try_into().ok()?);
    Some(Hook { kind, point, priority })
}

/// Chain and handle of a rule.
pub fn rule<'a>(message: &Message<'a>) -> Option<(&'a str, u64)> {
    let attributes = message.attributes();
    Some((attributes.get_str(rule::CHAIN)?, attributes.get_u64(rule::HANDLE)?))
}

/// A named set or map; `None` for an anonymous one.
pub fn set(message: &Message<'_>) -> Option<SetState> {
    let attributes = message.attributes();
    let name = attributes.get_str(set::NAME)?;
    let flags = attributes.get_u32(set::FLAGS).unwrap_or(0);
    if flags & set::FLAG_ANONYMOUS != 0 {
        return None;
    }
    Some(known_set(attributes, name, flags).map_or_else(|| SetState::Foreign(name.into()), SetState::Known))
}

fn known_set(attributes: Attributes<'_>, name: &str, flags: u32) -> Option<Set> {
    const LEARNS: u32 = set::FLAG_TIMEOUT | set::FLAG_EVAL;
    let learns = match flags & LEARNS {
        0 => None,
        // Each element has its own timeout in a set that this room makes.
        LEARNS if attributes.get(set::TIMEOUT).is_none() => Some(attributes.nested(set::DESC)?.get_u32(set::DESC_SIZE)?),
        _ => return None,
    };
    let kind = match (flags & !LEARNS, attributes.get_u32(set::DATA_TYPE)) {
        (0, _) => SetKind::Set,
        (set::FLAG_MAP, Some(set::DATA_VERDICT)) => SetKind::VerdictMap,
        (set::FLAG_MAP, Some(parts)) => SetKind::DataMap(types::concat_parts(parts)?),
        _ => return None,
    };
    let key = types::concat_parts(attributes.get_u32(set::KEY_TYPE)?)?;
    let comment = attributes.get(set::USERDATA).and_then(|bytes| user_text(bytes, udata::SET_COMMENT)).map(Into::into);
    Some(Set { name: name.into(), key, kind, learns, comment })
}

/// Elements of a message; `None` if one makes no sense.
pub fn elements(message: &Message<'_>, out: &mut Vec<Element>) -> Option<()> {
    let Some(list) = message.attributes().nested(elem::LIST_ELEMENTS) else { return Some(()) };
    for (_, bytes) in list {
        out.push(element(Attributes(bytes))?);
    }
    Some(())
}

fn element(attributes: Attributes<'_>) -> Option<Element> {
    let key = Concat::from_bytes(attributes.nested(elem::KEY)?.get(data::VALUE)?);
    let data = match attributes.nested(elem::DATA) {
        None => Data::None,
        Some(data) => match (data.get(data::VALUE), data.nested(data::VERDICT)) {
            (Some(value), _) => Data::Value(Concat::from_bytes(value)),
            (None, Some(verdict)) => {
                let code = i32::from_be_bytes(verdict.get(data::VERDICT_CODE)?.try_into().ok()?);
                Data::Verdict(types::verdict(code, verdict.get_str(data::VERDICT_CHAIN))?)
            }
            (None, None) => return None,
        },
    };
    let comment = attributes.get(elem::USERDATA).and_then(|bytes| user_text(bytes, udata::COMMENT)).map(Into::into);
    Some(Element { key, data, comment })
}

/// A text of a kind in user data.
fn user_text(mut bytes: &[u8], wanted: u8) -> Option<&str> {
    while let [kind, len, rest @ ..] = bytes {
        let (payload, after) = rest.split_at_checked(usize::from(*len))?;
        if *kind == wanted {
            return std::str::from_utf8(payload.strip_suffix(&[0]).unwrap_or(payload)).ok();
        }
        bytes = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::buffer::Buffer;
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Message<'_> {
        Message { kind, flags, seq: 3, port: 0, body }
    }

    fn refusal(errno: i32, header: &[u8], text: Option<&str>) -> Vec<u8> {
        let mut buffer = Buffer(errno.to_ne_bytes().to_vec());
        buffer.0.extend_from_slice(header);
        if let Some(text) = text {
            buffer.attr_str(NLMSGERR_ATTR_MSG, text);
        }
        buffer.0
    }

    #[test]
    fn refusals_come_with_the_kernels_words() {
        let header = [&20_u32.to_ne_bytes()[..], &[0; 12]].concat();
        let capped = refusal(-17, &header, Some("why"));
        let got = answer(&message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &capped)).unwrap();
        assert_eq!(got, Answer { seq: 3, errno: 17, text: Some("why".to_owned()) });
        // With the whole refused message, here of 20 bytes.
        let whole = refusal(-17, &[&header[..], &[0; 4]].concat(), Some("why"));
        assert_eq!(answer(&message(NLMSG_ERROR, NLM_F_ACK_TLVS, &whole)), Some(got));
        let bare = refusal(-2, &header, None);
        assert_eq!(answer(&message(NLMSG_ERROR, NLM_F_CAPPED, &bare)), Some(Answer { seq: 3, errno: 2, text: None }));
        assert_eq!(answer(&message(NLMSG_DONE, 0, &0_i32.to_ne_bytes())), Some(Answer { seq: 3, errno: 0, text: None }));
        assert_eq!(answer(&message(0x0a03, 0, &bare)), None);
    }

    #[test]
    fn absurd_answers_do_no_harm() {
        for body in [&[][..], &[1], &[255; 8], &[255; 64], &i32::MIN.to_ne_bytes()] {
            for kind in [NLMSG_ERROR, NLMSG_DONE, 0x0a09] {
                let message = message(kind, u16::MAX, body);
                let _ = (answer(&message), chain(&message, "t"), rule(&message), set(&message));
                let _ = elements(&message, &mut Vec::new());
            }
        }
        assert_eq!(user_text(&[7, 200, 1], 7), None);
        assert_eq!(user_text(&[0, 0, 7, 2, b'a', 0], 7), Some("a"));
    }
}
