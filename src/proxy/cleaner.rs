//! Deletes stale UDP flows beside the programming of Services, which never waits for it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::conntrack::{Conntrack, UdpFlows};
use super::frontend::Frontend;
use super::metrics::Metrics;
use crate::nft::Family;

/// The conntrack table may have hundreds of thousands of entries: reading it is worth collecting requests for this long.
const PAUSE: Duration = Duration::from_millis(100);
/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Frontends to look at, with the newest picture of their endpoints.
type Wanted = HashMap<Frontend, UdpFlows>;

/// Takes requests and carries them out together.
#[derive(Debug)]
pub struct Cleaner<C> {
    conntrack: C,
    requests: UnboundedReceiver<Vec<UdpFlows>>,
    metrics: watch::Sender<Metrics>,
}

impl<C: Conntrack> Cleaner<C> {
    /// Nothing happens before [`Self::run`].
    pub fn new(conntrack: C, requests: UnboundedReceiver<Vec<UdpFlows>>, metrics: watch::Sender<Metrics>) -> Self {
        Self { conntrack, requests, metrics }
    }

    /// Runs until nobody can send requests any more.
    pub async fn run(&mut self) {
        let mut wanted = Wanted::new();
        let (mut wait, mut complaint) = (RETRY.0, String::new());
        while let Some(news) = self.requests.recv().await {
            news.into_iter().for_each(|flows| note(&mut wanted, flows));
            while !wanted.is_empty() {
                let pause = match self.clean(&mut wanted).await {
                    Ok(count) => {
                        debug!("deleted {count} stale UDP flows");
                        complaint.clear();
                        wait = RETRY.0;
                        PAUSE
                    }
                    Err(error) => {
                        if error != complaint {
                            warn!("stale UDP flows of changed Services could not be deleted, trying again: {error}");
                            complaint = error;
                        }
                        let pause = wait;
                        wait = (wait * 2).min(RETRY.1);
                        pause
                    }
                };
                self.collect(&mut wanted, pause).await;
            }
        }
    }

    /// Collects requests for that long.
    async fn collect(&mut self, wanted: &mut Wanted, pause: Duration) {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => return,
                Some(news) = self.requests.recv() => news.into_iter().for_each(|flows| note(wanted, flows)),
            }
        }
    }

    /// Finds and deletes stale flows. What was found is judged by the newest picture: while the connections were read, a frontend may have
    /// got the very endpoint that a flow goes to. After a failure all is wanted still.
    async fn clean(&mut self, wanted: &mut Wanted) -> Result<usize, String> {
        let began = Instant::now();
        let mut asked = std::mem::take(wanted);
        let mut deleted: BTreeMap<Family, u64> = asked.keys().map(|frontend| (frontend.family(), 0)).collect();
        let found = self.conntrack.find(asked.values().cloned().collect()).await;
        while let Ok(news) = self.requests.try_recv() {
            for flows in news {
                if let Some(picture) = asked.get_mut(&flows.frontend) {
                    picture.backends = flows.backends.clone();
                }
                note(wanted, flows);
            }
        }
        let outcome = match found {
            Ok(mut stale) => {
                stale.retain(|flow| asked.get(&flow.frontend).is_some_and(|picture| !picture.allows(flow.answers)));
                let count = stale.len();
                stale.iter().for_each(|flow| *deleted.entry(flow.frontend.family()).or_default() += 1);
                if stale.is_empty() { Ok(0) } else { self.conntrack.delete(stale).await.map(|()| count) }
            }
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            self.metrics.send_modify(|metrics| metrics.cleaned(began.elapsed(), &deleted));
        } else {
            asked.retain(|_, picture| !picture.backends.is_empty());
            for (frontend, picture) in asked {
                wanted.entry(frontend).or_insert(picture);
            }
        }
        outcome
    }
}

