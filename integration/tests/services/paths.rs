//! ClusterIP and NodePort, TCP and UDP, from nodes, pods and outside.

use integration::objects::{service, web_service, whoami_on};
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::json;

use crate::{Asker, LAB, answered_by, cluster_ip, node_port, pair};

#[test]
fn a_cluster_ip_spreads_over_its_endpoints() {
    LAB.run("cluster-ip", async |lab, ns| {
        pair(&ns).await?;
        let service = ns.apply::<Service>(web_service("web", "web")).await?;
        let address = (cluster_ip(&service)?, 80).into();
        for asker in [Asker::Node(0), Asker::Node(1), Asker::Pod(&ns, "one"), Asker::Pod(&ns, "two")] {
            answered_by(lab, &format!("to {asker}"), &["one", "two"], async || asker.tcp(lab, address).await).await?;
        }
        Ok(())
    });
}

#[test]
fn udp_is_served_like_tcp_and_on_the_same_port() {
    LAB.run("udp", async |lab, ns| {
        pair(&ns).await?;
        let ports = json!({ "ports": [
            { "name": "web", "port": 80, "targetPort": "web" },
            { "name": "talk", "port": 80, "targetPort": "talk", "protocol": "UDP" },
        ] });
        let service = ns.apply::<Service>(service("web", "web", ports)).await?;
        let address = (cluster_ip(&service)?, 80).into();
        for asker in [Asker::Node(0), Asker::Pod(&ns, "two")] {
            answered_by(lab, "over UDP", &["one", "two"], async || asker.udp(lab, address).await).await?;
            answered_by(lab, "over TCP", &["one", "two"], async || asker.tcp(lab, address).await).await?;
        }
        Ok(())
    });
}

#[test]
fn several_ports_lead_to_several_ports() {
    LAB.run("ports", async |lab, ns| {
        ns.apply::<Pod>(whoami_on("one", "node-1", "web")).await?;
        let ports = json!({ "ports": [
            { "name": "first", "port": 80, "targetPort": 8080 },
            { "name": "second", "port": 81, "targetPort": "other" },
        ] });
        let service = ns.apply::<Service>(service("web", "web", ports)).await?;
        let address = cluster_ip(&service)?;
        for (port, wanted) in [(80, "8080"), (81, "8081")] {
            let ask = async || {
                let answer = Asker::Node(1).tcp(lab, (address, port).into()).await.map_err(|error| error.to_string())?;
                if answer == format!("one {wanted}") { Ok(()) } else { Err(answer) }
            };
            lab.wait_for(&format!("port {port} to lead to {wanted}"), integration::lab::PATIENCE, ask).await?;
        }
        Ok(())
    });
}

#[test]
fn a_node_port_is_served_by_every_node() {
    LAB.run("node-port", async |lab, ns| {
        ns.apply::<Pod>(whoami_on("one", "node-1", "web")).await?;
        let ports = json!({ "type": "NodePort", "ports": [
            { "name": "web", "port": 80, "targetPort": 8080 },
            { "name": "talk", "port": 80, "targetPort": 8080, "protocol": "UDP" },
        ] });
        let service = ns.apply::<Service>(service("web", "web", ports)).await?;
        for node in lab.nodes() {
            for address in node.addresses().into_iter().filter(std::net::IpAddr::is_ipv4) {
                let tcp = (address, node_port(&service, 0)?).into();
                let udp = (address, node_port(&service, 1)?).into();
                answered_by(lab, &format!("at {tcp}"), &["one"], async || Asker::Outside.tcp(lab, tcp).await).await?;
                answered_by(lab, &format!("at {udp} over UDP"), &["one"], async || Asker::Outside.udp(lab, udp).await).await?;
                answered_by(lab, &format!("at {tcp} from node-2"), &["one"], async || Asker::Node(1).tcp(lab, tcp).await).await?;
                answered_by(lab, &format!("at {tcp} from a pod"), &["one"], async || Asker::Pod(&ns, "one").tcp(lab, tcp).await).await?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_pod_reaches_its_own_service() {
    LAB.run("hairpin", async |lab, ns| {
        ns.apply::<Pod>(whoami_on("alone", "node-2", "web")).await?;
        let ports = json!({ "type": "NodePort", "ports": [
            { "name": "web", "port": 80, "targetPort": 8080 },
            { "name": "talk", "port": 80, "targetPort": 8080, "protocol": "UDP" },
        ] });
        let service = ns.apply::<Service>(service("web", "web", ports)).await?;
        let address = (cluster_ip(&service)?, 80).into();
        answered_by(lab, "to itself", &["alone"], async || Asker::Pod(&ns, "alone").tcp(lab, address).await).await?;
        answered_by(lab, "to itself over UDP", &["alone"], async || Asker::Pod(&ns, "alone").udp(lab, address).await).await?;
        let [own_node, _] = lab.node(1).addresses();
        let address = (own_node, node_port(&service, 0)?).into();
        answered_by(lab, "to itself through its node", &["alone"], async || Asker::Pod(&ns, "alone").tcp(lab, address).await).await
    });
}
