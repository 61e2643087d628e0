//! The wire: Kubernetes' protobuf envelope, and the messages with only the fields that are read.
//!
//! Field numbers are those of `k8s.io/api/core/v1`, `k8s.io/api/discovery/v1` and `k8s.io/apimachinery` (`generated.proto`).

use std::collections::HashMap;

use super::DecodeError;

const MAGIC: &[u8; 4] = b"k8s\0";

/// Whether the bytes start as an enveloped object does.
pub fn is_enveloped(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The object inside `k8s\0` + `runtime.Unknown`.
pub fn unwrap(body: &[u8]) -> Result<&[u8], DecodeError> {
    let unknown = body.strip_prefix(MAGIC).ok_or(DecodeError::NotProtobuf)?;
    Ok(field(unknown, 2)?.unwrap_or_default())
}

/// The first length-delimited field with the given number.
pub fn field(message: &[u8], number: u32) -> Result<Option<&[u8]>, DecodeError> {
    for entry in Fields(message) {
        match entry? {
            (n, bytes) if n == number => return Ok(Some(bytes)),
            _ => {}
        }
    }
    Ok(None)
}

/// Namespace and name in an object's metadata as far as they can be read, for messages about the rest of it.
pub fn name_in(object: &[u8]) -> String {
    let meta = field(object, 1).ok().flatten().unwrap_or_default();
    let text = |number| field(meta, number).ok().flatten().map(String::from_utf8_lossy).unwrap_or_default();
    format!("{}/{}", text(3), text(1))
}

/// The length-delimited fields of a message, in place; scalar fields are stepped over.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn step(&mut self) -> Option<Option<(u32, &'a [u8])>> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok()?;
        match key & 7 {
            0 => self.varint().map(|_| None),
            1 => self.take(8).map(|_| None),
            5 => self.take(4).map(|_| None),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.take(length).map(|bytes| Some((number, bytes)))
            }
            _ => None, // groups are not used by Kubernetes
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.step() {
                Some(Some(entry)) => return Some(Ok(entry)),
                Some(None) => {}
                None => {
                    self.0 = &[];
                    return Some(Err(DecodeError::Truncated));
                }
            }
        }
        None
    }
}

/// `meta/v1.ListMeta`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListMeta {
    #[prost(string, tag = "2")]
    pub resource_version: String,
}

/// `meta/v1.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(string, tag = "3")]
    pub message: String,
    #[prost(string, tag = "4")]
    pub reason: String,
    #[prost(int32, tag = "6")]
    pub code: i32,
}

/// Any object, for bookmarks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Bookmark {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<BookmarkMeta>,
}

/// `meta/v1.ObjectMeta` as bookmarks carry it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BookmarkMeta {
    #[prost(string, tag = "6")]
    pub resource_version: String,
}

/// `meta/v1.ObjectMeta`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ObjectMeta {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
    #[prost(string, tag = "6")]
    pub resource_version: String,
    #[prost(map = "string, string", tag = "11")]
    pub labels: HashMap<String, String>,
}

/// The same of an EndpointSlice, with annotations: it has few and short ones, unlike what people write by hand.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SliceMeta {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
    #[prost(string, tag = "6")]
    pub resource_version: String,
    #[prost(map = "string, string", tag = "11")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "12")]
    pub annotations: HashMap<String, String>,
}

/// `core/v1.Service`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Service {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub spec: Option<ServiceSpec>,
    #[prost(message, optional, tag = "3")]
    pub status: Option<ServiceStatus>,
}

/// `core/v1.ServiceSpec`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceSpec {
    #[prost(message, repeated, tag = "1")]
    pub ports: Vec<ServicePort>,
    #[prost(string, tag = "3")]
    pub cluster_ip: String,
    #[prost(string, tag = "4")]
    pub r#type: String,
    #[prost(string, repeated, tag = "5")]
    pub external_ips: Vec<String>,
    #[prost(string, tag = "7")]
    pub session_affinity: String,
    #[prost(string, repeated, tag = "9")]
    pub load_balancer_source_ranges: Vec<String>,
    #[prost(string, tag = "11")]
    pub external_traffic_policy: String,
    #[prost(int32, tag = "12")]
    pub health_check_node_port: i32,
    #[prost(message, optional, tag = "14")]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    #[prost(string, repeated, tag = "18")]
    pub cluster_ips: Vec<String>,
    #[prost(string, tag = "22")]
    pub internal_traffic_policy: String,
}

/// `core/v1.SessionAffinityConfig`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionAffinityConfig {
    #[prost(message, optional, tag = "1")]
    pub client_ip: Option<ClientIpConfig>,
}

/// `core/v1.ClientIPConfig`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientIpConfig {
    #[prost(int32, optional, tag = "1")]
    pub timeout_seconds: Option<i32>,
}

/// `core/v1.ServiceStatus`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceStatus {
    #[prost(message, optional, tag = "1")]
    pub load_balancer: Option<LoadBalancerStatus>,
}

/// `core/v1.LoadBalancerStatus`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadBalancerStatus {
    #[prost(message, repeated, tag = "1")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// `core/v1.LoadBalancerIngress`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadBalancerIngress {
    #[prost(string, tag = "1")]
    pub ip: String,
    #[prost(string, optional, tag = "3")]
    pub ip_mode: Option<String>,
}

/// `core/v1.ServicePort`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServicePort {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub protocol: String,
    #[prost(int32, tag = "3")]
    pub port: i32,
    #[prost(int32, tag = "5")]
    pub node_port: i32,
}

/// `discovery/v1.EndpointSlice`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndpointSlice {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<SliceMeta>,
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<Endpoint>,
    #[prost(message, repeated, tag = "3")]
    pub ports: Vec<EndpointPort>,
    #[prost(string, tag = "4")]
    pub address_type: String,
}

/// `discovery/v1.Endpoint`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Endpoint {
    #[prost(string, repeated, tag = "1")]
    pub addresses: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub conditions: Option<EndpointConditions>,
    #[prost(string, optional, tag = "6")]
    pub node_name: Option<String>,
    #[prost(message, optional, tag = "8")]
    pub hints: Option<EndpointHints>,
}

/// `discovery/v1.EndpointHints`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndpointHints {
    #[prost(message, repeated, tag = "1")]
    pub for_zones: Vec<ForWhom>,
    #[prost(message, repeated, tag = "2")]
    pub for_nodes: Vec<ForWhom>,
}

/// `discovery/v1.ForZone` and `ForNode`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ForWhom {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `discovery/v1.EndpointConditions`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndpointConditions {
    #[prost(bool, optional, tag = "1")]
    pub ready: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub serving: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub terminating: Option<bool>,
}

/// `discovery/v1.EndpointPort`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndpointPort {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub protocol: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub port: Option<i32>,
}
