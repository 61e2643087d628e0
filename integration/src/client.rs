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
    let shown = kubeconfig.display();
    let failed = |why: &dyn std::fmt::Display| Error::Other(format!("making a client from {shown}: {why}"));
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| failed(&error))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|error| failed(&error))?;
    let https = config.rustls_https_connector_with_connector(InPlace(connector)).map_err(|error| failed(&error))?;
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
