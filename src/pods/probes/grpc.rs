//! The health check of gRPC (upstream: `pkg/probe/grpc`).

use std::time::Duration;

use proto::health::{self, ServingStatus};
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::attempt::Outcome;
use crate::pods::http_get;

/// Wait between tries to connect: a server that is just starting is given the whole time limit.
const RETRY: Duration = Duration::from_millis(100);

/// Asks a server for a service's health.
pub async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Outcome {
    let address = http_get::join(host, port);
    let endpoint = match endpoint(&address) {
        Ok(endpoint) => endpoint,
        Err(error) => return Outcome::Failure(format!("error: failed to connect service at {address:?}: {error}")),
    };
    let mut connected = false;
    let asked = timeout(limit, async {
        let channel = connect(&endpoint).await;
        connected = true;
        health::check(channel, service).await
    });
    let seconds = limit.as_secs();
    match asked.await {
        Err(_) if connected => Outcome::Failure(format!("timeout: health rpc did not complete within {seconds}s")),
        Err(_) => Outcome::Failure(format!("timeout: failed to connect service {address:?} within {seconds}s: context deadline exceeded")),
        Ok(Ok(ServingStatus::Serving)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with {:?})", status.as_str())),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Ok(Err(status)) => {
            Outcome::Failure(format!("error: health rpc probe failed: rpc error: code = {:?} desc = {}", status.code(), status.message()))
        }
    }
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?.user_agent(http_get::user_agent("probe"))
}

async fn connect(endpoint: &Endpoint) -> Channel {
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(_) => sleep(RETRY).await,
        }
    }
}
