//! Carries plans out: opens nftables, adopts what stands, applies the difference, and starts over when something went wrong.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::nft::{Error, Family, Netfilter};

use super::adopt::{self, Observed, Table};
use super::conntrack::UdpFlows;
use super::piece::SetId;
use super::plan::{Plan, Programmed};
use super::ruleset;
use super::tracker::Tracker;

/// Changes within this time after a transaction share the next one.
const WINDOW: Duration = Duration::from_millis(2);
/// When leftovers are removed if no change comes: any packet that was on its way is through by then.
const LEFTOVERS: Duration = Duration::from_millis(100);
/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Wait on a host that has no nftables, or doesn't let us use it.
const RETRY_HOST: Duration = Duration::from_secs(60);

/// What is known about the kernel's tables.
#[derive(Debug)]
enum Plane {
    /// Nothing is known: they must be read before anything is changed. Next: `Standing`, or `Unknown` again after a failure.
    Unknown {
        /// When to try.
        at: Instant,
        /// How long to wait if it fails.
        delay: Duration,
    },
    /// They are as planned. Next: `Unknown` after a failure.
    Standing(Box<Programmed>),
}

/// Owns nftables and the knowledge of what is programmed. `O` opens nftables.
pub struct Sync<N, O> {
    open: O,
    netfilter: Option<N>,
    families: Vec<Family>,
    plane: Plane,
    last: Instant,
    complaint: String,
    flows: UnboundedSender<Vec<UdpFlows>>,
}

impl<N, O, F> Sync<N, O>
where
    N: Netfilter,
    O: FnMut() -> F,
    F: Future<Output = Result<N, Error>>,
{
    /// Nothing happens before [`Self::run`].
    pub fn new(open: O, families: Vec<Family>, flows: UnboundedSender<Vec<UdpFlows>>) -> Self {
        let now = Instant::now();
        let plane = Plane::Unknown { at: now, delay: RETRY.0 };
        Self { open, netfilter: None, families, plane, last: now, complaint: String::new(), flows }
    }

    /// The families that are programmed.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// When [`Self::run`] has something to do; `None`: not before the tracker has news.
    pub fn due(&self, tracker: &Tracker) -> Option<Instant> {
        if !tracker.ready() {
            return None;
        }
        match &self.plane {
            Plane::Unknown { at, .. } => Some(*at),
            Plane::Standing(_) if tracker.has_changes() => Some(self.last + WINDOW),
            Plane::Standing(programmed) => programmed.has_leftovers().then(|| self.last + LEFTOVERS),
        }
    }

    /// Brings the tables up to date. A failure is logged; [`Self::due`] then says when to try again.
    pub async fn run(&mut self, tracker: &mut Tracker) {
        let delay = match &self.plane {
            Plane::Unknown { delay, .. } => *delay,
            Plane::Standing(_) => RETRY.0,
        };
        let result = match std::mem::replace(&mut self.plane, Plane::Unknown { at: self.last, delay }) {
            Plane::Standing(programmed) => self.step(programmed, tracker).await,
            Plane::Unknown { .. } => self.adopt(tracker).await,
        };
        self.last = Instant::now();
        match result {
            Ok(programmed) => {
                self.plane = Plane::Standing(programmed);
                self.complaint.clear();
            }
            Err(error) => {
                let wait = match error {
                    Error::NotSupported | Error::NoPermission => RETRY_HOST,
                    _ => delay,
                };
                self.plane = Plane::Unknown { at: self.last + wait, delay: (delay * 2).min(RETRY.1) };
                self.complain(&error, wait);
            }
        }
    }

    /// Says the same thing once.
    fn complain(&mut self, error: &Error, wait: Duration) {
        let text = error.to_string();
        if text != self.complaint {
            warn!("Services can't be programmed, trying again every {wait:?} or less often; pods run all the same: {text}");
            self.complaint = text;
        }
    }

    async fn step(&mut self, mut programmed: Box<Programmed>, tracker: &mut Tracker) -> Result<Box<Programmed>, Error> {
        let plan = programmed.update(tracker.take_changes(), tracker);
        let Some(netfilter) = &mut self.netfilter else { return self.adopt(tracker).await };
        for family in &self.families {
            let transaction = plan.transaction(*family);
            if !transaction.is_empty() {
                netfilter.apply(&transaction).await?;
            }
        }
        self.look_at(plan);
        Ok(programmed)
    }

    async fn adopt(&mut self, tracker: &mut Tracker) -> Result<Box<Programmed>, Error> {
        let start = Instant::now();
        let netfilter = match &mut self.netfilter {
            Some(netfilter) => netfilter,
            None => self.netfilter.insert((self.open)().await?),
        };
        let mut tables = Vec::with_capacity(self.families.len());
        for family in &self.families {
            tables.push(observe(netfilter, *family).await?);
        }
        tracker.take_changes(); // all of it is in what is built now
        let (mut programmed, plan) = Programmed::build(tracker, &adopt::standing(&tables));
        for observed in tables {
            let transaction = adopt::transaction(observed, &plan, &mut programmed);
            netfilter.apply(&transaction).await?;
        }
        info!("Services are programmed: {} elements, in {:?}", plan.adds.len(), start.elapsed());
        self.look_at(plan);
        Ok(Box::new(programmed))
    }

    fn look_at(&self, plan: Plan) {
        if !plan.flows.is_empty() {
            // The receiver lives as long as the proxy does.
            let _ = self.flows.send(plan.flows);
        }
    }
}

async fn observe(netfilter: &mut impl Netfilter, family: Family) -> Result<Observed, Error> {
    let id = ruleset::table(family);
    let state = netfilter.table(&id).await?.unwrap_or_default();
    let table = Table::judge(family, &state);
    let mut elements = HashMap::new();
    if table == Table::Fits {
        for set in SetId::ALL {
            let exists = state.sets.iter().any(|s| matches!(s, crate::nft::SetState::Known(known) if &*known.name == set.name()));
            if exists {
                elements.insert(set, netfilter.elements(&id, set.name()).await?);
            }
        }
    }
    Ok(Observed { family, table, elements })
}
