//! What can go wrong, said so that a person knows what to do.

use super::objects::{Name, TableId};

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
    /// The socket failed.
    #[error("{doing}: {source}")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
}
