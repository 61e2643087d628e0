//! The plain listeners of the Service proxy: its health (`healthzBindAddress`), what operators read (`metricsBindAddress`), and one for
//! each Service whose load balancer asks whether this node has endpoints (`healthCheckNodePort`). Upstream: `pkg/proxy/healthcheck`.

mod answers;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::response::Body;
use super::{connection, listen};
use crate::api::events::{EventType, Recorder};
use crate::config::proxy::Mode;
use crate::model::service::ServiceName;
use crate::nft::Family;
use crate::proxy::Status;

/// Connections at a time of one listener.
const CONNECTIONS: usize = 16;
/// Wait before a port that is in use is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What the listeners tell, and where they listen.
pub struct ServiceServers {
    /// Where `/healthz` and `/livez` are served.
    pub healthz: SocketAddr,
    /// Where what operators read is served.
    pub metrics: SocketAddr,
    /// What Services are programmed in.
    pub mode: Mode,
    /// The proxy.
    pub status: Status,
    /// The node: one that an autoscaler is about to remove takes no new connections from outside.
    pub node: watch::Receiver<Option<Arc<Node>>>,
    /// The body of `/configz`.
    pub configz: Value,
    /// For ports that can't be had.
    pub recorder: Recorder,
}

impl ServiceServers {
    /// Opens the two fixed ports. For `bindAddressHardFail`, where a port in use ends the agent.
    pub fn probe(&self) -> io::Result<()> {
        [self.healthz, self.metrics].into_iter().try_for_each(|address| listen::bind(address.ip(), address.port()).map(drop))
    }

    /// Serves for ever.
    pub async fn run(self) {
        let Self { healthz, metrics, mode, status, node, configz, recorder } = self;
        let (of_health, of_metrics, of_checks) = (status.clone(), status.clone(), status);
        let asked = Arc::new(answers::Asked::default());
        let counted = Arc::clone(&asked);
        let failed = |reason: &'static str| {
            let recorder = recorder.clone();
            move |text: String| recorder.node_event(EventType::Warning, reason, text)
        };
        let health = serve(healthz, "the health of the Service proxy", failed("FailedToStartProxierHealthcheck"), move |path| {
            answers::health(path, &of_health, node.borrow().as_deref(), &asked)
        });
        let metrics = serve(metrics, "what operators read of the Service proxy", failed("FailedToStartMetricServer"), move |path| {
            answers::operators(path, mode, &of_metrics, &configz, &counted)
        });
        tokio::join!(health, metrics, checks(of_checks, recorder.clone()));
    }
}

/// Serves one address for ever; while the port is in use, tries again, and has told `failed` once.
async fn serve(
    address: SocketAddr,
    what: &str,
    failed: impl Fn(String),
    answer: impl Fn(&str) -> http::Response<Body> + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    let mut said = false;
    loop {
        match listen::bind(address.ip(), address.port()) {
            Ok(listener) => return accept(listener, answer).await,
            Err(error) if !std::mem::replace(&mut said, true) => {
                tracing::warn!(%error, "Can't serve {what} on {address}, trying again every {RETRY:?}; is a kube-proxy running on this node?");
                failed(format!("failed to serve {what} on {address}: {error}"));
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

async fn accept(listener: TcpListener, answer: Arc<impl Fn(&str) -> http::Response<Body> + Send + Sync + 'static>) {
    listen::serve(listener, CONNECTIONS, |tcp, _| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let response = answer(request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let _ = connection::http().serve_connection(TokioIo::new(tcp), service).await;
        }
    })
    .await;
}

/// Keeps one listener for each Service whose load balancer asks.
async fn checks(mut status: Status, recorder: Recorder) {
    let mut open: BTreeMap<ServiceName, (u16, Listening)> = BTreeMap::new();
    loop {
        let wanted: BTreeMap<_, _> = status.checks.borrow_and_update().iter().map(|(id, check)| (id.clone(), check.port)).collect();
        open.retain(|id, (port, _)| wanted.get(id) == Some(port));
        for (id, port) in wanted {
            open.entry(id.clone()).or_insert_with(|| (port, Listening::start(&id, port, &status, &recorder)));
        }
        if status.checks.changed().await.is_err() {
            return;
        }
    }
}

/// Ends with its owner.
struct Listening(JoinHandle<()>);

impl Listening {
    fn start(id: &ServiceName, port: u16, status: &Status, recorder: &Recorder) -> Self {
        let addresses = addresses(&status.terms.borrow().node_port_ips);
        let (id, status, recorder) = (id.clone(), status.clone(), recorder.clone());
        Self(tokio::spawn(async move {
            let mut all = JoinSet::new();
            for address in addresses {
                let (id, status, recorder) = (id.clone(), status.clone(), recorder.clone());
                all.spawn(async move {
                    let (what, of) = (format!("the health check of Service {id}"), id.clone());
                    let failed = move |text| recorder.service_event(&of, EventType::Warning, "FailedToStartServiceHealthcheck", text);
                    serve(SocketAddr::new(address, port), &what, failed, move |_| answers::check(&id, &status)).await;
                });
            }
            while all.join_next().await.is_some() {}
        }))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where node ports answer.
fn addresses(node_port_ips: &std::collections::HashMap<Family, Vec<IpAddr>>) -> Vec<IpAddr> {
    let of = |family, any: IpAddr| node_port_ips.get(&family).cloned().unwrap_or_else(|| vec![any]);
    match (node_port_ips.contains_key(&Family::Ip), node_port_ips.contains_key(&Family::Ip6)) {
        // One socket for both families.
        (false, false) => vec![Ipv4Addr::UNSPECIFIED.into()],
        _ => [of(Family::Ip, Ipv4Addr::UNSPECIFIED.into()), of(Family::Ip6, Ipv6Addr::UNSPECIFIED.into())].concat(),
    }
}

#[cfg(test)]
mod tests;
