//! Pods that the node brings itself: manifests in a folder or behind a URL (upstream: `pkg/kubelet/config`).
//!
//! In: files, changes of them, answers of a server. Out: whole sets of static pods, each time one of them changes. Owns: what was
//! read last. Survives a restart: the files.

mod defaults;
mod file;
mod http;
mod manifest;
mod references;

use std::path::PathBuf;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, select_all, unfold};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

pub use manifest::UID_MARK;

/// Where static pods come from.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The node's name, which becomes part of the pods' names.
    pub node: String,
    /// `staticPodPath`: a folder or a file.
    pub path: Option<PathBuf>,
    /// `fileCheckFrequency`.
    pub file_check: Duration,
    /// `staticPodURL`, with the headers to send.
    pub url: Option<(String, Vec<(String, String)>)>,
    /// `httpCheckFrequency`.
    pub http_check: Duration,
}

/// One of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A folder or a file.
    File,
    /// A URL.
    Http,
}

impl Source {
    /// As annotation `kubernetes.io/config.source` has it.
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Http => "http",
        }
    }
}

/// All pods of one source, as they are now.
pub type Delivery = (Source, Vec<Pod>);

/// The sources that are configured, and what they deliver. Each delivers once soon, and then whenever something has changed.
pub fn watch(settings: &Settings) -> (Vec<Source>, BoxStream<'static, Delivery>) {
    let (mut sources, mut streams) = (vec![], vec![]);
    if let Some(path) = settings.path.clone() {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(file::run(path, settings.node.clone(), settings.file_check, sender));
        sources.push(Source::File);
        streams.push(of(Source::File, receiver));
    }
    if let Some((url, headers)) = settings.url.clone() {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(http::run(url, headers, settings.node.clone(), settings.http_check, sender));
        sources.push(Source::Http);
        streams.push(of(Source::Http, receiver));
    }
    (sources, select_all(streams).boxed())
}

fn of(source: Source, receiver: mpsc::Receiver<Vec<Pod>>) -> BoxStream<'static, Delivery> {
    unfold(receiver, move |mut receiver| async move { receiver.recv().await.map(|pods| ((source, pods), receiver)) }).boxed()
}
