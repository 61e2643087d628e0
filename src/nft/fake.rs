//! Tables in memory that take transactions as the kernel does: for tests of callers.
//!
//! It checks what a caller can get wrong: names that lead nowhere, elements that stand with other data, removal of what is missing or in
//! use. It does not check which statements are possible at which hook; the kernel tests do that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tokio::sync::Notify;

use super::backend::{ChainState, Netfilter, SetState, TableState};
use super::check::check;
use super::error::Error;
use super::objects::{Element, Family, TableId};
use super::transaction::{Op, Transaction};

mod table;

pub use table::Table;

/// Tables in memory. Clones share them, so that a test looks at what the caller that owns another clone has programmed.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<TableId, Table>,
    applied: Vec<Transaction>,
    fail_next: Option<Errno>,
    fail_family: Option<Family>,
    garbled: Option<TableId>,
    watching: bool,
    /// Changes that others made since nobody watches.
    unseen: bool,
    /// What others changed and nobody was told yet.
    touched: Option<TableId>,
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

    /// Makes each transaction on this family's tables fail; `None` ends it.
    pub fn fail_family(&self, family: Option<Family>) {
        self.state().fail_family = family;
    }

    /// Elements of this table can't be read any more, until it is made anew.
    pub fn garble(&self, table: TableId) {
        self.state().garbled = Some(table);
    }

    /// Changes a table as another program would: whoever watches it is told.
    pub fn change_as_another(&self, transaction: &Transaction) -> Result<(), Error> {
        let mut state = self.state();
        state.change(transaction)?;
        if state.watching {
            state.touched = Some(transaction.table.clone());
            self.wake.notify_one();
        } else {
            state.unseen = true;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Netfilter for Fake {
    async fn apply(&mut self, transaction: &Transaction) -> Result<(), Error> {
        check(transaction)?;
        let mut state = self.state();
        if let Some(errno) = state.fail_next.take() {
            return Err(Error::refused(transaction, None, errno, None));
        }
        if state.fail_family == Some(transaction.table.family) {
            return Err(Error::refused(transaction, None, Errno::EOPNOTSUPP, None));
        }
        state.change(transaction)?;
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
        if state.garbled.as_ref() == Some(id) {
            return Err(Error::Malformed { doing: "read the elements of a set", what: "garbled for a test" });
        }
        let found = state.tables.get(id).and_then(|table| table.sets.iter().find(|(known, _)| *known.name == *set));
        match found {
            Some((_, elements)) => Ok(elements.values().cloned().collect()),
            None => Err(Error::NoSuchSet { table: id.clone(), set: set.into() }),
        }
    }

    async fn unwatch(&mut self) -> Result<(), Error> {
        let mut state = self.state();
        (state.watching, state.unseen, state.touched) = (false, false, None);
        Ok(())
    }

    async fn watch(&mut self, _tables: Vec<TableId>) -> Result<bool, Error> {
        let mut state = self.state();
        state.watching = true;
        Ok(std::mem::take(&mut state.unseen))
    }

    async fn disturbed(&mut self) -> Option<TableId> {
        loop {
            let touched = self.state().touched.take();
            if touched.is_some() {
                return touched;
            }
            self.wake.notified().await;
        }
    }
}

impl State {
    fn change(&mut self, transaction: &Transaction) -> Result<(), Error> {
        let mut table = self.tables.get(&transaction.table).cloned();
        for (index, op) in transaction.ops.iter().enumerate() {
            table::apply(&mut table, op).map_err(|errno| Error::refused(transaction, Some(index), errno, None))?;
            if matches!(op, Op::DeleteTable) && self.garbled.as_ref() == Some(&transaction.table) {
                self.garbled = None;
            }
        }
        match table {
            Some(table) => self.tables.insert(transaction.table.clone(), table),
            None => self.tables.remove(&transaction.table),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
