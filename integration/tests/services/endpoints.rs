//! Endpoints that come and go, and Services that have none.

use integration::objects::{service, web_service, whoami_on};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DeleteParams;
use serde_json::json;

use crate::{Asker, LAB, answered_by, cluster_ip, node_port, pair, refused};

#[test]
fn endpoints_come_and_go() {
    LAB.run("come-and-go", async |lab, ns| {
        pair(&ns).await?;
        let service = ns.apply::<Service>(web_service("web", "web")).await?;
        let address = (cluster_ip(&service)?, 80).into();
        let ask = async || Asker::Node(0).tcp(lab, address).await;
        answered_by(lab, "at first", &["one", "two"], ask).await?;
        ns.delete_pod("one").await?;
        answered_by(lab, "after one is gone", &["two"], ask).await?;
        ns.apply::<Pod>(whoami_on("three", "node-1", "web")).await?;
        answered_by(lab, "after three has come", &["two", "three"], ask).await?;
        ns.delete_pod("two").await?;
        ns.delete_pod("three").await?;
        refused(lab, Asker::Node(0), address).await?;
        ns.apply::<Pod>(whoami_on("four", "node-2", "web")).await?;
        answered_by(lab, "after four has come", &["four"], ask).await
    });
}

#[test]
fn a_pod_that_is_not_ready_gets_nothing() {
    LAB.run("not-ready", async |lab, ns| {
        pair(&ns).await?;
        // A gate that nobody opens: the pod runs and is never Ready.
        let mut gated = whoami_on("gated", "node-1", "web");
        gated["spec"]["readinessGates"] = json!([{ "conditionType": "kubelet-rs.io/never" }]);
        ns.apply::<Pod>(gated).await?;
        ns.wait_for("gated", |pod: &Pod| {
            let running = integration::fixture::container_statuses(pod).any(|status| status.ready);
            if running && !integration::fixture::pod_is_ready(pod) { Ok(()) } else { Err(integration::fixture::describe(pod)) }
        })
        .await?;
        let service = ns.apply::<Service>(web_service("web", "web")).await?;
        let address = (cluster_ip(&service)?, 80).into();
        answered_by(lab, "without gated", &["one", "two"], async || Asker::Node(0).tcp(lab, address).await).await?;
        for _ in 0..50 {
            let answer = Asker::Node(0).tcp(lab, address).await?;
            assert!(!answer.starts_with("gated"), "{answer}");
        }
        Ok(())
    });
}

#[test]
fn a_service_without_endpoints_refuses() {
    LAB.run("none", async |lab, ns| {
        ns.apply::<Pod>(whoami_on("other", "node-1", "other")).await?;
        ns.ready("other").await?;
        let service = ns.apply::<Service>(service("web", "nobody", json!({ "type": "NodePort", "ports": [{ "port": 80 }] }))).await?;
        let address = (cluster_ip(&service)?, 80).into();
        refused(lab, Asker::Node(0), address).await?;
        refused(lab, Asker::Pod(&ns, "other"), address).await?;
        let [node, _] = lab.node(1).addresses();
        refused(lab, Asker::Outside, (node, node_port(&service, 0)?).into()).await
    });
}

#[test]
fn a_deleted_service_is_gone_and_its_address_can_be_used_again() {
    LAB.run("deleted", async |lab, ns| {
        ns.apply::<Pod>(whoami_on("one", "node-1", "first")).await?;
        ns.apply::<Pod>(whoami_on("two", "node-2", "second")).await?;
        let first = ns.apply::<Service>(web_service("first", "first")).await?;
        let ip = cluster_ip(&first)?;
        let address = (ip, 80).into();
        let ask = async || Asker::Node(0).tcp(lab, address).await;
        answered_by(lab, "of the first Service", &["one"], ask).await?;
        ns.api::<Service>()
            .delete("first", &DeleteParams::default())
            .await
            .map_err(|error| integration::Error::Other(error.to_string()))?;
        let second = json!({ "clusterIP": ip.to_string(), "ports": [{ "port": 80, "targetPort": 8080 }] });
        ns.apply::<Service>(service("second", "second", second)).await?;
        answered_by(lab, "of the second Service", &["two"], ask).await
    });
}

/// What the API server lets through and nobody can serve.
#[test]
fn odd_slices_disturb_nobody() {
    LAB.run("odd", async |lab, ns| {
        pair(&ns).await?;
        let web = ns.apply::<Service>(web_service("web", "web")).await?;
        let address = (cluster_ip(&web)?, 80).into();
        answered_by(lab, "at first", &["one", "two"], async || Asker::Node(0).tcp(lab, address).await).await?;

        let slice = |name: &str, service: &str, kind: &str, endpoint: &str, ports: serde_json::Value| {
            json!({
                "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
                "addressType": kind, "endpoints": [{ "addresses": [endpoint] }], "ports": ports,
            })
        };
        let numbered = json!([{ "name": "", "port": 8080 }]);
        let mut without_a_service = slice("nobodys", "", "IPv4", "10.244.1.250", numbered.clone());
        without_a_service["metadata"]["labels"] = json!({});
        for odd in [
            slice("named", "web", "FQDN", "web.example.com", numbered.clone()),
            slice("any-port", "web", "IPv4", "10.244.1.250", json!([{ "name": "" }])),
            slice("no-port", "web", "IPv4", "10.244.1.250", json!([])),
            slice("strange-port", "web", "IPv4", "10.244.1.250", json!([{ "name": "strange", "port": 8080 }])),
            slice("missing", "no-such-service", "IPv4", "10.244.1.250", numbered),
            without_a_service,
        ] {
            ns.apply::<EndpointSlice>(odd).await?;
        }

        // Later than they are, so seen after them.
        ns.apply::<Pod>(whoami_on("three", "node-1", "other")).await?;
        let other = ns.apply::<Service>(web_service("other", "other")).await?;
        let ask_other = async || Asker::Node(0).tcp(lab, (cluster_ip(&other)?, 80).into()).await;
        answered_by(lab, "of another Service", &["three"], ask_other).await?;
        answered_by(lab, "beside odd slices", &["one", "two"], async || Asker::Node(0).tcp(lab, address).await).await?;
        ns.delete_pod("one").await?;
        answered_by(lab, "after one is gone", &["two"], async || Asker::Node(0).tcp(lab, address).await).await
    });
}

#[test]
fn a_changed_port_moves() {
    LAB.run("moved", async |lab, ns| {
        pair(&ns).await?;
        let service = ns.apply::<Service>(web_service("web", "web")).await?;
        let ip = cluster_ip(&service)?;
        answered_by(lab, "on 80", &["one", "two"], async || Asker::Node(1).tcp(lab, (ip, 80).into()).await).await?;
        ns.kubectl(&[
            "patch",
            "service",
            "web",
            "-p",
            r#"{"spec":{"ports":[{"port":80,"$patch":"delete"},{"port":90,"targetPort":8080}]}}"#,
        ])
        .await?;
        answered_by(lab, "on 90", &["one", "two"], async || Asker::Node(1).tcp(lab, (ip, 90).into()).await).await?;
        let look = async || match Asker::Node(1).tcp(lab, (ip, 80).into()).await {
            Ok(answer) => Err(format!("{answer} answered")),
            Err(_) => Ok(()),
        };
        lab.wait_for("port 80 to be closed", integration::lab::PATIENCE, look).await
    });
}
