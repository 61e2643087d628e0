//! Connections from a node through ClusterIPs, one after the other, until the right endpoint answers.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::place::{Place, Scope};

/// A connection that gets no answer within this time is given up, and another one made: its first packet may have come before the
/// rules, and TCP would not try again for a second. An answer takes a tenth of a millisecond here.
const ANSWER: Duration = Duration::from_millis(20);

/// The same for one that must succeed.
const PATIENT: Duration = Duration::from_secs(5);

/// What was asked, and when the right answer came.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// When the first connection was answered by the wanted endpoint.
    pub at: Instant,
    /// Connections before it that were refused or not answered at all.
    pub failed: usize,
}

/// Connects through `service` until one of `wanted` answers.
pub async fn until_answered(place: &Place, service: SocketAddr, wanted: Vec<Ipv4Addr>, patience: Duration) -> Result<Answered> {
    let shown = format!("an answer of {wanted:?} through {service}");
    let answered = place.enter_async(Scope::Network, move || ask_until(service, &wanted, patience)).await?;
    answered.map_err(|last| Error::Other(format!("waited {patience:?} for {shown}; last seen: {last}")))
}

/// Connects through each of `services` until all have been answered by an endpoint of theirs; gives when the last one was.
pub async fn until_all_answered(place: &Place, services: Vec<(SocketAddr, Vec<Ipv4Addr>)>, patience: Duration) -> Result<Instant> {
    let all = move || {
        let mut at = Instant::now();
        for (service, wanted) in services {
            at = ask_until(service, &wanted, patience).map_err(|last| format!("{service}: {last}"))?.at;
        }
        Ok(at)
    };
    let answered: std::result::Result<Instant, String> = place.enter_async(Scope::Network, all).await?;
    answered.map_err(|last| Error::Other(format!("waited {patience:?} for an answer through {last}")))
}

/// How long each of so many connections to an address takes, from the first packet to the answer of the other side's kernel.
pub async fn connection_times(place: &Place, to: SocketAddr, count: usize) -> Result<Vec<Duration>> {
    let all = move || -> std::io::Result<Vec<Duration>> {
        let one = |_| {
            let start = Instant::now();
            let stream = TcpStream::connect_timeout(&to, PATIENT)?;
            let taken = start.elapsed();
            setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
            Ok(taken)
        };
        (0..count).map(one).collect()
    };
    place.enter_async(Scope::Network, all).await?.map_err(|error| Error::Other(format!("connecting to {to}: {error}")))
}

/// The pauses between connections grow with the time that has passed, by a fiftieth of it: a slow change is measured as exactly as
/// a fast one, and the asking takes no CPU that the one who is asked about would need.
fn ask_until(service: SocketAddr, wanted: &[Ipv4Addr], patience: Duration) -> std::result::Result<Answered, String> {
    let start = Instant::now();
    let mut failed = 0;
    loop {
        let last = match ask(service) {
            Ok(answer) if wanted.contains(&answer) => return Ok(Answered { at: Instant::now(), failed }),
            Ok(answer) => answer.to_string(),
            Err(error) => {
                failed += 1;
                error.to_string()
            }
        };
        if start.elapsed() > patience {
            return Err(last);
        }
        std::thread::sleep((start.elapsed() / 50).clamp(Duration::from_micros(100), Duration::from_millis(10)));
    }
}

/// One connection; gives the address of the endpoint that answered.
fn ask(service: SocketAddr) -> std::io::Result<Ipv4Addr> {
    let mut stream = TcpStream::connect_timeout(&service, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    // Closed by a reset: thousands of connections a second leave no ports in TIME_WAIT.
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    Ok(answer.into())
}
