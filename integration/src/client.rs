//! A Kubernetes client that connects from inside the lab's network.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt as _};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tower::ServiceBuilder;

use crate::error::{Error, Result};
use crate::net::Connector;

/// A client with the credentials of a kubeconfig file.
pub async fn client(connector: Connector, kubeconfig: &Path) -> Result<kube::Client> {
    let config = read(kubeconfig).await?;
    connect(connector, config).map_err(|why| Error::Other(format!("making a client from {}: {why}", kubeconfig.display())))
}

/// The HTTP status of one GET to a server whose certificate nobody has signed, with or without the client certificate of a kubeconfig.
pub async fn status_of(connector: Connector, server: SocketAddr, path: &str, kubeconfig: Option<&Path>) -> Result<u16> {
    let failed = |why: String| Error::Other(format!("GET https://{server}{path}: {why}"));
    let url: Uri = format!("https://{server}").parse().map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    let mut config = match kubeconfig {
        Some(file) => read(file).await?,
        None => Config::new(url.clone()),
    };
    config.cluster_url = url;
    config.accept_invalid_certs = true;
    let client = connect(connector, config).map_err(failed)?;
    let request = http::Request::get(path).body(Body::empty()).map_err(|error| failed(error.to_string()))?;
    client.send(request).await.map(|answer| answer.status().as_u16()).map_err(|error| failed(error.to_string()))
}

async fn read(kubeconfig: &Path) -> Result<Config> {
    let failed = |why: &dyn std::fmt::Display| Error::Other(format!("reading {}: {why}", kubeconfig.display()));
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| failed(&error))?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|error| failed(&error))
}

fn connect(connector: Connector, config: Config) -> std::result::Result<kube::Client, String> {
    let https = config.rustls_https_connector_with_connector(InPlace(connector)).map_err(|error| error.to_string())?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new().layer(config.base_uri_layer()).map_err(tower::BoxError::from).service(http);
    Ok(kube::Client::new(service, config.default_namespace))
}

/// The connector as hyper wants it.
#[derive(Clone)]
struct InPlace(Connector);

impl tower::Service<Uri> for InPlace {
    type Response = TokioIo<tokio::net::TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.0.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().parse::<IpAddr>().map_err(std::io::Error::other)?;
            let address = SocketAddr::new(host, uri.port_u16().unwrap_or(443));
            connector.tcp(address, Duration::from_secs(5)).await.map(TokioIo::new)
        })
    }
}
