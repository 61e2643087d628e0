use super::*;

/// What a restart must not touch.
fn without_fixed_rules(transactions: &[Transaction]) -> Vec<Op> {
    let ops = transactions.iter().flat_map(|t| t.ops.clone());
    let fixed = |op: &Op| matches!(op, Op::AddTable { .. } | Op::AddChain(_) | Op::FlushChain(_) | Op::AddRule { .. } | Op::AddSet(_));
    ops.filter(|op| !fixed(op)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_restart_touches_no_element() {
    let fake = Fake::new();
    let running = web(&fake).await;
    // Places that a fresh build would not give.
    running.slice(WatchEvent::Applied(endpoint_slice("web", "10.0.0.2 10.0.0.3", "TCP 8080")));
    Running::settle().await;
    drop(running);
    let before = fake.dump();
    fake.take_applied();

    let running = Running::start(&fake);
    running.service(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80 30080")]));
    running.slice(WatchEvent::Snapshot(vec![endpoint_slice("web", "10.0.0.2 10.0.0.3", "TCP 8080")]));
    Running::settle().await;
    let applied = fake.take_applied();
    assert_eq!(applied.len(), 2, "one a family");
    assert_eq!(without_fixed_rules(&applied), []);
    assert_eq!(fake.dump(), before);
}

#[tokio::test(start_paused = true)]
async fn what_changed_meanwhile_is_brought_up_to_date() {
    let fake = Fake::new();
    drop(web(&fake).await);
    fake.take_applied();
    let running = Running::start(&fake);
    running.service(WatchEvent::Snapshot(vec![service("web", "10.96.0.1", "TCP 80 30080"), service("new", "10.96.0.2", "TCP 80")]));
    running.slice(WatchEvent::Snapshot(vec![endpoint_slice("web", "10.0.0.2", "TCP 8080")]));
    Running::settle().await;
    // Cluster IP and node port each: the verdict, the place that 10.0.0.2 takes, and later the place that went.
    // The new Service: its cluster IP and that it has no endpoints.
    assert_eq!(elements(&fake.take_applied()), (2 + 2 + 2, 2 + 2 + 2));
    let dump = fake.dump();
    assert!(!dump.contains("10.0.0.1 "), "{dump}");
    assert!(!dump.contains("0x00000001 :"), "{dump}");
}

#[tokio::test(start_paused = true)]
async fn a_table_of_another_shape_is_replaced_at_once() {
    for foreign in [true, false] {
        let mut fake = Fake::new();
        let mut tx = Transaction::new(TableId::new(Family::Ip, "kubelet-rs"));
        tx.add_table();
        if foreign {
            tx.add_set(crate::nft::Set::set("service-ips", [crate::nft::DataType::Ipv4]));
        } else {
            tx.add_chain(crate::nft::Chain::plain("nat-prerouting"));
        }
        fake.apply(&tx).await.unwrap();
        fake.take_applied();
        let _running = web(&fake).await;
        assert_eq!(fake.take_applied().len(), 2);
        assert!(fake.dump().contains("10.96.0.1 . tcp . 80 : goto ip-2"), "{}", fake.dump());
    }
}

#[tokio::test(start_paused = true)]
async fn strange_elements_are_removed() {
    let mut fake = Fake::new();
    let running = web(&fake).await;
    let want = fake.dump();
    drop(running);
    let mut tx = Transaction::new(TableId::new(Family::Ip, "kubelet-rs"));
    let key = |port| crate::nft::Concat::of(&[crate::nft::Value::Proto(99), crate::nft::Value::Port(port)]);
    tx.add_element(&"service-nodeports".into(), crate::nft::Element::verdict(key(1), crate::nft::Verdict::Drop));
    tx.add_element(&"no-endpoint-nodeports".into(), crate::nft::Element::verdict(key(2), crate::nft::Verdict::Drop));
    fake.apply(&tx).await.unwrap();
    assert_ne!(fake.dump(), want);
    let _running = web(&fake).await;
    assert_eq!(fake.dump(), want);
}
