//! What takes transactions: the kernel, or a fake of it.

use std::future::Future;

use super::error::Error;
use super::objects::{Chain, Element, Set, TableId};
use super::transaction::Transaction;

/// A chain as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainState {
    /// Name and hook.
    pub chain: Chain,
    /// Handles of its rules, in order.
    pub rules: Vec<u64>,
}

/// A set or map as it stands, without its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetState {
    /// One of the kinds that this room makes.
    Known(Set),
    /// One that it can't have made, for instance with timeouts or ranges.
    Foreign(super::objects::Name),
}

/// A table as it stands, without the elements of its sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// Chains.
    pub chains: Vec<ChainState>,
    /// Named sets and maps. Anonymous ones, which belong to rules, are left out.
    pub sets: Vec<SetState>,
}

/// Takes transactions and tells what stands.
pub trait Netfilter: Send {
    /// Makes all changes of a transaction at once, or none.
    fn apply(&mut self, transaction: &Transaction) -> impl Future<Output = Result<(), Error>> + Send;

    /// Chains and sets of a table; `None` if there is no such table.
    fn table(&mut self, table: &TableId) -> impl Future<Output = Result<Option<TableState>, Error>> + Send;

    /// Elements of a set or map, ordered by their keys' bytes.
    fn elements(&mut self, table: &TableId, set: &str) -> impl Future<Output = Result<Vec<Element>, Error>> + Send;

    /// Stops listening to what others do, to begin again with [`Self::watch`]: a caller that reads everything and puts it right needs no
    /// hints meanwhile, and the notifications of a large transaction of its own would only fill the queue.
    fn unwatch(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Listens to what others do to these tables. True if somebody made changes since [`Self::unwatch`], to whichever table.
    fn watch(&mut self, tables: Vec<TableId>) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Returns when somebody else changed a watched table; with `None` when notifications were lost, so that it isn't known. Never returns
    /// while nothing is watched. May be dropped at any time.
    fn disturbed(&mut self) -> impl Future<Output = Option<TableId>> + Send;
}
