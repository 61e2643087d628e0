//! Services on two nodes: every question is asked from the nodes and from pods on both.

mod endpoints;
mod families;
mod paths;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use integration::Lab;
use integration::fixture::{ANSWER, Namespace, SharedLab};
use integration::lab::PATIENCE;
use integration::objects::whoami_on;
use integration::{Error, Result};
use k8s_openapi::api::core::v1::{Pod, Service};

static LAB: SharedLab = SharedLab::new(|| Lab::builder("services").nodes(2));

/// A whoami pod on each node, `one` and `two`, both labelled `app: web`.
async fn pair(ns: &Namespace<'_>) -> Result<()> {
    ns.apply::<Pod>(whoami_on("one", "node-1", "web")).await?;
    ns.apply::<Pod>(whoami_on("two", "node-2", "web")).await?;
    ns.pods("app=web", 2).await.map(drop)
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let addresses = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    addresses.filter_map(|address| address.parse().ok()).collect()
}

fn cluster_ip(service: &Service) -> Result<IpAddr> {
    cluster_ips(service).first().copied().ok_or_else(|| Error::Other("a Service without a ClusterIP".into()))
}

/// The NodePort of a Service's n-th port.
fn node_port(service: &Service, index: usize) -> Result<u16> {
    let port = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).nth(index).and_then(|port| port.node_port);
    port.and_then(|port| u16::try_from(port).ok()).ok_or_else(|| Error::Other("a Service without a NodePort".into()))
}

/// Who is asked, and how.
#[derive(Clone, Copy)]
enum Asker<'a> {
    /// A process on the n-th node.
    Node(usize),
    /// A process on the control plane: outside of the cluster, as Services see it.
    Outside,
    /// A whoami pod of a test's namespace.
    Pod(&'a Namespace<'a>, &'a str),
}

impl Asker<'_> {
    /// One question over TCP; the first word of the answer is the pod's name.
    async fn tcp(self, lab: &Lab, address: SocketAddr) -> Result<String> {
        match self {
            Self::Node(index) => lab.node(index).place().connector().http(address, "/", ANSWER).await,
            Self::Outside => lab.place().connector().http(address, "/", ANSWER).await,
            Self::Pod(ns, pod) => ns.kubectl(&["exec", pod, "--", "/whoami", "get", &format!("http://{address}/")]).await,
        }
    }

    /// One question over UDP.
    async fn udp(self, lab: &Lab, address: SocketAddr) -> Result<String> {
        match self {
            Self::Node(index) => lab.node(index).place().connector().udp(address, "?", ANSWER).await,
            Self::Outside => lab.place().connector().udp(address, "?", ANSWER).await,
            Self::Pod(ns, pod) => ns.kubectl(&["exec", pod, "--", "/whoami", "udp", &address.to_string()]).await,
        }
    }
}

impl std::fmt::Display for Asker<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(index) => write!(out, "node-{}", index + 1),
            Self::Outside => write!(out, "the outside"),
            Self::Pod(_, pod) => write!(out, "pod {pod}"),
        }
    }
}

/// Asks until exactly the pods `wanted` have answered, and no other any more. One that should be gone and is one of three to choose from
/// stays hidden in 20 answers once in 3,000 times, one of two once in a million.
async fn answered_by(lab: &Lab, what: &str, wanted: &[&str], ask: impl AsyncFn() -> Result<String>) -> Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    let round = async || {
        let mut seen = BTreeSet::new();
        let mut more = 20;
        for _ in 0..60 {
            let answer = ask().await.map_err(|error| error.to_string())?;
            seen.insert(answer.split_whitespace().next().unwrap_or_default().to_owned());
            if !seen.is_subset(&wanted) || seen == wanted && more == 0 {
                break;
            }
            more -= u32::from(seen == wanted);
        }
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?} answered")) }
    };
    lab.wait_for(&format!("answers of {wanted:?} {what}"), PATIENCE, round).await
}

/// Waits until a connection is refused: at once, not by silence.
async fn refused(lab: &Lab, asker: Asker<'_>, address: SocketAddr) -> Result<()> {
    let look = async || {
        let start = tokio::time::Instant::now();
        match asker.tcp(lab, address).await {
            Ok(answer) => Err(format!("{answer} answered")),
            Err(_) if start.elapsed() > ANSWER => Err("silence".to_owned()),
            Err(error) if error.to_string().to_lowercase().contains("refused") => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    };
    lab.wait_for(&format!("{address} to refuse {asker}"), PATIENCE, look).await
}
