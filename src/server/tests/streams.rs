//! exec, attach and port-forward against a streaming server that only moves bytes.

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fakes;
use super::lab::Lab;
use crate::runtime::{Error, ErrorKind, StreamRequest};

const SPDY: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "SPDY/3.1"),
    ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ("x-stream-protocol-version", "channel.k8s.io"),
];

/// The runtime's side: takes one connection, checks the request's first line, answers.
async fn streaming_server(lab: &Lab, answer: &'static str) -> tokio::task::JoinHandle<(String, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/exec/one-time-token", listener.local_addr().unwrap());
    lab.runtime.answer_with(Ok(url));
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        tcp.write_all(answer.as_bytes()).await.unwrap();
        (String::from_utf8(head).unwrap(), tcp)
    })
}

async fn lab() -> Lab {
    let lab = Lab::start().await;
    lab.pods.put(fakes::running_pod("ns", "web", "id", None));
    lab.pods.set("uid-web", "c", false, "id", "/nowhere".as_ref(), true);
    lab
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nearly";

async fn upgraded(lab: &Lab, path: &str) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    let mut response = lab.admin().await.try_send("POST", path, &SPDY).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap())
}

#[tokio::test]
async fn bytes_go_both_ways_and_half_close_is_no_end() {
    let lab = lab().await;
    let server = streaming_server(&lab, SWITCH).await;
    let mut client = upgraded(&lab, "/exec/ns/web/c?command=sh&command=-c&command=echo+hi&input=1&output=1").await;
    let (head, mut runtime) = server.await.unwrap();
    assert!(head.starts_with("POST /exec/one-time-token HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-stream-protocol-version: v4.channel.k8s.io\r\nx-stream-protocol-version: channel.k8s.io\r\n"), "{head}");
    let command = ["sh", "-c", "echo hi"].map(str::to_owned).to_vec();
    let want = StreamRequest { command, stdin: true, stdout: true, stderr: false, tty: false };
    assert_eq!(lab.runtime.asked(), [("exec".into(), "id".into(), want)]);
    let mut early = [0; 5];
    client.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    client.write_all(b"a question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    runtime.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "a question");
    let answer = "an answer ".repeat(10_000);
    runtime.write_all(answer.as_bytes()).await.unwrap();
    drop(runtime);
    let mut got = String::new();
    client.read_to_string(&mut got).await.unwrap();
    assert!(got == answer, "{} of {} bytes came", got.len(), answer.len());
}

#[tokio::test]
async fn the_runtime_learns_that_the_client_has_gone() {
    let lab = lab().await;
    let server = streaming_server(&lab, SWITCH).await;
    drop(upgraded(&lab, "/attach/ns/web/uid-web/c?output=1").await);
    let (_, mut runtime) = server.await.unwrap();
    assert_eq!(runtime.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn port_forward_asks_for_the_sandbox() {
    let lab = lab().await;
    lab.pods.set_sandbox("uid-web", "box");
    let _server = streaming_server(&lab, SWITCH).await;
    upgraded(&lab, "/portForward/ns/web?port=80").await;
    assert_eq!(lab.runtime.asked()[0].1, "box");
}

#[tokio::test]
async fn what_the_streaming_server_answers_otherwise() {
    let lab = lab().await;
    for (answer, status, text) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno token\n", 404, "no token\n"),
        ("HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n", 500, "bad"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 500, "the container runtime's streaming server answered with status 200"),
        ("garbage\r\n\r\n", 500, "can't reach the container runtime's streaming server at 127.0.0.1:"),
    ] {
        let _server = streaming_server(&lab, answer).await;
        let (got, body) = lab.admin().await.send("POST", "/exec/ns/web/c?output=1", &SPDY).await;
        assert!(got == status && body.starts_with(text), "{answer:?}: {got} {body}");
        assert!(!body.contains("one-time-token"));
    }
    lab.runtime.answer_with(Ok("http://127.0.0.1:1/exec/t".into()));
    let (status, body) = lab.admin().await.send("GET", "/exec/ns/web/c?output=1", &SPDY).await;
    assert!(status == 500 && body.contains("at 127.0.0.1:1"), "{status} {body}");
}

#[tokio::test]
async fn refusals() {
    let lab = lab().await;
    let mut client = lab.admin().await;
    for (path, headers, status, text) in [
        ("/exec/ns/web/c?output=1", &SPDY[..0], 400, "Upgrade request required\n"),
        ("/exec/ns/web/c?command=sh", &SPDY[..], 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec/ns/none/c?output=1", &SPDY[..], 404, "pod does not exist"),
        ("/exec/ns/web/other-uid/c?output=1", &SPDY[..], 404, "pod not found"),
        ("/exec/ns/web/d?output=1", &SPDY[..], 404, "container not found (\"d\")"),
        ("/portForward/ns/web", &SPDY[..], 404, "pod \"web\" is not running"),
    ] {
        assert_eq!(client.send("POST", path, headers).await, (status, text.into()), "{path}");
    }
    let error = |kind| Error { action: "exec in container id".into(), kind };
    lab.runtime.answer_with(Err(error(ErrorKind::Failed("container is in CONTAINER_EXITED state".into()))));
    let (status, text) = client.send("POST", "/exec/ns/web/c?output=1", &SPDY).await;
    assert_eq!((status, text.as_str()), (500, "exec in container id: container is in CONTAINER_EXITED state"));
    lab.runtime.answer_with(Err(error(ErrorKind::NotFound("id".into()))));
    assert_eq!(client.send("POST", "/exec/ns/web/c?output=1", &SPDY).await.0, 404);
}
