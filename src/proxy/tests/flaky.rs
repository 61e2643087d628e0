//! Calls to the kernel that fail now and then, before or after they have taken effect.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use super::*;
use crate::nft::{Element, TableState};

/// One call in ten fails, the same ones each time.
#[derive(Clone)]
struct Flaky {
    inner: Fake,
    dice: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
}

impl Flaky {
    fn fails(&self) -> bool {
        // Knuth's MMIX.
        let next = |state: u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let state = self.dice.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap();
        let fails = (state >> 33).is_multiple_of(10);
        self.failures.fetch_add(u64::from(fails), Ordering::Relaxed);
        fails
    }

    /// The call was interrupted, as a dump is when somebody changes what is being read.
    fn interrupted(&self) -> Result<(), Error> {
        let source = std::io::Error::from(Errno::EINTR);
        if self.fails() { Err(Error::Socket { doing: "test", source }) } else { Ok(()) }
    }
}

impl Netfilter for Flaky {
    async fn apply(&mut self, transaction: &Transaction) -> Result<(), Error> {
        self.interrupted()?;
        self.inner.apply(transaction).await?;
        // It took place, but the answer is lost.
        if self.fails() { Err(Error::Timeout { doing: "test", seconds: 1 }) } else { Ok(()) }
    }

    async fn table(&mut self, table: &TableId) -> Result<Option<TableState>, Error> {
        self.interrupted()?;
        self.inner.table(table).await
    }

    async fn elements(&mut self, table: &TableId, set: &str) -> Result<Vec<Element>, Error> {
        self.interrupted()?;
        self.inner.elements(table, set).await
    }

    async fn unwatch(&mut self) -> Result<(), Error> {
        self.interrupted()?;
        Netfilter::unwatch(&mut self.inner).await
    }

    async fn watch(&mut self, tables: Vec<TableId>) -> Result<bool, Error> {
        self.interrupted()?;
        Netfilter::watch(&mut self.inner, tables).await
    }

    async fn disturbed(&mut self) -> Option<TableId> {
        Netfilter::disturbed(&mut self.inner).await
    }
}

/// What of a Service that nobody changes stands, in whichever place its endpoints are.
fn healthy(dump: &str) -> bool {
    let has = |text: &str| dump.contains(text);
    has("10.96.0.1 . tcp . 80 : goto ip-2")
        && has(": 10.0.0.1 . 8080")
        && has(": 10.0.0.2 . 8080")
        && !has("10.96.0.1 . tcp . 80 : goto reject")
}

#[tokio::test(start_paused = true)]
async fn what_fails_now_and_then_converges_and_no_healthy_service_is_dead_meanwhile() {
    let fake = Fake::new();
    let flaky = Flaky { inner: fake.clone(), dice: Arc::new(AtomicU64::new(5)), failures: Arc::default() };
    let failures = flaky.failures.clone();
    let proxy = Proxy::new(
        move || std::future::ready(Ok(flaky.clone())),
        FakeConntrack::default(),
        vec![Family::Ip, Family::Ip6],
        watch::channel(Terms::default()).1,
    );
    let ((services, from_services), (slices, from_slices)) = (unbounded(), unbounded());
    let task = tokio::spawn(proxy.run(from_services.boxed(), from_slices.boxed()));
    let endpoints = |n: usize| (0..n % 5).map(|last| format!("10.0.1.{} ", last + n % 7)).collect::<String>();
    let changing = |n: usize| {
        (
            service("other", "10.96.0.2", if n.is_multiple_of(3) { "TCP 80" } else { "TCP 80 30080" }),
            endpoint_slice("other", &endpoints(n), "TCP 8080"),
        )
    };
    let web = (service("web", "10.96.0.1", "TCP 80"), endpoint_slice("web", "10.0.0.1 10.0.0.2", "TCP 8080"));
    services.unbounded_send(WatchEvent::Snapshot(vec![web.0.clone()])).unwrap();
    slices.unbounded_send(WatchEvent::Snapshot(vec![web.1.clone()])).unwrap();
    sleep(Duration::from_secs(120)).await;
    assert!(healthy(&fake.dump()), "{}", fake.dump());
    for n in 0..300 {
        let (service, slice) = changing(n);
        services.unbounded_send(WatchEvent::Applied(service)).unwrap();
        slices.unbounded_send(WatchEvent::Applied(slice)).unwrap();
        for _ in 0..6 {
            sleep(Duration::from_millis(7)).await;
            assert!(healthy(&fake.dump()), "after change {n}: {}", fake.dump());
        }
        if n.is_multiple_of(50) {
            // Somebody flushes everything; it is put right, however often that takes.
            let mut tx = Transaction::new(TableId::new(Family::Ip, "kubelet-rs"));
            tx.delete_table();
            fake.change_as_another(&tx).unwrap();
            sleep(Duration::from_secs(120)).await;
            assert!(healthy(&fake.dump()), "after the flush at change {n}: {}", fake.dump());
        }
    }
    sleep(Duration::from_secs(120)).await;
    assert!(failures.load(Ordering::Relaxed) > 50, "{failures:?}");
    task.abort();
    let fresh = Fake::new();
    let running = Running::start(&fresh);
    let other = changing(299);
    running.service(WatchEvent::Snapshot(vec![web.0, other.0]));
    running.slice(WatchEvent::Snapshot(vec![web.1, other.1]));
    Running::settle().await;
    let lines = |dump: String| {
        // Who has which place depends on who was there before.
        let of = |line: &str| {
            line.split_once(" . 0x")
                .map_or(line.to_owned(), |(key, rest)| format!("{key} {}", rest.split_once(" : ").unwrap_or((rest, "")).1))
        };
        let mut lines: Vec<_> = dump.lines().map(|line| of(line.trim())).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(fake.dump()), lines(fresh.dump()));
}
