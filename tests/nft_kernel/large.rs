//! A large table: one transaction of several megabytes, then small ones. What they took is printed with `--nocapture`; times are compared
//! in benchmarks and not here.

use kubelet_rs::nft::value::TCP;
use kubelet_rs::nft::{Data, Element, Family, Name, Netfilter, Op, Transaction};
use tokio::time::Instant;

use crate::host::in_namespace;
use crate::rulesets::{add_service, backend, backend_key, layout, table, target, vip};

#[test]
fn ten_thousand_services() {
    for family in [Family::Ip, Family::Ip6] {
        in_namespace(async move |mut kernel| {
            let mut tx = layout(family, 2);
            let backends = [(backend(family, 1), 8080), (backend(family, 2), 8080)];
            let begin = Instant::now();
            // Map by map, so that the elements of each are neighbours and share messages.
            for map in ["ep2", "service-ips", "cluster-ips"] {
                for n in 0..10_000 {
                    let mut one = Transaction::new(table(family));
                    add_service(&mut one, vip(family, n), 80, &backends);
                    for op in one.ops {
                        if let Op::AddElements { set, elements } = op
                            && &*set == map
                        {
                            elements.into_iter().for_each(|element| tx.add_element(&set, element));
                        }
                    }
                }
            }
            let built = begin.elapsed();
            let begin = Instant::now();
            kernel.apply(&tx).await.unwrap();
            let applied = begin.elapsed();

            let ep2: Name = "ep2".into();
            let mut times = Vec::new();
            for n in 0..200 {
                let key = backend_key(vip(family, n), TCP, 80, 1);
                let mut tx = Transaction::new(table(family));
                tx.delete_element(&ep2, Element::key(key.clone()));
                tx.add_element(&ep2, Element::value(key, target(backend(family, 9), 8080)));
                let begin = Instant::now();
                kernel.apply(&tx).await.unwrap();
                times.push(begin.elapsed());
            }
            times.sort();
            let begin = Instant::now();
            let standing = kernel.elements(&table(family), "ep2").await.unwrap();
            let read = begin.elapsed();
            assert_eq!(standing.len(), 20_000);
            println!(
                "{family}: 40,000 elements: built in {built:?}, applied in {applied:?}; one endpoint: median {:?}, most {:?}; 20,000 read in {read:?}",
                times[100], times[199]
            );
            let changed = Data::Value(target(backend(family, 9), 8080));
            assert_eq!(standing.iter().filter(|element| element.data == changed).count(), 200);
        });
    }
}
