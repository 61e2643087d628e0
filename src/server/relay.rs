//! Moving bytes both ways between two connections.

use std::io;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, sleep_until};

/// Bytes in flight in each direction: two of these live as long as somebody's shell is open.
const BUFFER: usize = 4096;
/// When one side has said all it had to say, how long the other may stay silent before both are closed.
const LINGER: Duration = Duration::from_secs(30);

/// Relays until both sides have ended, one has broken, or nothing has moved for `idle`. That one side has ended is no error:
/// the rest of what the other has to say still arrives.
pub async fn relay(a: impl AsyncRead + AsyncWrite, b: impl AsyncRead + AsyncWrite, idle: Duration) {
    let (from_a, to_a) = split(a);
    let (from_b, to_b) = split(b);
    let clock = Clock(Mutex::new((Instant::now(), idle)));
    let mut up = pin!(pump(from_a, to_b, &clock));
    let mut down = pin!(pump(from_b, to_a, &clock));
    let both = async {
        let first_ended_well = tokio::select! {
            ended = &mut up => (ended.is_ok(), true),
            ended = &mut down => (ended.is_ok(), false),
        };
        clock.linger();
        // How the second one ends changes nothing.
        let _ = match first_ended_well {
            (true, true) => down.await,
            (true, false) => up.await,
            (false, _) => Ok(()),
        };
    };
    tokio::select! {
        () = both => {}
        () = clock.silence() => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, clock: &Clock) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..n]).await?;
        to.flush().await?;
        clock.moved();
    }
}

/// When something last moved, and how long silence may last.
struct Clock(Mutex<(Instant, Duration)>);

impl Clock {
    fn with<T>(&self, f: impl FnOnce(&mut (Instant, Duration)) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn moved(&self) {
        self.with(|(last, _)| *last = Instant::now());
    }

    fn linger(&self) {
        self.with(|(last, idle)| {
            *last = Instant::now();
            *idle = LINGER.min(*idle);
        });
    }

    /// Returns when silence has lasted too long.
    async fn silence(&self) {
        loop {
            let (last, idle) = self.with(|state| *state);
            if last + idle <= Instant::now() {
                return;
            }
            // The limit may become shorter meanwhile; looking every LINGER is often enough and costs nothing.
            sleep_until((last + idle).min(Instant::now() + LINGER)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn half_close_lets_the_rest_through() {
        let (mut client, a) = duplex(64);
        let (b, mut server) = duplex(64);
        let task = tokio::spawn(relay(a, b, HOUR));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        server.write_all(b"the answer comes after the client's end").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "the answer comes after the client's end");
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (mut client, a) = duplex(64);
        let (b, mut server) = duplex(64);
        let started = Instant::now();
        let task = tokio::spawn(relay(a, b, HOUR));
        tokio::time::sleep(HOUR / 2).await;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        task.await.unwrap();
        assert!((HOUR * 3 / 2..HOUR * 3 / 2 + LINGER).contains(&started.elapsed()), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_ended_is_not_waited_for_long() {
        let (mut client, a) = duplex(64);
        let (b, _server) = duplex(64);
        let started = Instant::now();
        let task = tokio::spawn(relay(a, b, HOUR));
        client.shutdown().await.unwrap();
        task.await.unwrap();
        assert!(started.elapsed() <= LINGER * 2, "{:?}", started.elapsed());
    }
}
