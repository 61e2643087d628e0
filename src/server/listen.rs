//! Listening sockets and the loop that takes connections off them.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections that wait for the agent to take them.
const BACKLOG: u32 = 128;
/// How long to leave the listener alone when it fails, mostly because there are no file descriptors left.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens. Like upstream's, `0.0.0.0` means every address of both families, where the host has IPv6.
pub fn bind(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    if address.is_unspecified()
        && let Ok(listener) = bind_socket(Ipv6Addr::UNSPECIFIED.into(), port)
    {
        return Ok(listener);
    }
    bind_socket(address, port)
}

fn bind_socket(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = match address {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() && address.is_unspecified() {
        setsockopt(&socket, Ipv6V6Only, &false)?;
    }
    // Connections of the agent before this one may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(BACKLOG)
}

/// Serves connections for ever, no more than `limit` at a time: others wait. Dropping the future ends all of them.
pub async fn serve<F>(listener: TcpListener, limit: usize, mut connection: impl FnMut(TcpStream, IpAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(limit));
    let mut open = JoinSet::new();
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let accepted = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted,
                Some(_) = open.join_next() => {}
            }
        };
        match accepted {
            Ok((tcp, peer)) => {
                let serving = connection(tcp, peer.ip().to_canonical());
                open.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't take a connection, trying again in {PAUSE:?}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn unspecified_means_both_families() {
        let listener = bind("0.0.0.0".parse().unwrap(), 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            if address.is_ipv6() && TcpListener::bind((address, 0)).await.is_err() {
                continue;
            }
            TcpStream::connect((address, port)).await.unwrap();
            assert_eq!(listener.accept().await.unwrap().1.ip().to_canonical(), address);
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() {
        let first = bind("127.0.0.1".parse().unwrap(), 0).unwrap();
        let error = bind("127.0.0.1".parse().unwrap(), first.local_addr().unwrap().port()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait() {
        let listener = bind("127.0.0.1".parse().unwrap(), 0).unwrap();
        let address = listener.local_addr().unwrap();
        let echo = |mut tcp: TcpStream, _| async move {
            let mut byte = [0];
            if tcp.read_exact(&mut byte).await.is_ok() {
                let _ = tcp.write_all(&byte).await;
            }
        };
        let server = tokio::spawn(serve(listener, 1, echo));
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"2").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), second.read_u8()).await;
        assert!(early.is_err(), "served beyond the limit");
        first.write_all(b"1").await.unwrap();
        assert_eq!((first.read_u8().await.unwrap(), second.read_u8().await.unwrap()), (b'1', b'2'));
        server.abort();
    }
}
