//! One pod's worker: a task that looks, plans, acts, and looks again. It owns all state about its pod.
//!
//! It never gives up: a failed act is remembered, waits and is tried again. Only a pod of which nothing is left ends it.

mod state;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use self::state::Worker;
use super::act::{self, Orders};
use super::context::Context;
use super::mailbox::Mailbox;
use super::plan::{Action, plan};
use super::stage::{Event, Stage};
use crate::model::PodRef;
use crate::model::clock::until;
use crate::runtime::ObservedPod;

/// How long acts of a pod that shall go down may still take before they are dropped: usually they are short, and an act that
/// ends by itself leaves no half-made thing behind.
const WIND_UP: Duration = Duration::from_secs(10);

/// Runs until nothing is left of the pod.
pub async fn run(ctx: Arc<Context>, name: PodRef, observed: ObservedPod, mailbox: Arc<Mailbox>) {
    let mut worker = Worker::new(ctx, name, observed, Arc::clone(&mailbox));
    loop {
        worker.receive(mailbox.take());
        worker.look_if_needed().await;
        worker.advance();
        worker.publish();
        if worker.stage == Stage::Finished {
            worker.farewell();
            return;
        }
        let plan = worker.view().map(|v| plan(&v)).unwrap_or_default();
        if plan.actions.is_empty() && worker.look_later {
            (worker.look, worker.look_later) = (true, false);
        } else if plan.actions.is_empty() {
            let wake = plan.wake_at.map(|at| Instant::now() + until(worker.ctx.clock.now(), at));
            rest(&mailbox, [wake, worker.wakes_at()].into_iter().flatten().min()).await;
        } else {
            worker.note(&plan.actions);
            // Boxed, so that the many workers that rest don't carry the room for an act.
            Box::pin(carry_out(&mut worker, plan.actions, &mailbox)).await;
        }
    }
}

/// Waits for letters or for the time.
async fn rest(mailbox: &Mailbox, wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::select! {
            () = mailbox.wait() => {}
            () = sleep_until(at) => {}
        },
        None => mailbox.wait().await,
    }
}

/// Runs the actions of one plan, and meanwhile listens: a pod that shall go down ends what can be ended.
async fn carry_out(worker: &mut Worker, actions: Vec<Action>, mailbox: &Mailbox) {
    let (reports, mut inbox) = mpsc::unbounded_channel();
    let (orders, heard) = watch::channel(Orders::default());
    let mut acts = Box::pin(act::carry_out(worker.job(), actions, reports, heard));
    let mut wind_up: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            Some(report) = inbox.recv() => {
                worker.apply(report);
                worker.publish();
            }
            () = &mut acts => break,
            () = mailbox.wait() => {
                let before = worker.stage;
                let mut letters = mailbox.take();
                // Most likely the runtime speaks of what these acts do. The next plan need not wait for a look: when it is wrong, its
                // acts fail, and that asks for a look at once.
                worker.look_later |= std::mem::take(&mut letters.look);
                worker.receive(letters);
                worker.decide_to_terminate();
                worker.publish();
                match (before, worker.stage) {
                    (Stage::Syncing, Stage::Terminating { .. }) => {
                        orders.send_modify(|orders| orders.cancelled = true);
                        wind_up = Some(Instant::now() + WIND_UP);
                    }
                    (Stage::Terminating { grace: old, .. }, Stage::Terminating { grace: new, .. }) if new < old => {
                        orders.send_modify(|orders| orders.grace = Some(new));
                    }
                    _ => {}
                }
            }
            () = async { sleep_until(wind_up.unwrap_or_else(Instant::now)).await }, if wind_up.is_some() => {
                worker.look = true;
                break;
            }
        }
    }
    drop(acts);
    // One by one, as above: what a status says of one step is what the next one goes on from.
    while let Ok(report) = inbox.try_recv() {
        worker.apply(report);
        worker.publish();
    }
}

impl Worker {
    /// Remembers what the next plan must know of this one.
    fn note(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::StopContainer { id, why, .. } = action
                && let Some(replaced) = why.is_replaced()
            {
                self.memory.decided.insert(id.clone(), replaced);
            }
        }
    }

    /// Moves the stage on as far as what is seen allows. Only between acts: while one runs, what is seen is not the whole truth.
    fn advance(&mut self) {
        self.decide_to_terminate();
        if !self.sees() {
            return;
        }
        let down = self.view().is_some_and(|v| super::plan::is_down(&v));
        if down {
            self.stage = self.stage.step(Event::Stopped);
        }
        if self.observed.sandboxes.is_empty() && self.observed.containers.is_empty() {
            self.stage = self.stage.step(Event::Removed);
        }
        self.finish_object();
    }
}
