//! Services in nftables: one table for each family, one transaction for each change.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use crate::nft::{Error, Family, Netfilter, SetState, Transaction};

use super::adopt::{self, Observed, Table};
use super::affinity::{self, Stays};
use super::chain::ChainId;
use super::piece::SetId;
use super::plan::{Plan, Programmed};
use super::plane::{Adopted, DataPlane, Trouble};
use super::ruleset;
use super::terms::Terms;
use super::tracker::Tracker;

/// How often what was learned is read again, because some of it has ended by itself meanwhile and the kernel refuses to remove it twice.
const TRIES: u32 = 5;

impl Trouble for Error {
    fn is_of_host(&self) -> bool {
        matches!(self, Self::NotSupported | Self::NoPermission)
    }
}

impl<N: Netfilter> DataPlane for N {
    type Error = Error;

    async fn adopt(&mut self, family: Family, tracker: &Tracker, terms: Arc<Terms>, _: &[u16]) -> Result<Adopted, Error> {
        let start = Instant::now();
        let observed = observe(self, family).await?;
        let (mut programmed, plan) = Programmed::build(tracker, &adopt::standing(&observed), family, terms, start);
        let transaction = adopt::transaction(observed, &plan, &mut programmed);
        self.apply(&transaction).await?;
        self.forget(family, &plan.stays).await;
        let text =
            format!("Services are programmed in table {}: {} elements, in {:?}", transaction.table, plan.adds.len(), start.elapsed());
        Ok(Adopted { programmed, flows: plan.flows, text })
    }

    async fn change(&mut self, family: Family, plan: &Plan, programmed: &Programmed, _: &[u16]) -> Result<(), Error> {
        let transaction = plan.transaction(family, programmed.terms());
        if transaction.is_empty() { Ok(()) } else { self.apply(&transaction).await }
    }

    /// Where it fails, their connections fail until they have been quiet for a while.
    async fn forget(&mut self, family: Family, stays: &[Stays]) {
        if stays.is_empty() {
            return;
        }
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            outcome = forget(self, family, stays).await;
            if outcome.is_ok() {
                return;
            }
        }
        if let Err(error) = outcome {
            warn!(
                "clients of Services with session affinity may be sent to endpoints that are gone, until they have been quiet for a while: {error}"
            );
        }
    }

    async fn unwatch(&mut self) -> Result<(), Error> {
        Netfilter::unwatch(self).await
    }

    async fn watch(&mut self, families: Vec<Family>) -> Result<bool, Error> {
        Netfilter::watch(self, families.into_iter().map(ruleset::table).collect()).await
    }

    async fn disturbed(&mut self) -> Option<String> {
        Netfilter::disturbed(self).await.map(|table| format!("table {table}"))
    }
}

async fn forget(netfilter: &mut impl Netfilter, family: Family, stays: &[Stays]) -> Result<(), Error> {
    let (table, set) = (ruleset::table(family), SetId::Affinity.name());
    let learned = netfilter.elements(&table, set).await?;
    let mut transaction = Transaction::new(table);
    affinity::strays(learned, family, stays).into_iter().for_each(|element| transaction.delete_element(&set.into(), element));
    if transaction.is_empty() { Ok(()) } else { netfilter.apply(&transaction).await }
}

async fn observe(netfilter: &mut impl Netfilter, family: Family) -> Result<Observed, Error> {
    let id = ruleset::table(family);
    let state = netfilter.table(&id).await?.unwrap_or_default();
    let replace = Observed { family, table: Table::Replace, elements: HashMap::new(), chains: Vec::new() };
    if Table::judge(family, &state) == Table::Replace {
        return Ok(replace);
    }
    let mut elements = HashMap::new();
    for set in SetId::ALL.into_iter().filter(|set| set.is_programmed()) {
        let exists = state.sets.iter().any(|s| matches!(s, SetState::Known(known) if &*known.name == set.name()));
        if exists {
            match netfilter.elements(&id, set.name()).await {
                Ok(found) => elements.insert(set, found),
                Err(error @ Error::Malformed { .. }) => {
                    warn!("table {id}, map {}: {error}; making the table anew", set.name());
                    return Ok(replace);
                }
                Err(error) => return Err(error),
            };
        }
    }
    let chains = state.chains.iter().filter_map(|state| ChainId::parse(&state.chain.name)).collect();
    Ok(Observed { family, table: Table::Fits, elements, chains })
}
