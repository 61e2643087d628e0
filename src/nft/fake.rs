//! Tables in memory that take transactions as the kernel does: for tests of callers.
//!
//! It checks what a caller can get wrong: names that lead nowhere, elements that stand with other data, removal of what is missing or in
//! use. It does not check which statements are possible at which hook; the kernel tests do that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::backend::{ChainState, Netfilter, SetState, TableState};
use super::check::check;
use super::error::Error;
use super::objects::{Element, TableId};
use super::transaction::Transaction;

mod table;

pub use table::Table;

/// Tables in memory. Clones share them, so that a test looks at what the caller that owns another clone has programmed.
#[derive(Clone, Debug, Default)]
pub struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<TableId, Table>,
    applied: Vec<Transaction>,
    fail_next: Option<Errno>,
}

impl Fake {
    /// A host without tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// All tables, in the form of `nft list ruleset`; elements ordered by their keys' bytes.
    pub fn dump(&self) -> String {
        self.state().tables.iter().map(|(id, table)| table.dump(id)).collect()
    }

    /// The transactions that were applied since the last call: what a change costs.
    pub fn take_applied(&self) -> Vec<Transaction> {
        std::mem::take(&mut self.state().applied)
    }

    /// Makes the next transaction fail as a whole with this error number.
    pub fn fail_next(&self, errno: Errno) {
        self.state().fail_next = Some(errno);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Netfilter for Fake {
    async fn apply(&mut self, transaction: &Transaction) -> Result<(), Error> {
        check(transaction)?;
        let mut state = self.state();
        if let Some(errno) = state.fail_next.take() {
            return Err(Error::refused(transaction, None, errno, None));
        }
        let mut table = state.tables.get(&transaction.table).cloned();
        for (index, op) in transaction.ops.iter().enumerate() {
            table::apply(&mut table, op).map_err(|errno| Error::refused(transaction, Some(index), errno, None))?;
        }
        match table {
            Some(table) => state.tables.insert(transaction.table.clone(), table),
            None => state.tables.remove(&transaction.table),
        };
        state.applied.push(transaction.clone());
        Ok(())
    }

    async fn table(&mut self, id: &TableId) -> Result<Option<TableState>, Error> {
        Ok(self.state().tables.get(id).map(|table| TableState {
            chains: table
                .chains
                .iter()
                .map(|(chain, rules)| ChainState { chain: chain.clone(), rules: rules.iter().map(|(handle, _)| *handle).collect() })
                .collect(),
            sets: table.sets.iter().map(|(set, _)| SetState::Known(set.clone())).collect(),
        }))
    }

    async fn elements(&mut self, id: &TableId, set: &str) -> Result<Vec<Element>, Error> {
        let state = self.state();
        let found = state.tables.get(id).and_then(|table| table.sets.iter().find(|(known, _)| *known.name == *set));
        match found {
            Some((_, elements)) => Ok(elements.values().cloned().collect()),
            None => Err(Error::NoSuchSet { table: id.clone(), set: set.into() }),
        }
    }
}

#[cfg(test)]
mod tests;
