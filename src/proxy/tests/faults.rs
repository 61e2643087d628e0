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
    sleep(Duration::from_millis(50)).await;
    assert!(fake.take_applied().is_empty());
    sleep(Duration::from_millis(300)).await;
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
