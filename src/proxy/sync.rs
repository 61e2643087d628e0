//! Carries plans out: opens the data plane, adopts what stands, applies the difference, and starts over when something went wrong.
//!
//! Each family is on its own: one that the kernel refuses doesn't stop the other.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::model::clock::Clock;
use crate::nft::Family;

use super::checks::{self, Checks};
use super::conntrack::UdpFlows;
use super::health::Health;
use super::metrics::Metrics;
use super::plan::Programmed;
use super::plane::{Adopted, DataPlane, Trouble};
use super::terms::Terms;
use super::tracker::{Tracker, Trigger};
use super::vigilance::Vigilance;

/// Changes within this time after a transaction share the next one.
const WINDOW: Duration = Duration::from_millis(2);
/// First and longest wait after a comparison with the kernel that failed. After a change that failed, the comparison comes at once.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Wait on a host that can't do it, or doesn't let us.
const RETRY_HOST: Duration = Duration::from_secs(60);

/// What is known about a family's table in the kernel.
#[derive(Debug)]
enum Plane {
    /// Nothing is known: it must be read before anything is changed. Next: `Standing`, or `Unknown` again after a failure.
    Unknown {
        /// When to try.
        at: Instant,
        /// How long to wait if it fails.
        delay: Duration,
    },
    /// It is as planned. Next: `Unknown` after a failure.
    Standing(Box<Programmed>),
}

/// One family.
#[derive(Debug)]
struct Lane {
    family: Family,
    plane: Plane,
    complaint: String,
}

impl Lane {
    fn is_due(&self, now: Instant) -> bool {
        matches!(self.plane, Plane::Unknown { at, .. } if at <= now)
    }

    /// After a comparison that failed. Returns what to say, if it is something new.
    fn failed(&mut self, error: &impl Trouble, now: Instant) -> Option<String> {
        let delay = match self.plane {
            Plane::Unknown { delay, .. } => delay,
            Plane::Standing(_) => RETRY.0,
        };
        let wait = if error.is_of_host() { RETRY_HOST } else { delay };
        self.plane = Plane::Unknown { at: now + wait, delay: (delay * 2).min(RETRY.1) };
        let text = error.to_string();
        let new = text != self.complaint;
        let line = new.then(|| complaint(&text, wait));
        self.complaint = text;
        line
    }
}

fn complaint(text: &str, wait: Duration) -> String {
    format!("Services can't be programmed, trying again every {wait:?} or less often; pods run all the same: {text}")
}

/// Owns the data plane and the knowledge of what is programmed. `O` opens the data plane.
pub struct Sync<D, O> {
    open: O,
    plane: Option<D>,
    lanes: Vec<Lane>,
    terms: Arc<Terms>,
    vigilance: Vigilance,
    /// When something was programmed last.
    last: Instant,
    flows: UnboundedSender<Vec<UdpFlows>>,
    told: Told,
    /// When the proxy began, since the epoch: what happened before waited for somebody else.
    began: Duration,
}

/// What others may know of it.
#[derive(Debug)]
pub struct Told {
    /// How up to date Services are.
    pub health: watch::Sender<Health>,
    /// What load balancers are told.
    pub checks: watch::Sender<Checks>,
    /// What is counted.
    pub metrics: watch::Sender<Metrics>,
}

impl Told {
    fn synced(&self, family: Family, full: bool, began: Instant) {
        let now = Instant::now();
        self.health.send_modify(|health| health.updated(family, now));
        self.metrics.send_modify(|metrics| {
            metrics.synced(family, full, now - began, epoch());
            metrics.pending = 0;
        });
    }
}

/// Time since the epoch.
fn wall() -> Duration {
    Duration::from_nanos(Clock::System.now().try_into().unwrap_or_default())
}

/// The same in seconds.
fn epoch() -> f64 {
    wall().as_secs_f64()
}

