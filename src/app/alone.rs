//! `kubelet-rs proxy`: programs Services, and nothing else.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::services::{self, Asked};
use super::{StartError, block_on, logging, until_told_to_stop};
use crate::api::events::{EventRates, EventType, Recorder};
use crate::api::{Api, KubeApi, WatchEvent, kubeconfig};
use crate::config::KUBERNETES_VERSION;
use crate::config::proxy::alone::{self, Alone};
use crate::sys::process;

/// Runs with the arguments behind the command's name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let alone = match alone::load(args) {
        Ok(alone::Asked::Run(alone)) => alone,
        Ok(alone::Asked::CleanUp) => return services::cleanup(&[]),
        Ok(alone::Asked::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    logging::start(&alone.logging);
    alone.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if alone.init_only {
        services::prepare(&alone.proxy);
        return ExitCode::SUCCESS;
    }
    process::set_oom_score_adj(alone.oom_score_adj);
    block_on(run(*alone))
}

async fn run(alone: Alone) -> Result<(), StartError> {
    let mut tasks = JoinSet::new();
    let access = match &alone.kubeconfig {
        Some(file) => kubeconfig::load(file)?,
        None => kubeconfig::in_cluster(|name| std::env::var(name).ok())?,
    };
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = alone.node.clone().unwrap_or_else(host).trim().to_lowercase();
    if name.is_empty() {
        return Err("the host has no name; give the node one with --hostname-override".into());
    }
    let api: Arc<dyn Api> = Arc::new(KubeApi::new(access, &name, KUBERNETES_VERSION)?);
    let (sender, node) = watch::channel(None);
    tasks.spawn(follow(Arc::clone(&api), sender));
    let recorder = Recorder::start(Arc::clone(&api), &name, EventRates::default());
    recorder.node_event(EventType::Normal, "Starting", "Starting kube-proxy.");
    services::start(Asked { proxy: &alone.proxy, serve: true, chains: false, recorder: &recorder }, &api, vec![], node, &mut tasks)?;
    until_told_to_stop().await?;
    Ok(())
}

/// Keeps the newest version of the Node object.
async fn follow(api: Arc<dyn Api>, node: watch::Sender<Option<Arc<Node>>>) {
    let mut events = api.watch_node();
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Snapshot(all) => drop(node.send_replace(all.into_iter().next().map(Arc::new))),
            WatchEvent::Applied(newer) => drop(node.send_replace(Some(Arc::new(newer)))),
            WatchEvent::Deleted(_) => drop(node.send_replace(None)),
            WatchEvent::Failing(error) => tracing::warn!("{error}; what is known of the node stays as it is meanwhile"),
        }
    }
}
