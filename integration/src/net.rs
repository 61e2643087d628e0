//! Connections made inside a place by a process that stays outside: a socket belongs to the network it was made in.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Doing as _, Error, Result};

type EnterNetwork = Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>;

/// Connects from inside one place.
#[derive(Clone)]
pub struct Connector {
    place: String,
    enter: EnterNetwork,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Connector({})", self.place)
    }
}

impl Connector {
    pub(crate) fn new(place: String, enter: EnterNetwork) -> Self {
        Self { place, enter }
    }

    /// Runs a job on a thread inside the place's network.
    async fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
        let (answer, result) = tokio::sync::oneshot::channel();
        let enter = Arc::clone(&self.enter);
        std::thread::spawn(move || answer.send(enter().and_then(|()| job())));
        result.await.map_err(|_| std::io::Error::other("the connecting thread panicked"))?
    }

    /// Opens a TCP connection.
    pub async fn tcp(&self, address: SocketAddr, deadline: Duration) -> std::io::Result<tokio::net::TcpStream> {
        let stream = self.inside(move || TcpStream::connect_timeout(&address, deadline)).await?;
        stream.set_nonblocking(true)?;
        // As every client of an API server has it: else the second part of a request may wait 40 ms for the answer to the first one.
        stream.set_nodelay(true)?;
        tokio::net::TcpStream::from_std(stream)
    }

    /// One HTTP GET on a fresh connection; gives the body.
    pub async fn http(&self, address: SocketAddr, path: &str, deadline: Duration) -> Result<String> {
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let answer = self.inside(move || {
            let mut stream = TcpStream::connect_timeout(&address, deadline)?;
            stream.set_read_timeout(Some(deadline))?;
            stream.set_write_timeout(Some(deadline))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = answer.await.doing(|| format!("GET http://{address}{path} from {}", self.place))?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200") => Ok(body.trim().to_owned()),
            _ => Err(Error::Other(format!(
                "GET http://{address}{path} from {}: {}",
                self.place,
                answer.lines().next().unwrap_or("no answer")
            ))),
        }
    }

    /// One UDP packet there and one back, from a fresh port.
    pub async fn udp(&self, address: SocketAddr, message: &str, deadline: Duration) -> Result<String> {
        let message = message.to_owned();
        let answer = self.inside(move || {
            let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(deadline))?;
            socket.connect(address)?;
            socket.send(message.as_bytes())?;
            let mut packet = [0; 2048];
            let length = socket.recv(&mut packet)?;
            Ok(String::from_utf8_lossy(packet.get(..length).unwrap_or_default()).trim().to_owned())
        });
        answer.await.doing(|| format!("a UDP packet to {address} from {}", self.place))
    }
}
