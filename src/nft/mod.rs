//! nftables: a small vocabulary of objects, transactions that only collect, and the kernel (or a fake of it) that takes them.
//!
//! **In**: a [`Transaction`] on one table, built by a caller that decides what the table must hold.
//! **Out**: one netlink batch, which the kernel takes as a whole or not at all; and what stands in the kernel, read back.
//! **Owns**: one netlink socket, and one more that hears when others change our tables. It keeps no copy of what it programmed: callers keep what they need to compute a difference.
//! **Survives a restart**: everything in the kernel. A caller adopts it with [`Netfilter::table`] and [`Netfilter::elements`].
//!
//! The room knows nothing about Kubernetes and never starts the `nft` program. Texts that it prints have the form of `nft list ruleset`,
//! so that a person, a test and the program speak about rules in one language.

pub mod backend;
mod check;
pub mod error;
pub mod fake;
pub mod kernel;
mod monitor;
pub mod objects;
mod read;
pub mod rule;
pub(crate) mod socket;
pub mod text;
pub mod transaction;
pub mod value;
pub(crate) mod wire;

pub use backend::{ChainState, Netfilter, SetState, TableState};
pub use error::Error;
pub use fake::Fake;
pub use kernel::Kernel;
pub use objects::{Chain, Data, DataType, Element, Family, Hook, HookPoint, HookType, Name, Set, SetKind, TableId, Verdict};
pub use rule::{CtState, CtStatus, Expr, Reject, Rule, Statement};
pub use transaction::{Op, Transaction};
pub use value::{Concat, Value};
