//! A grace period on its way: it passes, and somebody may shorten it meanwhile.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What the worker tells acts that are under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// Nothing more is started, and long waits end.
    pub cancelled: bool,
    /// The grace period of the pod as it is from now on; it can only shrink.
    pub grace: Option<Duration>,
}

/// Until when something must have ended.
pub struct Limit {
    until: Instant,
    orders: watch::Receiver<Orders>,
}

impl Limit {
    /// Counts from now on.
    pub fn new(grace: Duration, mut orders: watch::Receiver<Orders>) -> Self {
        // What was ordered before is in `grace` already.
        orders.mark_unchanged();
        Self { until: Instant::now() + grace, orders }
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Ends when the time is over.
    pub async fn passed(&mut self) {
        loop {
            let until = self.until;
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.shortened() => {}
            }
        }
    }

    /// Ends when less time is left than before.
    pub async fn shortened(&mut self) {
        loop {
            if self.orders.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let grace = self.orders.borrow_and_update().grace;
            let until = grace.map_or(self.until, |grace| Instant::now() + grace);
            if until < self.until {
                self.until = until;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_shorter_grace_counts_from_when_it_is_given_and_a_longer_one_not_at_all() {
        let (orders, receiver) = watch::channel(Orders::default());
        let mut limit = Limit::new(30 * S, receiver);
        let start = Instant::now();
        tokio::join!(limit.passed(), async {
            tokio::time::sleep(10 * S).await;
            orders.send_replace(Orders { grace: Some(60 * S), ..Orders::default() });
            tokio::time::sleep(S).await;
            orders.send_replace(Orders { grace: Some(2 * S), ..Orders::default() });
        });
        assert_eq!(start.elapsed().as_secs(), 13);
        assert_eq!(limit.left(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_passes_although_nobody_gives_orders_any_more() {
        let (orders, receiver) = watch::channel(Orders::default());
        let mut limit = Limit::new(5 * S, receiver);
        drop(orders);
        let start = Instant::now();
        limit.passed().await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