impl<D, O, F> Sync<D, O>
where
    D: DataPlane,
    O: FnMut() -> F,
    F: Future<Output = Result<D, D::Error>>,
{
    /// Nothing happens before [`Self::run`].
    pub fn new(open: O, families: Vec<Family>, terms: Terms, flows: UnboundedSender<Vec<UdpFlows>>) -> Self {
        let told = Told {
            health: watch::Sender::new(Health::new(families.iter().copied())),
            checks: watch::Sender::default(),
            metrics: watch::Sender::default(),
        };
        let now = Instant::now();
        let lane = |family| Lane { family, plane: Plane::Unknown { at: now, delay: RETRY.0 }, complaint: String::new() };
        let lanes = families.into_iter().map(lane).collect();
        Self { open, plane: None, lanes, terms: Arc::new(terms), vigilance: Vigilance::new(now), last: now, flows, told, began: wall() }
    }

    /// What others may know of it.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Changes wait to be programmed.
    pub fn queued(&self, tracker: &Tracker) {
        let now = Instant::now();
        if self.told.health.send_if_modified(|health| health.queued(now)) {
            let families = self.families();
            self.told.metrics.send_modify(|metrics| metrics.queued(&families, epoch()));
        }
        self.told.metrics.send_modify(|metrics| {
            (metrics.service_changes, metrics.endpoint_changes) = tracker.events();
            metrics.pending = tracker.pending();
        });
    }

    /// The families that are programmed.
    pub fn families(&self) -> Vec<Family> {
        self.lanes.iter().map(|lane| lane.family).collect()
    }

    /// Whether changes are of interest: while nothing stands, all is built anew anyway.
    pub fn stands(&self) -> bool {
        self.lanes.iter().any(|lane| matches!(lane.plane, Plane::Standing(_)))
    }

    /// When [`Self::run`] has something to do; `None`: not before the tracker has news.
    pub fn due(&self, tracker: &Tracker) -> Option<Instant> {
        if !tracker.ready() {
            return None;
        }
        let of_lane = |lane: &Lane| match &lane.plane {
            Plane::Unknown { at, .. } => Some(*at),
            Plane::Standing(_) if tracker.has_changes() => Some(self.last + WINDOW),
            Plane::Standing(programmed) => programmed.next_removal().map(|at| at.max(self.last + WINDOW)),
        };
        let look = self.stands().then(|| self.vigilance.due());
        self.lanes.iter().filter_map(of_lane).chain(look).min()
    }

    /// Returns when somebody else changed what is ours: see [`DataPlane::disturbed`]. What is told while an answer is due is not lost: that
    /// answer looks at everything.
    pub async fn disturbed(&mut self) -> Option<String> {
        let listen = self.stands() && !self.vigilance.pending();
        match &mut self.plane {
            Some(plane) if listen => plane.disturbed().await,
            _ => std::future::pending().await,
        }
    }

    /// Somebody else may have changed a table: everything will be compared. Changes of Services go on being programmed meanwhile.
    pub fn distrust(&mut self, what: Option<String>) {
        if self.vigilance.heard(Instant::now()) {
            match what {
                Some(what) => warn!("somebody changed {what}; putting it right"),
                None => debug!("what others did is not known; comparing everything"),
            }
        }
    }

    /// Other terms: everything is planned anew, and what differs is programmed at once.
    pub fn set_terms(&mut self, terms: Terms) {
        if *self.terms == terms {
            return;
        }
        self.terms = Arc::new(terms);
        let now = Instant::now();
        for lane in &mut self.lanes {
            if matches!(lane.plane, Plane::Standing(_)) {
                lane.plane = Plane::Unknown { at: now, delay: RETRY.0 };
            }
        }
    }

    /// Brings the tables up to date. A failure is logged; [`Self::due`] then says when to try again.
    pub async fn run(&mut self, tracker: &mut Tracker) {
        let now = Instant::now();
        let everything = self.vigilance.due() <= now || self.lanes.iter().all(|lane| lane.is_due(now));
        if everything {
            tracker.take_changes(); // all of it is in what is built now
            tracker.take_triggers();
            self.told.checks.send_replace(checks::all(tracker));
        } else {
            self.step(tracker, now).await;
        }
        self.adopt(tracker, everything, now).await;
        self.last = Instant::now();
    }

    /// Programs the changes where it is known what stands.
    async fn step(&mut self, tracker: &mut Tracker, now: Instant) {
        let Some(plane) = &mut self.plane else { return };
        let changes = tracker.take_changes();
        let triggers = tracker.take_triggers();
        self.told.checks.send_if_modified(|told| checks::update(told, &changes, tracker));
        let holes = checks::ports(&self.told.checks.borrow());
        for lane in &mut self.lanes {
            let Plane::Standing(programmed) = &mut lane.plane else { continue };
            let began = Instant::now();
            let plan = programmed.update(&changes, tracker, now);
            match plane.change(lane.family, &plan, programmed, &holes).await {
                Ok(()) => {
                    look_at(&self.flows, plan.flows);
                    self.told.synced(lane.family, false, began);
                    let since: Vec<_> = waits(&triggers, lane.family, self.began).collect();
                    self.told.metrics.send_modify(|metrics| {
                        since.into_iter().for_each(|since| metrics.programmed(lane.family, since));
                        metrics.without_local(lane.family, programmed.without_local());
                    });
                    plane.forget(lane.family, &plan.stays).await;
                }
                Err(error) => {
                    // The usual reason is that somebody changed the table: no complaint unless the comparison fails as well.
                    debug!("a change was refused, comparing everything: {error}");
                    lane.plane = Plane::Unknown { at: Instant::now(), delay: RETRY.0 };
                }
            }
        }
    }

    /// Opens the data plane if need be. Before everything is compared, others' changes needn't be heard.
    async fn prepare(&mut self, everything: bool) -> Result<(), D::Error> {
        if self.plane.is_none() {
            self.plane = Some((self.open)().await?);
        }
        match &mut self.plane {
            Some(plane) if everything => plane.unwatch().await,
            _ => Ok(()),
        }
    }

    /// Reads what stands and puts it right: everywhere, or where it is unknown and time to try.
    async fn adopt(&mut self, tracker: &Tracker, everything: bool, now: Instant) {
        if !everything && !self.lanes.iter().any(|lane| lane.is_due(now)) {
            return;
        }
        let families = self.families();
        let holes = checks::ports(&self.told.checks.borrow());
        let prepared = self.prepare(everything).await;
        let due = self.lanes.iter_mut().filter(|lane| everything || lane.is_due(now));
        let plane = match (prepared, &mut self.plane) {
            (Ok(()), Some(plane)) => plane,
            (Ok(()), None) => return,
            (Err(error), _) => {
                let lines: Vec<_> = due.filter_map(|lane| lane.failed(&error, Instant::now())).collect();
                lines.iter().take(1).for_each(|line| warn!("{line}"));
                return;
            }
        };
        for lane in due {
            let began = Instant::now();
            match plane.adopt(lane.family, tracker, self.terms.clone(), &holes).await {
                Ok(Adopted { programmed, flows, text }) => {
                    match lane.plane {
                        Plane::Unknown { .. } => info!("{text}"),
                        Plane::Standing(_) => debug!("{text}"),
                    }
                    self.told.metrics.send_modify(|metrics| metrics.without_local(lane.family, programmed.without_local()));
                    lane.plane = Plane::Standing(Box::new(programmed));
                    lane.complaint.clear();
                    self.told.synced(lane.family, true, began);
                    look_at(&self.flows, flows);
                }
                Err(error) => {
                    self.told.metrics.send_modify(|metrics| metrics.failed(lane.family));
                    lane.failed(&error, Instant::now()).iter().for_each(|line| warn!("{line}"));
                }
            }
        }
        if everything {
            self.vigilance.looked(Instant::now());
            match plane.watch(families).await {
                Ok(false) => {}
                Ok(true) => {
                    debug!("rules changed while everything was compared; comparing once more");
                    self.vigilance.heard(Instant::now());
                }
                Err(error) => warn!("others' changes of Services' tables will be noticed late: {error}"),
            }
        }
    }
}

