//! gRPC's health check, `grpc.health.v1`, as far as a client needs it.

use http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// What is asked.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

/// What a server says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ServingStatus {
    /// It does not know.
    Unknown = 0,
    /// It works.
    Serving = 1,
    /// It doesn't.
    NotServing = 2,
    /// There is no such service.
    ServiceUnknown = 3,
}

impl ServingStatus {
    /// As the protocol spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// Asks for the status of a service; an empty name stands for the server as a whole.
pub async fn check(channel: Channel, service: &str) -> Result<ServingStatus, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let answer = client.unary(request, path, ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default()).await?;
    Ok(answer.into_inner().status())
}
