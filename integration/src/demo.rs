//! The demo: a cluster with one node, a Deployment behind a Service, and the answers that came through its ClusterIP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::error::{Doing as _, Error, Result};
use crate::lab::{Lab, PATIENCE};

/// The last line of [`own`]: what follows is not for the person who waits.
pub const UP: &str = "lab: up";

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: whoami}
spec:
  replicas: 2
  selector: {matchLabels: {app: whoami}}
  template:
    metadata: {labels: {app: whoami}}
    spec:
      containers: [{name: whoami, image: 'kubelet-rs.io/whoami:1', ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: whoami}
spec:
  selector: {app: whoami}
  ports: [{port: 80, targetPort: 8080}]
";

/// Brings the demo up, shows it, and owns it until it is told to end.
pub fn own(agent: Agent) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().doing(|| "starting the runtime")?;
    runtime.block_on(async {
        let mut end = signal(SignalKind::terminate()).doing(|| "waiting for signals")?;
        let lab = tokio::select! {
            lab = show(agent) => lab?,
            _ = end.recv() => return Err(Error::Other("told to end before the cluster was up".into())),
        };
        lab.offer_to_clean()?;
        println!("{UP}");
        end.recv().await;
        drop(lab);
        Ok(())
    })
}

async fn show(agent: Agent) -> Result<Lab> {
    let start = Instant::now();
    let step = move |what: &str| println!("[{:5.1} s] {what}", start.elapsed().as_secs_f64());
    let lab = Lab::builder("demo").agent(agent).progress(step).start().await?;
    step("a Deployment of two web servers behind a Service");
    lab.kubectl_with_input(&["apply", "-f", "-"], MANIFEST).await?;
    lab.kubectl(&["rollout", "status", "deployment/whoami", "--timeout=60s"]).await?;
    let address = cluster_ip(&lab).await?;
    step(&format!("both are ready; asking http://{address}, the Service's ClusterIP"));
    let connector = lab.node(0).place().connector();
    let from_node = async || connector.http((address, 80).into(), "/", Duration::from_secs(2)).await;
    println!("  from the node:  {}", ask(&lab, from_node).await?);
    let url = format!("http://{address}/");
    let from_pod = async || lab.kubectl(&["exec", "deployment/whoami", "--", "/whoami", "get", &url]).await;
    println!("  from a pod:     {}", ask(&lab, from_pod).await?);
    step("done; the cluster goes on running");
    println!("\n{}", lab.kubectl(&["get", "nodes,pods", "-o", "wide"]).await?.trim_end());
    println!(
        "\nUse it:   alias k={}/kubectl\n          k get pods -A; k logs deploy/whoami; k scale deploy/whoami --replicas=5\nLogs:     {}\nEnd it:   make clean-lab\n",
        lab.folder().display(),
        lab.logs().display()
    );
    Ok(lab)
}

async fn cluster_ip(lab: &Lab) -> Result<IpAddr> {
    let service = Api::<Service>::namespaced(lab.client(), "default").get("whoami").await.doing(|| "reading the Service")?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    address.parse().map_err(|_| Error::Other(format!("Service whoami has ClusterIP {address:?}")))
}

/// Asks until both pods have answered, and tells how often each did. The rules follow the endpoints by an instant, so that the first
/// questions may come before them.
async fn ask(lab: &Lab, question: impl AsyncFn() -> Result<String>) -> Result<String> {
    let mut answers = BTreeMap::<String, u32>::new();
    let both = async || {
        let answer = question().await.map_err(|error| error.to_string())?;
        let name = answer.split_whitespace().next().unwrap_or_default().to_owned();
        *answers.entry(name).or_default() += 1;
        if answers.len() > 1 { Ok(()) } else { Err(format!("{answers:?}")) }
    };
    lab.wait_for("answers of both pods through the ClusterIP", PATIENCE, both).await?;
    Ok(answers.iter().map(|(name, times)| format!("{name} ({times}×)")).collect::<Vec<_>>().join(", "))
}
