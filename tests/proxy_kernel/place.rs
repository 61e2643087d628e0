//! A network namespace beside the host's: a pod, or a machine outside of the cluster.
#![allow(clippy::disallowed_methods, reason = "tests wait")]

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use kubelet_rs::sys::netns;
use nix::unistd::{Pid, gettid};
use tokio::time::Instant;

/// Runs closures on a thread that lives in a namespace of its own.
pub struct Place {
    pub thread: Pid,
    work: Sender<Box<dyn FnOnce() + Send>>,
}

impl Place {
    pub fn new() -> Self {
        let (work, jobs) = channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = channel();
        thread::spawn(move || {
            netns::in_new_namespace(move || {
                tell.send(gettid()).unwrap();
                jobs.into_iter().for_each(|job| job());
            })
        });
        Self { thread: told.recv().expect("a network namespace of one's own: these tests need root"), work }
    }

    /// Runs something there and waits for it.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.work.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told.recv().expect("the job panicked")
    }

    /// Asks a TCP server from there.
    pub fn ask(&self, to: SocketAddr) -> Result<Answer, ErrorKind> {
        self.run(move || ask(to))
    }

    /// Serves TCP and UDP on a port, telling each client its own address and `name`.
    pub fn serve(&self, ip: IpAddr, port: u16, name: &str) {
        let name = name.to_string();
        self.run(move || {
            let listener = TcpListener::bind((ip, port)).unwrap();
            let tcp_name = name.clone();
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let text = format!("{} {tcp_name}\n", stream.peer_addr().unwrap().ip());
                    let _ = stream.write_all(text.as_bytes());
                    // Echoes until the client closes.
                    thread::spawn(move || {
                        let mut buffer = [0; 64];
                        while let Ok(len) = stream.read(&mut buffer) {
                            if len == 0 || stream.write_all(&buffer[..len]).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
            let socket = UdpSocket::bind((ip, port)).unwrap();
            thread::spawn(move || {
                let mut question = [0; 4];
                while let Ok((_, from)) = socket.recv_from(&mut question) {
                    let _ = socket.send_to(&[&question, format!("{} {name}", from.ip()).as_bytes()].concat(), from);
                }
            });
        });
    }
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The client's address as the server sees it.
    pub client: IpAddr,
    /// The server's name.
    pub server: String,
}

impl Answer {
    pub fn parse(text: &str) -> Self {
        let (client, server) = text.trim().split_once(' ').unwrap();
        Self { client: client.parse().unwrap(), server: server.to_string() }
    }
}

/// Asks a TCP server.
pub fn ask(to: SocketAddr) -> Result<Answer, ErrorKind> {
    open(to).map(|(_, answer)| answer)
}

/// The same, with another patience than two seconds.
pub fn ask_within(to: SocketAddr, patience: Duration) -> Result<Answer, ErrorKind> {
    open_within(to, patience).map(|(_, answer)| answer)
}

/// Asks a TCP server and keeps the connection.
pub fn open(to: SocketAddr) -> Result<(TcpStream, Answer), ErrorKind> {
    open_within(to, Duration::from_secs(2))
}

fn open_within(to: SocketAddr, patience: Duration) -> Result<(TcpStream, Answer), ErrorKind> {
    let mut stream = TcpStream::connect_timeout(&to, patience).map_err(|e| e.kind())?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(|e| e.kind())?;
        text.push(byte[0]);
    }
    Ok((stream, Answer::parse(std::str::from_utf8(&text).unwrap())))
}

/// A UDP client that keeps its socket, and with it its flow. It numbers its questions: a late answer is not taken for a new one.
pub struct UdpClient(UdpSocket, Cell<u32>);

impl UdpClient {
    pub fn new(to: SocketAddr) -> Self {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.connect(to).unwrap();
        Self(socket, Cell::new(0))
    }

    /// Asks until there is an answer or a refusal: again and again, as UDP clients do, for five seconds.
    pub fn ask(&self) -> Result<Answer, ErrorKind> {
        self.1.set(self.1.get() + 1);
        let question = self.1.get().to_be_bytes();
        let begin = Instant::now();
        loop {
            match self.ask_once(question) {
                Err(ErrorKind::WouldBlock) if begin.elapsed() < Duration::from_secs(5) => {}
                result => return result,
            }
        }
    }

    fn ask_once(&self, question: [u8; 4]) -> Result<Answer, ErrorKind> {
        self.0.send(&question).map_err(|e| e.kind())?;
        let mut buffer = [0; 64];
        loop {
            let len = self.0.recv(&mut buffer).map_err(|e| e.kind())?;
            if let Some(text) = buffer[..len].strip_prefix(&question) {
                return Ok(Answer::parse(std::str::from_utf8(text).unwrap()));
            }
        }
    }
}

/// Tries until it holds, for half a minute.
pub fn eventually<T: std::fmt::Debug>(what: &str, mut attempt: impl FnMut() -> T, holds: impl Fn(&T) -> bool) {
    succeeds(what, || {
        let value = attempt();
        if holds(&value) { Ok(()) } else { Err(value) }
    });
}

/// Tries until it succeeds, for half a minute.
pub fn succeeds<T, E: std::fmt::Debug>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(30), "{what}: {error:?}"),
        }
        thread::sleep(Duration::from_millis(30));
    }
}
