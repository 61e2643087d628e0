//! The node as the API server and an admin see it.

use integration::client::status_of;
use integration::fixture::{ANSWER, SharedLab};
use integration::lab::{PATIENCE, condition};
use integration::{Agent, Error, Lab};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams};

static LAB: SharedLab = SharedLab::new(|| Lab::builder("node"));

fn nodes(lab: &Lab) -> Api<Node> {
    Api::all(lab.client())
}

#[test]
fn a_node_describes_itself() {
    LAB.run("describes", async |lab, _| {
        lab.nodes_ready().await?;
        let node = lab.wait_for("node-1", PATIENCE, async || nodes(lab).get("node-1").await.map_err(|error| error.to_string())).await?;
        for (kind, wanted) in [("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False")] {
            assert_eq!(condition(&node, kind).map(|(status, _)| status).as_deref(), Some(wanted), "{kind}");
        }
        let labels = node.metadata.labels.clone().unwrap_or_default();
        for (label, wanted) in [("kubernetes.io/hostname", "node-1"), ("kubernetes.io/os", "linux")] {
            assert_eq!(labels.get(label).map(String::as_str), Some(wanted));
        }
        assert!(labels.contains_key("kubernetes.io/arch"));
        let status = node.status.unwrap_or_default();
        let addresses: Vec<(String, String)> =
            status.addresses.unwrap_or_default().into_iter().map(|address| (address.type_, address.address)).collect();
        for (kind, address) in [("InternalIP", "172.30.0.11"), ("InternalIP", "fd00:30::b"), ("Hostname", "node-1")] {
            assert!(addresses.contains(&(kind.to_owned(), address.to_owned())), "no {kind} {address} in {addresses:?}");
        }
        let capacity = status.capacity.unwrap_or_default();
        assert_eq!(capacity.get("pods").map(|pods| pods.0.as_str()), Some("110"));
        assert!(
            capacity.contains_key("cpu") && capacity.contains_key("memory") && capacity.contains_key("ephemeral-storage"),
            "{capacity:?}"
        );
        let info = status.node_info.unwrap_or_default();
        assert!(info.container_runtime_version.starts_with("containerd://2."), "{}", info.container_runtime_version);
        assert!(info.kubelet_version.starts_with("v1."), "{}", info.kubelet_version);
        assert_eq!(info.operating_system, "linux");
        assert!(
            !info.kernel_version.is_empty() && !info.os_image.is_empty() && !info.machine_id.is_empty() && !info.boot_id.is_empty(),
            "{info:?}"
        );
        assert_eq!(status.daemon_endpoints.and_then(|endpoints| endpoints.kubelet_endpoint).map(|endpoint| endpoint.port), Some(10250));
        Ok(())
    });
}

#[test]
fn it_renews_its_lease() {
    LAB.run("lease", async |lab, _| {
        let leases: Api<Lease> = Api::namespaced(lab.client(), "kube-node-lease");
        let renewed = async || {
            let lease = leases.get("node-1").await.map_err(|error| error.to_string())?;
            let owner = lease.metadata.owner_references.clone().unwrap_or_default();
            let spec = lease.spec.unwrap_or_default();
            if spec.holder_identity.as_deref() != Some("node-1")
                || !owner.iter().any(|owner| owner.kind == "Node" && owner.name == "node-1")
            {
                return Err(format!("held by {:?}, owned by {owner:?}", spec.holder_identity));
            }
            spec.renew_time.map(|time| time.0).ok_or_else(|| "never renewed".to_owned())
        };
        let first = lab.wait_for("the lease", PATIENCE, renewed).await?;
        let later = async || renewed().await.and_then(|time| if time > first { Ok(()) } else { Err(format!("still {time}")) });
        lab.wait_for("the lease to be renewed", PATIENCE, later).await
    });
}

#[test]
fn it_answers_healthz_on_loopback_only() {
    LAB.run("healthz", async |lab, _| {
        let connector = lab.node(0).place().connector();
        let healthy = async || match connector.http(([127, 0, 0, 1], 10248).into(), "/healthz", ANSWER).await {
            Ok(answer) if answer == "ok" => Ok(()),
            Ok(answer) => Err(answer),
            Err(error) => Err(error.to_string()),
        };
        lab.wait_for("healthz", PATIENCE, healthy).await?;
        let [address, _] = lab.node(0).addresses();
        match connector.http((address, 10248).into(), "/healthz", ANSWER).await {
            Ok(answer) => Err(Error::Other(format!("healthz answers {answer:?} on {address}"))),
            Err(_) => Ok(()),
        }
    });
}

/// Upstream's kubelet needs a restart for this; kubelet-rs does not.
#[test]
fn a_deleted_node_registers_again() {
    LAB.run("deleted", async |lab, _| {
        lab.nodes_ready().await?;
        let before = nodes(lab).get("node-1").await.map(|node| node.metadata.uid).map_err(|error| Error::Other(error.to_string()))?;
        nodes(lab).delete("node-1", &DeleteParams::default()).await.map_err(|error| Error::Other(error.to_string()))?;
        if *lab.agent() == Agent::Upstream {
            lab.node(0).stop_agent().await?;
            lab.node(0).start_agent().await?;
        }
        let back = async || {
            let node = nodes(lab).get("node-1").await.map_err(|error| error.to_string())?;
            if node.metadata.uid == before { Err("the old one".to_owned()) } else { Ok(()) }
        };
        lab.wait_for("a new Node object", PATIENCE, back).await?;
        lab.nodes_ready().await
    });
}

/// 401 without credentials, 403 with some that may do nothing.
#[test]
fn it_refuses_strangers() {
    LAB.run("strangers", async |lab, _| {
        let nobody = lab.pki().kubeconfig("nobody", "nobody", None)?;
        let [address, _] = lab.node(0).addresses();
        for (kubeconfig, wanted) in [(None, 401), (Some(nobody.as_path()), 403)] {
            let ask = async || {
                status_of(lab.place().connector(), (address, 10250).into(), "/pods", kubeconfig).await.map_err(|error| error.to_string())
            };
            let code = lab.wait_for("an answer on 10250", PATIENCE, ask).await?;
            assert_eq!(code, wanted, "with {kubeconfig:?}");
        }
        Ok(())
    });
}
