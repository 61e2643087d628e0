//! Packets take the way that the rules say. Backends are addresses of loopback; the way to virtual addresses leads to a cable whose other
//! end nobody holds, because the kernel sends no ICMP for packets that it refuses on their way to loopback.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kubelet_rs::nft::value::{TCP, UDP};
use kubelet_rs::nft::{Concat, Element, Expr, Family, Name, Netfilter, Rule, Transaction, Value, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::host::{in_namespace, run};
use crate::rulesets::{MARK, add_service, backend, backend_key, key, layout, table, target, vip};

const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// Gives loopback the backends' addresses and a way to virtual addresses.
fn addresses(family: Family) {
    let (flag, prefix, vips) = match family {
        Family::Ip => ("-4", 32, "10.96.0.0/16"),
        Family::Ip6 => ("-6", 128, "fd00:96::/64"),
    };
    for n in 1..=4 {
        let addr = format!("{}/{prefix}", backend(family, n));
        let nodad: &[&str] = if family == Family::Ip6 { &["nodad"] } else { &[] };
        run("ip", &[&[flag, "addr", "add", &*addr, "dev", "lo"], nodad].concat());
    }
    run("ip", &["link", "add", "cable0", "type", "veth", "peer", "name", "cable1"]);
    run("ip", &["link", "set", "cable0", "up"]);
    run("ip", &["link", "set", "cable1", "up"]);
    let source = backend(family, 1).to_string();
    run("ip", &[flag, "route", "add", vips, "dev", "cable0", "src", &source]);
}

/// A server that tells each client the client's address as it sees it, and its own.
async fn serve(addr: IpAddr, port: u16) {
    let listener = TcpListener::bind((addr, port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let text = format!("{} {addr}", peer.ip());
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
}

/// Client's address as the server sees it, and the server's address; or why there was no connection.
async fn ask(to: impl Into<SocketAddr>) -> Result<(IpAddr, IpAddr), ErrorKind> {
    let attempt = async {
        let mut stream = TcpStream::connect(to.into()).await.map_err(|error| error.kind())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(|error| error.kind())?;
        let (client, server) = text.split_once(' ').unwrap();
        Ok((client.parse().unwrap(), server.parse().unwrap()))
    };
    // ICMP that comes while connect() holds the socket is lost: the answer to the second SYN, after a second, is the first that counts.
    tokio::time::timeout(Duration::from_secs(10), attempt).await.unwrap_or(Err(ErrorKind::TimedOut))
}

#[test]
fn a_virtual_address_leads_to_its_backends() {
    for family in FAMILIES {
        in_namespace(async move |mut kernel| {
            addresses(family);
            let (one, two) = (backend(family, 2), backend(family, 3));
            for addr in [one, two] {
                serve(addr, 8080).await;
            }
            let ip = vip(family, 1);
            let mut tx = layout(family, 2);
            add_service(&mut tx, ip, 80, &[(one, 8080), (two, 8080)]);
            kernel.apply(&tx).await.unwrap();
            let mut seen = HashSet::new();
            for _ in 0..64 {
                seen.insert(ask((ip, 80)).await.unwrap().1);
            }
            assert_eq!(seen, HashSet::from([one, two]), "64 connections to 2 backends");
            // One backend goes, the next connection takes the other.
            let ep2: Name = "ep2".into();
            let mut tx = Transaction::new(table(family));
            tx.delete_element(&ep2, Element::key(backend_key(ip, TCP, 80, 0)));
            tx.add_element(&ep2, Element::value(backend_key(ip, TCP, 80, 0), target(two, 8080)));
            kernel.apply(&tx).await.unwrap();
            for _ in 0..16 {
                assert_eq!(ask((ip, 80)).await.unwrap().1, two);
            }
        });
    }
}

#[test]
fn refused_dropped_and_wrong_ports() {
    for family in FAMILIES {
        in_namespace(async move |mut kernel| {
            addresses(family);
            serve(backend(family, 2), 8080).await;
            let (good, empty, dropped) = (vip(family, 1), vip(family, 2), vip(family, 3));
            let mut tx = layout(family, 2);
            add_service(&mut tx, good, 80, &[(backend(family, 2), 8080)]);
            let none: Name = "no-endpoint-services".into();
            tx.add_element(&none, Element::verdict(key(empty, TCP, 80), Verdict::goto("reject-chain")));
            tx.add_element(&none, Element::verdict(key(empty, UDP, 53), Verdict::goto("reject-chain")));
            tx.add_element(&none, Element::verdict(key(dropped, TCP, 80), Verdict::Drop));
            kernel.apply(&tx).await.unwrap();
            assert_eq!(ask((good, 80)).await.unwrap().1, backend(family, 2));
            assert_eq!(ask((empty, 80)).await, Err(ErrorKind::ConnectionRefused), "no backends, {family}");
            assert_eq!(ask((good, 81)).await, Err(ErrorKind::ConnectionRefused), "a port that the Service doesn't have");
            // What the output hook drops is an error of the call that sends, or silence.
            assert!(matches!(ask((dropped, 80)).await, Err(ErrorKind::TimedOut | ErrorKind::PermissionDenied)));
            let socket = UdpSocket::bind((backend(family, 1), 0)).await.unwrap();
            socket.connect((empty, 53)).await.unwrap();
            // The call itself fails, because the packet went nowhere; the ICMP answer comes too.
            assert_eq!(socket.send(b"question").await.map_err(|error| error.kind()), Err(ErrorKind::PermissionDenied));
            let answer = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut [0; 16])).await.unwrap();
            assert_eq!(answer.map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
        });
    }
}

#[test]
fn marked_connections_and_hairpins_are_masqueraded() {
    for family in FAMILIES {
        in_namespace(async move |mut kernel| {
            addresses(family);
            let server = backend(family, 2);
            serve(server, 8080).await;
            let (marked, hairpin) = (vip(family, 1), vip(family, 2));
            let mut tx = layout(family, 2);
            add_service(&mut tx, marked, 80, &[(server, 8080)]);
            add_service(&mut tx, hairpin, 80, &[(server, 8080)]);
            kernel.apply(&tx).await.unwrap();
            let from = TcpListener::bind((backend(family, 4), 0)).await.unwrap().local_addr().unwrap().ip();
            assert_eq!(ask((marked, 80)).await.unwrap(), (backend(family, 1), server));
            // A client with another address: masquerading gives it the one that loopback would use.
            let own = ask_from(from, (marked, 80)).await;
            assert_eq!(own, (from, server));
            let mut tx = Transaction::new(table(family));
            tx.flush_chain("services");
            let to_marked = Rule::new().is(Expr::Daddr, marked);
            tx.add_rule("services", to_marked.then(kubelet_rs::nft::Statement::SetMark { and: !MARK, xor: MARK }));
            tx.add_rule("services", Rule::new().vmap(crate::rulesets::CONNECTION, "service-ips"));
            let pair = Concat::of(&[from.into(), server.into(), Value::Proto(TCP), Value::Port(8080)]);
            tx.add_element(&"hairpin-connections".into(), Element::key(pair));
            kernel.apply(&tx).await.unwrap();
            assert_ne!(ask_from(from, (marked, 80)).await.0, from, "marked");
            assert_ne!(ask_from(from, (hairpin, 80)).await.0, from, "hairpin");
            assert_eq!(ask((hairpin, 80)).await.unwrap().0, backend(family, 1), "neither");
        });
    }
}

/// Like [`ask`], from one of the own addresses.
async fn ask_from(from: IpAddr, to: (IpAddr, u16)) -> (IpAddr, IpAddr) {
    let socket = if from.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }.unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to.into()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (client, server) = text.split_once(' ').unwrap();
    (client.parse().unwrap(), server.parse().unwrap())
}

#[test]
fn node_ports_are_ports_of_every_own_address() {
    for family in FAMILIES {
        in_namespace(async move |mut kernel| {
            addresses(family);
            let server = backend(family, 2);
            serve(server, 8080).await;
            let own = backend(family, 3);
            let port = [Value::Proto(TCP), Value::Port(30080)];
            let mut tx = layout(family, 2);
            tx.add_chain(kubelet_rs::nft::Chain::plain("one"));
            tx.add_rule("one", Rule::new().is(Expr::L4Proto, Value::Proto(TCP)).dnat(server, 8080));
            tx.add_element(&"service-nodeports".into(), Element::verdict(Concat::of(&port), Verdict::goto("one")));
            kernel.apply(&tx).await.unwrap();
            assert_eq!(ask((own, 30080)).await.unwrap().1, server);
            let loopback: IpAddr = if own.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            assert_eq!(ask((loopback, 30080)).await, Err(ErrorKind::ConnectionRefused), "not on loopback's own address");
            assert_eq!(ask((own, 30081)).await, Err(ErrorKind::ConnectionRefused));
        });
    }
}