/// Remembers what to look at, and the newest picture of what is looked at anyway.
fn note(wanted: &mut Wanted, flows: UdpFlows) {
    if flows.backends.is_empty() {
        wanted.remove(&flows.frontend);
    } else if flows.look {
        wanted.insert(flows.frontend, flows);
    } else if let Some(picture) = wanted.get_mut(&flows.frontend) {
        picture.backends = flows.backends;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;
    use crate::model::service::Protocol;
    use crate::nft::Family;
    use crate::proxy::conntrack::Stale;
    use crate::proxy::frontend::Backend;

    const DNS: Frontend = Frontend::NodePort { family: Family::Ip, protocol: Protocol::Udp, port: 30053 };

    fn backend(last: u8) -> Backend {
        Backend { ip: [10, 0, 0, last].into(), port: 53, local: false }
    }

    fn flows(look: bool, to: &[u8]) -> Vec<UdpFlows> {
        vec![UdpFlows { frontend: DNS, backends: to.iter().map(|last| backend(*last)).collect(), look }]
    }

    /// Finds flows to endpoints 1 to 3, whatever it is asked; changes arrive while it does.
    #[derive(Default)]
    struct Script {
        meanwhile: Option<(UnboundedSender<Vec<UdpFlows>>, Vec<UdpFlows>)>,
        outcomes: VecDeque<Result<(), String>>,
        deleted: Arc<Mutex<Vec<u8>>>,
        tries: Arc<Mutex<Vec<Instant>>>,
    }

    impl Conntrack for Script {
        async fn find(&mut self, _: Vec<UdpFlows>) -> Result<Vec<Stale>, String> {
            self.tries.lock().unwrap().push(Instant::now());
            if let Some((sender, news)) = self.meanwhile.take() {
                sender.send(news).unwrap();
            }
            let stale = |last| Stale { frontend: DNS, answers: backend(last).address(), name: vec![last] };
            Ok((1..4).map(stale).collect())
        }

        async fn delete(&mut self, stale: Vec<Stale>) -> Result<(), String> {
            let outcome = self.outcomes.pop_front().unwrap_or(Ok(()));
            if outcome.is_ok() {
                self.deleted.lock().unwrap().extend(stale.iter().flat_map(|flow| &flow.name));
            }
            outcome
        }
    }

    async fn deleted(first: Vec<UdpFlows>, meanwhile: Vec<UdpFlows>) -> Vec<u8> {
        let (sender, requests) = unbounded_channel();
        let script = Script { meanwhile: Some((sender.clone(), meanwhile)), ..Script::default() };
        let deleted = script.deleted.clone();
        sender.send(first).unwrap();
        drop(sender);
        // What nobody asks for never ends: the script keeps its own sender.
        let _ = tokio::time::timeout(Duration::from_secs(600), Cleaner::new(script, requests, watch::Sender::default()).run()).await;
        deleted.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_picture_decides() {
        assert_eq!(deleted(flows(true, &[1]), vec![]).await, [2, 3]);
        assert_eq!(deleted(flows(true, &[1]), flows(false, &[1, 2])).await, [3], "2 came while connections were read");
        assert_eq!(deleted(flows(true, &[1]), flows(false, &[])).await, [] as [u8; 0], "nobody is left");
        assert_eq!(deleted(flows(false, &[1]), vec![]).await, [] as [u8; 0], "nobody was lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_less_and_less_often() {
        let (sender, requests) = unbounded_channel();
        let outcomes = [Err("no".to_string()), Err("no".to_string()), Ok(())].into();
        let script = Script { outcomes, ..Script::default() };
        let (deleted, tries) = (script.deleted.clone(), script.tries.clone());
        sender.send(flows(true, &[1])).unwrap();
        drop(sender);
        let metrics = watch::Sender::default();
        Cleaner::new(script, requests, metrics.clone()).run().await;
        let text = metrics.borrow().text(false);
        assert!(text.contains("kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 2"), "{text}");
        assert_eq!(*deleted.lock().unwrap(), [2, 3]);
        let tries = tries.lock().unwrap().clone();
        let waits: Vec<_> = tries.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(waits, [1, 2]);
    }
}
