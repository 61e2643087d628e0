//! Manifests behind a URL, asked for at intervals (upstream: `config/http.go`).

use std::time::Duration;

use http::Uri;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Source, manifest};
use crate::pods::http_get::{self, Get};

/// Most of an answer that is read.
const GREATEST: usize = 10 << 20;
/// For one answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Failures in a row that are worth a warning; a server that is away for good is no news.
const LOUD: u32 = 3;

/// Asks, tells what has changed, and asks again. Ends when nobody listens.
pub async fn run(url: String, headers: Vec<(String, String)>, node: String, every: Duration, pods: mpsc::Sender<Vec<Pod>>) {
    let mut told: Option<Vec<String>> = None;
    let mut failures = 0;
    loop {
        match ask(&url, &headers, &node).await {
            Ok(found) => {
                failures = 0;
                let uids: Vec<String> = found.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
                if told.as_ref() != Some(&uids) {
                    told = Some(uids);
                    if pods.send(found).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                failures += 1;
                if failures <= LOUD {
                    tracing::warn!(url, %error, "Can't get static pods; those that run keep running");
                }
            }
        }
        sleep(every).await;
    }
}

async fn ask(url: &str, headers: &[(String, String)], node: &str) -> Result<Vec<Pod>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("staticPodURL is no URL: {error}"))?;
    let https = uri.scheme_str() == Some("https");
    let get = Get {
        https,
        host: uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
        path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: headers.to_vec(),
        user_agent: http_get::user_agent("static-pods"),
    };
    let answer = http_get::get_up_to(GREATEST, &get, LIMIT).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("the server answers {}", answer.status));
    }
    if answer.body.is_empty() {
        return Err("zero-length data received".to_owned());
    }
    manifest::read(&String::from_utf8_lossy(&answer.body), Source::Http, url, node)
}
