//! From a configured endpoint to a connection.

use http::Uri;
use tonic::transport::{Channel, Endpoint};

/// HTTP/2 windows. The peer sends no more than this ahead of us, so they bound what a burst of answers makes the agent keep;
/// on a local socket a round trip for more costs nothing.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;

/// Why an endpoint of the configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {endpoint:?} is not the address of a unix socket; write it as unix:///run/containerd/containerd.sock")]
pub struct EndpointError {
    /// The field of the configuration.
    pub field: &'static str,
    /// What it holds.
    pub endpoint: String,
}

/// A lazy connection. It is made anew by the first call after it broke; a call on a socket that is not there fails at once, which
/// costs one system call, so there is nothing to back off from here.
pub(super) fn channel(field: &'static str, endpoint: &str) -> Result<Channel, EndpointError> {
    let error = || EndpointError { field, endpoint: endpoint.to_owned() };
    let path = socket_path(endpoint).ok_or_else(error)?;
    let endpoint = Endpoint::from_shared(format!("unix://{path}")).map_err(|_| error())?;
    // Servers written in Go refuse requests whose authority is a path.
    let endpoint = endpoint.origin(Uri::from_static("http://localhost"));
    let endpoint = endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    Ok(endpoint.connect_lazy())
}

fn socket_path(endpoint: &str) -> Option<&str> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    (path.starts_with('/') && path.len() > 1 && !path.contains(['\0', '?', '#'])).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (endpoint, path) in [
            ("unix:///run/c.sock", Some("/run/c.sock")),
            ("/run/c.sock", Some("/run/c.sock")),
            ("unix://run/c.sock", None),
            ("run/c.sock", None),
            ("tcp://127.0.0.1:1", None),
            ("unix:///", None),
            ("", None),
        ] {
            assert_eq!(socket_path(endpoint), path, "{endpoint}");
        }
    }
}
