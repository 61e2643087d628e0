use nix::errno::Errno;

use super::*;
use crate::api;

#[tokio::test(start_paused = true)]
async fn a_failed_transaction_is_followed_by_a_full_look() {
    let fake = Fake::new();
    let running = web(&fake).await;
    fake.take_applied();
    fake.fail_next(Errno::ENOMEM);
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.7", "TCP 8080")));
    sleep(Duration::from_millis(1)).await; // at once: nothing is known to be in the way
    let dump = fake.dump();
    assert!(dump.contains("10.0.0.7 . 8080") && !dump.contains("10.0.0.1 . 8080"), "{dump}");
}

#[tokio::test(start_paused = true)]
async fn a_flushed_table_does_not_stay_so_when_a_change_finds_out() {
    let mut fake = Fake::new();
    let running = web(&fake).await;
    let want = fake.dump();
    let mut tx = Transaction::new(TableId::new(Family::Ip, "kubelet-rs"));
    tx.delete_table();
    fake.apply(&tx).await.unwrap();
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.1 10.0.0.3", "TCP 8080")));
    Running::settle().await;
    assert_eq!(fake.dump(), want.replace("10.0.0.2 ", "10.0.0.3 "));
}

#[tokio::test(start_paused = true)]
async fn without_nftables_the_catalog_still_fills_and_the_host_is_asked_again() {
    let fake = Fake::new();
    let (tries, inner) = (Arc::new(Mutex::new(0)), fake.clone());
    let counter = tries.clone();
    let running = Running::start_with(move || {
        *counter.lock().unwrap() += 1;
        let works = *counter.lock().unwrap() > 2;
        std::future::ready(if works { Ok(inner.clone()) } else { Err(Error::NotSupported) })
    });
    running.service(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80")]));
    running.slice(WatchEvent::Snapshot(vec![]));
    sleep(Duration::from_secs(59)).await;
    assert_eq!((*tries.lock().unwrap(), running.catalog.services_in("d").len()), (1, 1));
    sleep(Duration::from_secs(62)).await;
    assert_eq!(*tries.lock().unwrap(), 3);
    assert!(fake.dump().contains("10.96.0.1"));
}

#[tokio::test(start_paused = true)]
async fn without_permission_to_watch_slices_nothing_is_programmed() {
    let fake = Fake::new();
    let running = Running::start(&fake);
    running.service(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80")]));
    let kind = ErrorKind::Forbidden("endpointslices is forbidden".into());
    let error = api::Error { action: "watch EndpointSlices".into(), kind };
    let command = "kubectl create clusterrolebinding kubelet-rs-node-proxier --clusterrole=system:node-proxier --group=system:nodes";
    assert!(without_slices(&error).contains(command), "{}", without_slices(&error));
    running.slice(WatchEvent::Failing(error));
    Running::settle().await;
    assert_eq!((fake.dump().as_str(), running.catalog.services_in("d").len()), ("", 1));
    running.slice(WatchEvent::Snapshot(vec![endpoint_slice("web", "10.0.0.1", "TCP 80")]));
    Running::settle().await;
    assert!(fake.dump().contains("10.96.0.1"));
}

#[tokio::test(start_paused = true)]
async fn a_family_that_fails_does_not_stop_the_other() {
    let fake = Fake::new();
    fake.fail_family(Some(Family::Ip6));
    let running = web(&fake).await;
    assert!(fake.dump().contains("10.0.0.2 . 8080") && !fake.dump().contains("table ip6"), "{}", fake.dump());
    fake.take_applied();
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.1 10.0.0.3", "TCP 8080")));
    sleep(Duration::from_millis(5)).await;
    assert_eq!(elements(&fake.take_applied()), (2, 2));
    fake.fail_family(None);
    sleep(Duration::from_secs(31)).await;
    assert!(fake.dump().contains("table ip6"));
    assert!(fake.take_applied().iter().all(|tx| tx.table.family == Family::Ip6), "the other one is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_read_is_made_anew() {
    let fake = Fake::new();
    let running = web(&fake).await;
    let want = fake.dump();
    drop(running);
    fake.garble(TableId::new(Family::Ip, "kubelet-rs"));
    fake.take_applied();
    let _running = web(&fake).await;
    assert_eq!(fake.dump(), want);
    let replaced = fake.take_applied().iter().filter(|tx| tx.ops.contains(&Op::DeleteTable)).count();
    assert_eq!(replaced, 1, "and the other one is kept");
}

#[tokio::test(start_paused = true)]
async fn changes_are_not_kept_while_nothing_can_be_programmed() {
    let mut tracker = Tracker::default();
    let (flows, _) = mpsc::unbounded_channel();
    let mut sync = Sync::new(|| std::future::ready(Err::<Fake, _>(Error::NotSupported)), vec![Family::Ip], Terms::default(), flows);
    let mut terms = watch::channel(Terms::default()).1;
    let events = [WatchEvent::Snapshot(vec![]), WatchEvent::Applied(service("web", "10.96.0.1", "TCP 80"))];
    let services = futures::stream::iter(events).boxed();
    follow(&mut tracker, &mut sync, &mut terms, services, futures::stream::iter([WatchEvent::Snapshot(vec![])]).boxed()).await;
    tracker.service_event(WatchEvent::Applied(service("web", "10.96.0.2", "TCP 80")));
    follow(
        &mut tracker,
        &mut sync,
        &mut terms,
        futures::stream::iter([WatchEvent::Snapshot(vec![])]).boxed(),
        futures::stream::empty().boxed(),
    )
    .await;
    assert!(tracker.take_changes().len() <= 1, "only those of the last event");
}
