//! It may be mended while the agent runs: it says what is missing, once and not every two seconds, and goes on as soon as it can.

use integration::fixture::Namespace;
use integration::lab::PATIENCE;
use integration::objects::{pod, web_service, whoami_container};
use k8s_openapi::api::core::v1::{Pod, Service};

use crate::{LAB, agent, file, start, with};

#[test]
fn no_containerd_and_then_there_is_one() {
    LAB.run("no-containerd", async |lab, ns| {
        lab.node(0).kill_containerd().await?;
        let mut run = start(lab, &agent(lab, "no-containerd")?)?;
        run.says(lab, &["/run/containerd/containerd.sock"]).await?;
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        let times = run.count(&["/run/containerd/containerd.sock"]);
        assert!(times <= 3, "said {times} times within 4 s: {}", run.said());
        lab.node(0).start_containerd().await?;
        lab.nodes_ready().await?;
        runs_a_pod(&ns).await?;
        run.process.check()
    });
}

#[test]
fn an_api_server_with_a_certificate_that_nobody_signed() {
    LAB.run("untrusted", async |lab, _| {
        let other = integration::pki::Pki::new(&lab.folder().join("other-pki"))?;
        let kubeconfig = other.kubeconfig("node-1", "system:node:node-1", Some("system:nodes"))?;
        let mut run = start(lab, &with(agent(lab, "untrusted")?, "--kubeconfig", &kubeconfig))?;
        run.says(lab, &["certificate", "172.30.0.1:6443"]).await?;
        healthy(lab).await
    });
}

#[test]
fn credentials_that_the_api_server_refuses() {
    LAB.run("refused", async |lab, _| {
        // Our CA, but a client certificate of another one.
        let other = integration::pki::Pki::new(&lab.folder().join("strange-pki"))?;
        other.client("node-1", "system:node:node-1", Some("system:nodes"))?;
        let text = std::fs::read_to_string(lab.pki().path("node-1.conf")).unwrap_or_default();
        for end in ["crt", "key"] {
            assert!(text.contains(&lab.pki().path(&format!("node-1.{end}")).display().to_string()), "{text}");
        }
        let [certificate, key] = ["crt", "key"].map(|end| (lab.pki().path(&format!("node-1.{end}")), other.path(&format!("node-1.{end}"))));
        let text = [certificate, key]
            .iter()
            .fold(text, |text, (ours, theirs)| text.replace(&ours.display().to_string(), &theirs.display().to_string()));
        let kubeconfig = file(lab, "refused.conf", &text)?;
        let mut run = start(lab, &with(agent(lab, "refused")?, "--kubeconfig", &kubeconfig))?;
        run.says(lab, &["Unauthorized"]).await?;
        healthy(lab).await
    });
}

#[test]
fn no_api_server() {
    LAB.run("no-api", async |lab, ns| {
        lab.kill_api_server().await?;
        let mut run = start(lab, &agent(lab, "no-api")?)?;
        run.says(lab, &["172.30.0.1:6443"]).await?;
        lab.start_api_server().await?;
        lab.nodes_ready().await?;
        runs_a_pod(&ns).await?;
        run.process.check()
    });
}

/// Without the right to change the network there are no Services, but pods run.
#[test]
fn without_the_right_to_change_the_network_pods_run() {
    LAB.run("no-net-admin", async |lab, ns| {
        let mut spec = agent(lab, "no-net-admin")?;
        spec.args = ["--bounding-set=-net_admin".into(), spec.program.into_os_string()].into_iter().chain(spec.args).collect();
        spec.program = "setpriv".into();
        let mut run = start(lab, &spec)?;
        run.says(lab, &["nftables"]).await?;
        lab.nodes_ready().await?;
        runs_a_pod(&ns).await?;
        run.process.check()
    });
}

#[test]
fn without_the_right_to_watch_endpoint_slices_pods_run_and_with_it_services_work() {
    LAB.run("no-role", async |lab, ns| {
        lab.kubectl(&["delete", "clusterrolebinding", "lab-node-proxier"]).await?;
        let mut run = start(lab, &agent(lab, "no-role")?)?;
        run.says(lab, &["system:node-proxier"]).await?;
        lab.nodes_ready().await?;
        runs_a_pod(&ns).await?;
        lab.kubectl(&["create", "clusterrolebinding", "lab-node-proxier", "--clusterrole=system:node-proxier", "--group=system:nodes"])
            .await?;
        serves(lab, &ns).await?;
        run.process.check()
    });
}

/// A pod behind a Service answers at its ClusterIP.
async fn serves(lab: &integration::Lab, ns: &Namespace<'_>) -> integration::Result<()> {
    ns.apply::<Pod>(pod("web", whoami_container(), "Always")).await?;
    let service = ns.apply::<Service>(web_service("web", "web")).await?;
    let ip: Option<std::net::IpAddr> = service.spec.and_then(|spec| spec.cluster_ip).and_then(|ip| ip.parse().ok());
    let address = std::net::SocketAddr::new(ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()), 80);
    let connector = lab.node(0).place().connector();
    let ask = async || connector.http(address, "/", integration::fixture::ANSWER).await.map_err(|error| error.to_string());
    lab.wait_for(&format!("an answer from {address}"), PATIENCE, ask).await.map(drop)
}

async fn runs_a_pod(ns: &Namespace<'_>) -> integration::Result<()> {
    ns.apply::<Pod>(pod("proof", whoami_container(), "Always")).await?;
    ns.ready("proof").await?;
    ns.delete_pod("proof").await
}

/// It lives, and says so.
async fn healthy(lab: &integration::Lab) -> integration::Result<()> {
    let connector = lab.node(0).place().connector();
    let ask = async || {
        connector.http(([127, 0, 0, 1], 10248).into(), "/healthz", integration::fixture::ANSWER).await.map_err(|error| error.to_string())
    };
    lab.wait_for("healthz", PATIENCE, ask).await.map(drop)
}