/// How long ago what led to a change was, where that is of this family.
fn waits(triggers: &[Trigger], family: Family, began: Duration) -> impl Iterator<Item = Duration> {
    let now = wall();
    let ours = move |(at, of): &&Trigger| *at >= began && of.is_none_or(|of| of == family);
    triggers.iter().filter(ours).map(move |(at, _)| now.saturating_sub(*at))
}

fn look_at(to: &UnboundedSender<Vec<UdpFlows>>, flows: Vec<UdpFlows>) {
    if !flows.is_empty() {
        // The receiver lives as long as the proxy does.
        let _ = to.send(flows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Error;

    #[test]
    fn a_host_without_nftables_is_said_once_and_asked_once_a_minute() {
        let now = Instant::now();
        let mut lane = Lane { family: Family::Ip, plane: Plane::Unknown { at: now, delay: RETRY.0 }, complaint: String::new() };
        let line = lane.failed(&Error::NotSupported, now).unwrap();
        assert_eq!(
            line,
            "Services can't be programmed, trying again every 60s or less often; pods run all the same: this kernel has no nftables: \
             load the module (modprobe nf_tables), or use a kernel with CONFIG_NF_TABLES"
        );
        assert!(matches!(lane.plane, Plane::Unknown { at, .. } if at == now + RETRY_HOST));
        assert_eq!(lane.failed(&Error::NotSupported, now), None);
    }
}
