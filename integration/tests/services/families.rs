//! IPv6, alone and beside IPv4.

use integration::objects::service;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use crate::{Asker, LAB, answered_by, cluster_ips, node_port, pair};

#[test]
fn both_families_are_served() {
    LAB.run("families", async |lab, ns| {
        pair(&ns).await?;
        let spec = json!({ "type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "ports": [
            { "name": "web", "port": 80, "targetPort": 8080 },
            { "name": "talk", "port": 80, "targetPort": 8080, "protocol": "UDP" },
        ] });
        let service = ns.apply::<Service>(service("web", "web", spec)).await?;
        let addresses = cluster_ips(&service);
        assert!(addresses.len() == 2 && addresses[0].is_ipv4() && addresses[1].is_ipv6(), "{addresses:?}");
        for ip in addresses {
            let address = (ip, 80).into();
            for asker in [Asker::Node(0), Asker::Pod(&ns, "one")] {
                answered_by(lab, &format!("at {address}"), &["one", "two"], async || asker.tcp(lab, address).await).await?;
                answered_by(lab, &format!("at {address} over UDP"), &["one", "two"], async || asker.udp(lab, address).await).await?;
            }
        }
        for ip in lab.node(0).addresses() {
            let address = (ip, node_port(&service, 0)?).into();
            answered_by(lab, &format!("at {address}"), &["one", "two"], async || Asker::Outside.tcp(lab, address).await).await?;
        }
        Ok(())
    });
}

#[test]
fn a_service_of_ipv6_alone_is_served() {
    LAB.run("ipv6", async |lab, ns| {
        pair(&ns).await?;
        let spec = json!({ "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"], "ports": [{ "port": 80, "targetPort": 8080 }] });
        let service = ns.apply::<Service>(service("web", "web", spec)).await?;
        let addresses = cluster_ips(&service);
        assert!(addresses.len() == 1 && addresses[0].is_ipv6(), "{addresses:?}");
        let address = (addresses[0], 80).into();
        answered_by(lab, &format!("at {address}"), &["one", "two"], async || Asker::Node(1).tcp(lab, address).await).await
    });
}
