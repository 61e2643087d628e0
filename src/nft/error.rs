//! What can go wrong, said so that a person knows what to do.

use nix::errno::Errno;

use super::objects::{Name, TableId};
use super::text;
use super::transaction::{Op, Transaction};

/// Why nftables could not be programmed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks CAP_NET_ADMIN in its network namespace.
    #[error("no permission to use nftables: run as root, or give the process CAP_NET_ADMIN")]
    NoPermission,
    /// The kernel has no nf_tables.
    #[error("this kernel has no nftables: load the module (modprobe nf_tables), or use a kernel with CONFIG_NF_TABLES")]
    NotSupported,
    /// The kernel or the fake refused a change. Nothing of the transaction took place.
    #[error("{table}: {op}: {reason}; nothing of the transaction took place")]
    Refused {
        /// The table.
        table: TableId,
        /// The change, in `nft`'s words.
        op: String,
        /// Position of the change in the transaction; `None` if the kernel refused the transaction as a whole.
        index: Option<usize>,
        /// Linux error number.
        errno: i32,
        /// The error in words, what it means here, and what the kernel said of it.
        reason: String,
    },
    /// A change that can't be sent: the caller's mistake.
    #[error("{table}: {op}: {reason}")]
    Invalid {
        /// The table.
        table: TableId,
        /// The change, in `nft`'s words.
        op: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something to read is not there.
    #[error("{table}: there is no set or map {set}")]
    NoSuchSet {
        /// The table.
        table: TableId,
        /// The set.
        set: Name,
    },
    /// The kernel did not answer in time. Whether the change took place is unknown: read the table back.
    #[error(
        "{doing}: no answer from the kernel in {seconds} s; something else may hold nftables' lock; reading the table back tells what stands"
    )]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The kernel's answer made no sense.
    #[error("{doing}: the kernel's answer is malformed: {what}")]
    Malformed {
        /// What was being done.
        doing: &'static str,
        /// Where.
        what: &'static str,
    },
    /// The transaction is longer than the host lets this process send at once.
    #[error("a transaction of {bytes} bytes is longer than this process may send: raise net.core.wmem_max, or run as root of the host")]
    TooLong {
        /// Length in bytes.
        bytes: usize,
    },
    /// The socket failed.
    #[error("{doing}: {source}")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// An error number for a change as an error that says what it means there.
    pub(super) fn refused(transaction: &Transaction, index: Option<usize>, errno: Errno, kernel_says: Option<&str>) -> Self {
        let op = index.and_then(|index| transaction.ops.get(index));
        let mut reason = errno.desc().to_owned();
        if let Some(hint) = hint(op, errno) {
            reason.push_str(": ");
            reason.push_str(hint);
        }
        if let Some(text) = kernel_says {
            reason.push_str(&format!(" (the kernel says: {text})"));
        }
        Self::Refused {
            table: transaction.table.clone(),
            op: op.map_or_else(|| "transaction".to_owned(), |op| text::op(transaction.table.family, op)),
            index,
            errno: errno as i32,
            reason,
        }
    }
}

/// What an error number means for a change.
fn hint(op: Option<&Op>, errno: Errno) -> Option<&'static str> {
    Some(match (op?, errno) {
        (_, Errno::ENOMEM) => "the kernel is out of memory",
        (_, Errno::EMLINK | Errno::ELOOP) => "chains lead to each other in a circle, or more than 16 deep",
        (Op::AddTable { .. }, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => "the kernel does not have this address family",
        (Op::AddChain(_), Errno::EEXIST) => "a chain of this name stands at another hook",
        (Op::AddChain(_), Errno::ENOENT) => "there is no such table, or the kernel lacks this type of chain (CONFIG_NFT_NAT)",
        (Op::AddSet(_), Errno::EEXIST) => "a set of this name has other types",
        (Op::AddRule { .. }, Errno::ENOENT) => {
            "the chain, or a set or chain that the rule names, is missing, or the kernel lacks one of its expressions (modules nft_fib_ipv4, \
             nft_fib_ipv6, nft_numgen, nft_nat, nft_masq, nft_reject_ipv4, nft_reject_ipv6, nft_ct)"
        }
        (Op::AddRule { .. }, Errno::EOPNOTSUPP) => "a step of the rule is not possible at the hooks that lead to this chain",
        (Op::AddElements { .. }, Errno::EEXIST | Errno::EBUSY) => "an element stands with other data: delete it first",
        (Op::AddElements { .. }, Errno::ENOENT) => "the set, or a chain that an element leads to, is missing",
        (Op::AddElements { .. } | Op::DeleteElements { .. }, Errno::EINVAL) => "a key or data is not of the set's types",
        (Op::DeleteElements { .. }, Errno::ENOENT) => "the set, or one of the elements, is missing",
        (Op::DeleteChain(_) | Op::DeleteSet(_), Errno::EBUSY) => "a rule or an element still leads to it",
        (_, Errno::ENOENT) => "there is none",
        _ => return None,
    })
}
