//! What is asked for: an HTTPGetAction of the API made concrete (upstream: `pkg/probe/http/request.go`).

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Empty;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// TLS or not.
    pub https: bool,
    /// Name or address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers as given, in order.
    pub headers: Vec<(String, String)>,
    /// The User-Agent, unless `headers` holds one.
    pub user_agent: String,
}

/// `kube-<purpose>/<major>.<minor>`.
pub fn user_agent(purpose: &str) -> String {
    let version = crate::config::KUBERNETES_VERSION.trim_start_matches('v');
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    format!("kube-{purpose}/{minor}")
}

impl Get {
    /// Of an action on a container whose pod has this address.
    pub fn of(action: &HTTPGetAction, container: &Container, pod_ip: &str, purpose: &str) -> Result<Self, String> {
        Ok(Self {
            https: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned()),
            port: port(&action.port, container)?,
            path: action.path.clone().unwrap_or_default(),
            headers: action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
            user_agent: user_agent(purpose),
        })
    }

    /// For people.
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", join(&self.host, self.port), target(&self.path))
    }

    /// The request's head.
    pub(super) fn request(&self) -> Result<Request<Empty<Bytes>>, String> {
        let mut request = Request::get(target(&self.path)).body(Empty::new()).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            let bad = || format!("net/http: invalid header field {name:?}: {value:?}");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| bad())?);
        }
        if headers.get(HOST).is_none_or(HeaderValue::is_empty) {
            let text = join(&self.host, self.port);
            let host = HeaderValue::from_str(&text).map_err(|_| format!("invalid character in host name {text:?}"))?;
            headers.insert(HOST, host);
        }
        let agent = HeaderValue::from_str(&self.user_agent).map_err(|error| error.to_string())?;
        for (name, usual) in [(USER_AGENT, agent), (ACCEPT, HeaderValue::from_static("*/*"))] {
            match headers.get(&name) {
                None => drop(headers.insert(name, usual)),
                // Somebody who writes an empty one wants none.
                Some(value) if value.is_empty() => drop(headers.remove(name)),
                Some(_) => {}
            }
        }
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        Ok(request)
    }
}

/// A port by number, or by the name that one of the container's ports has.
pub fn port(wanted: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match wanted {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    let found = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    found.ok_or_else(|| match (wanted, number) {
        (IntOrString::String(name), None) => format!("couldn't find port: {name:?} in container {:?}", container.name),
        _ => format!("invalid port number: {}", number.unwrap_or_default()),
    })
}

/// `host:port`, an IPv6 address in brackets.
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A path as it may stand in a request: with a slash in front, without a fragment, and what is no part of a URL in percent signs.
fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut out = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=0x1f | 0x7f.. => {
                out.push_str(&format!("%{byte:02X}"))
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}
