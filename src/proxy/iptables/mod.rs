//! Services in iptables, for hosts that need it (`mode: iptables`).
//!
//! One run of `iptables-restore` for each change and family, whose text follows the change: the chains of the frontends that changed, and
//! the short lists in which they are found ([`tree`]). After a start, and whenever it isn't known what stands, one run writes everything.
//! Semantics are those of nftables mode, but where upstream's two modes differ, this one is like upstream's iptables mode: node ports on
//! localhost, packets through the host are accepted, other ports of cluster IPs are left alone.

mod frontend;
mod hint;
mod skeleton;
#[cfg(test)]
mod tests;
mod tree;
mod words;
mod written;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::iptables::{Error, Iptables, Restore, Table};
use crate::nft::Family;

use super::affinity::Stays;
use super::plan::{Plan, Programmed, Standing};
use super::plane::{Adopted, DataPlane, Trouble};
use super::terms::Terms;
use super::tracker::Tracker;

pub use hint::keep as keep_hint;
use skeleton::CANARY;
pub use skeleton::{Options, PREFIX, removal};
use written::{Hairpins, Written};

/// How often somebody's removal of everything is looked for (upstream: `iptables.syncPeriod`).
const LOOK: Duration = Duration::from_secs(30);

impl Trouble for Error {
    fn is_of_host(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// Services as rules.
pub struct Rules<I> {
    iptables: I,
    options: Options,
    written: HashMap<Family, Written>,
    /// Whose canaries are watched, and when to look.
    watched: Vec<Family>,
    look: Instant,
}

impl<I: Iptables> Rules<I> {
    /// Nothing is read or written yet.
    pub fn new(iptables: I, options: Options) -> Self {
        Self { iptables, options, written: HashMap::new(), watched: Vec::new(), look: Instant::now() }
    }

    /// Everything anew. Packets see the old rules of a table or the new ones. Returns how many rules there are.
    async fn write_all(&mut self, family: Family, hairpins: Hairpins, programmed: &Programmed, holes: &[u16]) -> Result<usize, Error> {
        let saved = self.iptables.saved(family, PREFIX).await?;
        let mut restore = Restore::default();
        skeleton::add(&mut restore, &saved, programmed.terms(), self.options);
        let written = Written::everything(&mut restore, &saved, hairpins, programmed, self.options, holes);
        let count = restore.rules(Table::Nat) + restore.rules(Table::Filter);
        self.iptables.restore(family, &restore).await?;
        self.written.insert(family, written);
        Ok(count)
    }
}

impl<I: Iptables> DataPlane for Rules<I> {
    type Error = Error;

    async fn adopt(&mut self, family: Family, tracker: &Tracker, terms: Arc<Terms>, holes: &[u16]) -> Result<Adopted, Error> {
        let start = Instant::now();
        let (programmed, plan) = Programmed::build(tracker, &Standing::new(), family, terms, start);
        let mut hairpins = Hairpins::default();
        hairpins.count(&plan);
        let count = self.write_all(family, hairpins, &programmed, holes).await?;
        let text = format!("Services are programmed in iptables for {family}: {count} rules, in {:?}", start.elapsed());
        Ok(Adopted { programmed, flows: plan.flows, text })
    }

    async fn change(&mut self, family: Family, plan: &Plan, programmed: &Programmed, holes: &[u16]) -> Result<(), Error> {
        // Taken out: after a failure it isn't known what stands, and the caller will have everything written.
        let Some(mut written) = self.written.remove(&family) else {
            return Err(Error::Failed { doing: "change rules".into(), reason: "it is not known what stands".into() });
        };
        let mut restore = Restore::default();
        written.change(&mut restore, plan, programmed, self.options, holes);
        if written.misfits() {
            debug!("there are many more or fewer Services than the lists of rules were made for; writing everything anew");
            return self.write_all(family, written.into_hairpins(), programmed, holes).await.map(drop);
        }
        if !restore.is_empty() {
            self.iptables.restore(family, &restore).await?;
        }
        self.written.insert(family, written);
        Ok(())
    }

    /// The kernel forgets by itself: lists of clients belong to rules of endpoints.
    async fn forget(&mut self, _: Family, _: &[Stays]) {}

    async fn unwatch(&mut self) -> Result<(), Error> {
        self.watched.clear();
        Ok(())
    }

    async fn watch(&mut self, families: Vec<Family>) -> Result<bool, Error> {
        self.watched = families;
        self.look = Instant::now() + LOOK;
        Ok(false)
    }

    async fn disturbed(&mut self) -> Option<String> {
        loop {
            if self.watched.is_empty() {
                pending::<()>().await;
            }
            sleep_until(self.look).await;
            for family in self.watched.clone() {
                for table in Table::ALL {
                    match self.iptables.has_chain(family, table, CANARY).await {
                        Ok(true) => {}
                        Ok(false) => {
                            self.look = Instant::now() + LOOK;
                            return Some(format!("iptables for {family}, table {table}"));
                        }
                        Err(error) => debug!("can't tell whether rules stand: {error}"),
                    }
                }
            }
            self.look = Instant::now() + LOOK;
        }
    }
}
