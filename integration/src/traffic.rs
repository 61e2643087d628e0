//! Questions asked without a pause while something is being done to the cluster: each one must be answered.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Result};
use crate::net::Connector;

/// An answer may be slow on a busy machine; one that does not come was lost. A refusal or a reset counts at once.
const LOST: Duration = Duration::from_secs(10);

/// Two streams of questions to one address: each on a fresh connection, and all on one old connection.
pub struct Traffic {
    end: watch::Sender<bool>,
    fresh: JoinHandle<Tally>,
    old: JoinHandle<Tally>,
}

#[derive(Default)]
struct Tally {
    answered: usize,
    failures: Vec<String>,
}

impl Traffic {
    /// Starts asking.
    pub fn start(connector: &Connector, address: SocketAddr) -> Self {
        let (end, ended) = watch::channel(false);
        let fresh = tokio::spawn(ask_on_fresh_connections(connector.clone(), address, ended.clone()));
        let old = tokio::spawn(ask_on_one_connection(connector.clone(), address, ended));
        Self { end, fresh, old }
    }

    /// Stops asking: an error if a question was not answered, or if there were too few to prove anything.
    pub async fn stop(self) -> Result<()> {
        self.end.send_replace(true);
        for (name, task) in [("fresh connections", self.fresh), ("one connection", self.old)] {
            let tally = task.await.map_err(|error| Error::Other(error.to_string()))?;
            if !tally.failures.is_empty() {
                return Err(Error::Other(format!(
                    "{} of {} questions on {name} failed: {}",
                    tally.failures.len(),
                    tally.answered + tally.failures.len(),
                    tally.failures.join("; ")
                )));
            }
            if tally.answered < 10 {
                return Err(Error::Other(format!("only {} questions were asked on {name}", tally.answered)));
            }
        }
        Ok(())
    }
}

async fn ask_on_fresh_connections(connector: Connector, address: SocketAddr, end: watch::Receiver<bool>) -> Tally {
    let start = Instant::now();
    let mut tally = Tally::default();
    while !*end.borrow() {
        match connector.http(address, "/", LOST).await {
            Ok(_) => tally.answered += 1,
            Err(error) => tally.failures.push(format!("after {:.2} s: {error}", start.elapsed().as_secs_f64())),
        }
        sleep(Duration::from_millis(20)).await;
    }
    tally
}

async fn ask_on_one_connection(connector: Connector, address: SocketAddr, end: watch::Receiver<bool>) -> Tally {
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut stream = match connector.tcp(address, LOST).await {
        Ok(stream) => stream,
        Err(error) => {
            tally.failures.push(error.to_string());
            return tally;
        }
    };
    while !*end.borrow() {
        match timeout(LOST, ask(&mut stream)).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(()) => tally.answered += 1,
            Err(error) => {
                tally.failures.push(format!("after {:.2} s: {error}", start.elapsed().as_secs_f64()));
                break;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    tally
}

/// One GET whose answer fits a packet.
async fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await?;
    let mut packet = [0; 2048];
    let length = stream.read(&mut packet).await?;
    let answer = packet.get(..length).unwrap_or_default();
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other(String::from_utf8_lossy(answer).into_owned())) }
}
