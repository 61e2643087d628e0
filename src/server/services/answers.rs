//! What the listeners of the Service proxy answer.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, Response, StatusCode};
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;
use tokio::time::Instant;

use crate::config::proxy::Mode;
use crate::model::clock::{self, Clock};
use crate::model::service::ServiceName;
use crate::proxy::Status;
use crate::server::response::{self, Body};

/// Cluster autoscaler's mark of a node that is about to go.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// How often the proxy's health was asked for: `/healthz`, then `/livez`; of each the good answers first.
#[derive(Debug, Default)]
pub struct Asked([[AtomicU64; 2]; 2]);

impl Asked {
    fn count(&self, healthz: bool, healthy: bool) {
        let [of_healthz, of_livez] = &self.0;
        let [good, bad] = if healthz { of_healthz } else { of_livez };
        if healthy { good } else { bad }.fetch_add(1, Ordering::Relaxed);
    }

    /// As text for Prometheus, with upstream's names.
    fn text(&self) -> String {
        let mut out = String::new();
        for (name, counts) in ["healthz", "livez"].into_iter().zip(&self.0) {
            // Writing to a String can't fail.
            let _ = writeln!(
                out,
                "# HELP kubeproxy_proxy_{name}_total [ALPHA] Cumulative proxy {name} HTTP status\n# TYPE kubeproxy_proxy_{name}_total counter"
            );
            for (code, count) in ["200", "503"].into_iter().zip(counts) {
                let _ = writeln!(out, "kubeproxy_proxy_{name}_total{{code=\"{code}\"}} {}", count.load(Ordering::Relaxed));
            }
        }
        out
    }
}

/// `/healthz` and `/livez`.
pub fn health(path: &str, status: &Status, node: Option<&Node>, asked: &Asked) -> Response<Body> {
    let eligible = match path {
        "/healthz" => Some(node.is_some_and(is_eligible)),
        "/livez" => None,
        _ => return not_found(),
    };
    let (now, health) = (Instant::now(), status.health.borrow());
    let wall = Clock::System.now();
    let clock = |at: Instant| {
        let ago = i64::try_from(now.duration_since(at).as_nanos()).unwrap_or(i64::MAX);
        clock::api_time(wall.saturating_sub(ago)).0.to_string()
    };
    let healthy = health.is_healthy(now) && eligible != Some(false);
    asked.count(eligible.is_some(), healthy);
    json(healthy, health.report(now, eligible, clock).to_string())
}

/// Whether load balancers should send new connections to the node.
fn is_eligible(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    node.metadata.deletion_timestamp.is_none() && !taints.into_iter().any(|taint| taint.key == TO_BE_DELETED)
}

/// The health check of a Service: whether this node has endpoints for it.
pub fn check(id: &ServiceName, status: &Status) -> Response<Body> {
    let endpoints = status.checks.borrow().get(id).map_or(0, |check| check.endpoints);
    let healthy = status.health.borrow().is_healthy(Instant::now());
    // Upstream's layout, to the blank: health checks compare texts.
    let text = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}",
        id.namespace, id.name
    );
    let mut response = json(endpoints > 0 && healthy, text);
    response.headers_mut().insert("x-load-balancing-endpoint-weight", HeaderValue::from(endpoints));
    response
}

/// What operators read.
pub fn operators(path: &str, mode: Mode, status: &Status, configz: &Value, asked: &Asked) -> Response<Body> {
    match path {
        "/healthz" | "/livez" => response::text(StatusCode::OK, "ok"),
        "/proxyMode" => match mode {
            Mode::Nftables => response::text(StatusCode::OK, "nftables"),
            Mode::Iptables { .. } => response::text(StatusCode::OK, "iptables"),
        },
        "/configz" => response::json(configz.to_string()),
        "/metrics" => response::text(StatusCode::OK, status.metrics.borrow().text(mode != Mode::Nftables) + &asked.text()),
        _ => not_found(),
    }
}

fn json(ok: bool, text: String) -> Response<Body> {
    let mut response = response::json(text);
    *response.status_mut() = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn not_found() -> Response<Body> {
    response::text(StatusCode::NOT_FOUND, "404 page not found\n")
}
