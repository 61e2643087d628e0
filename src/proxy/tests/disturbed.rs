use super::*;

fn flush(family: Family) -> Transaction {
    let mut tx = Transaction::new(TableId::new(family, "kubelet-rs"));
    for set in ["service-ips", "endpoints"] {
        tx.flush_set(set);
    }
    tx.flush_chain("services");
    tx
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_does_is_put_right_at_once() {
    let fake = Fake::new();
    let _running = web(&fake).await;
    let want = fake.dump();
    fake.take_applied();
    for family in [Family::Ip, Family::Ip6] {
        fake.change_as_another(&flush(family)).unwrap();
        assert_ne!(fake.dump(), want);
        sleep(Duration::from_millis(150)).await;
        assert_eq!(fake.dump(), want, "{family}");
    }
    fake.take_applied();
    sleep(Duration::from_secs(3000)).await;
    assert!(fake.take_applied().is_empty(), "then it is calm");
}

#[tokio::test(start_paused = true)]
async fn services_go_on_changing_while_somebody_disturbs() {
    let fake = Fake::new();
    let running = web(&fake).await;
    for _ in 0..100 {
        // Does no harm, but tells that something was changed.
        let mut tx = Transaction::new(TableId::new(Family::Ip, "kubelet-rs"));
        tx.flush_chain("reject-chain");
        fake.change_as_another(&tx).unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    fake.take_applied();
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.1 10.0.0.3", "TCP 8080")));
    sleep(Duration::from_millis(5)).await;
    assert_eq!(elements(&fake.take_applied()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn two_that_fight_do_so_less_and_less_often() {
    let fake = Fake::new();
    let _running = web(&fake).await;
    fake.take_applied();
    let mut rounds = 0;
    for _ in 0..6000 {
        sleep(Duration::from_millis(100)).await;
        if !fake.take_applied().is_empty() {
            rounds += 1;
            fake.change_as_another(&flush(Family::Ip)).unwrap();
        } else if rounds == 0 {
            rounds = 1;
            fake.change_as_another(&flush(Family::Ip)).unwrap();
        }
    }
    assert!((20..40).contains(&rounds), "{rounds} in ten minutes");
}
