use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{Container, ContainerPort, HTTPGetAction, HTTPHeader};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

/// A server that gives these answers, one to each connection, and notes the requests.
async fn server(answers: Vec<String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(vec![])));
    let notes = Arc::clone(&seen);
    tokio::spawn(async move {
        for answer in answers {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                match tcp.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
                // A TLS greeting has no such end.
                if head.len() == 5 && head[0] == 0x16 {
                    break;
                }
            }
            notes.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    });
    (port, seen)
}

fn ask(port: u16, path: &str) -> Get {
    Get { https: false, host: "127.0.0.1".into(), port, path: path.into(), headers: vec![], user_agent: user_agent("probe") }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 4\r\n\r\nthis")
}

#[tokio::test]
async fn a_request_looks_like_upstreams() {
    let (port, seen) = server(vec![ok("fine")]).await;
    let answer = get(&ask(port, "health z?a=b#c"), LIMIT).await.unwrap();
    assert_eq!(answer, Answer { status: 200, body: b"fine".to_vec() });
    let request = seen.lock().unwrap()[0].to_lowercase();
    let host = format!("host: 127.0.0.1:{port}");
    for line in ["get /health%20z?a=b http/1.1", &host, "user-agent: kube-probe/1.36", "accept: */*", "connection: close"] {
        assert!(request.lines().any(|l| l == line), "{line}: {request}");
    }
}

#[tokio::test]
async fn headers_are_the_users_if_there_are_any() {
    let (port, seen) = server(vec![ok("")]).await;
    let headers = [("Host", "web.example"), ("User-Agent", "me"), ("Accept", ""), ("X-A", "1"), ("X-A", "2")];
    let request = Get { headers: headers.map(|(n, v)| (n.into(), v.into())).to_vec(), ..ask(port, "/") };
    get(&request, LIMIT).await.unwrap();
    let request = seen.lock().unwrap()[0].to_lowercase();
    for line in ["host: web.example", "user-agent: me", "x-a: 1", "x-a: 2"] {
        assert!(request.lines().any(|l| l == line), "{line}: {request}");
    }
    assert!(!request.contains("accept"), "{request}");
    let bad = Get { headers: vec![("a b".into(), "1".into())], ..ask(port, "/") };
    assert!(get(&bad, LIMIT).await.unwrap_err().to_string().contains("invalid header field"));
}

#[tokio::test]
async fn redirects_lead_to_the_same_host_only() {
    let (elsewhere, _) = server(vec![ok("moved")]).await;
    let (port, seen) =
        server(vec![redirect("/new"), redirect(&format!("http://127.0.0.1:{elsewhere}/x")), redirect("http://other.example/")]).await;
    assert_eq!(get(&ask(port, "/old"), LIMIT).await.unwrap().body, b"moved");
    assert!(seen.lock().unwrap()[1].starts_with("GET /new "));
    assert_eq!(get(&ask(port, "/"), LIMIT).await.unwrap(), Answer { status: 302, body: b"this".to_vec() });
    let (port, _) = server(vec![redirect("/again"); 20]).await;
    assert!(get(&ask(port, "/"), LIMIT).await.unwrap_err().to_string().ends_with("stopped after 10 redirects"));
}

#[tokio::test]
async fn errors_are_worded_as_gos() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let late = get(&ask(port, "/"), Duration::from_millis(50)).await.unwrap_err();
    let timeout = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert_eq!(late.to_string(), format!("Get \"http://127.0.0.1:{port}/\": {timeout}"));
    drop(listener);
    let refused = get(&ask(port, "/"), LIMIT).await.unwrap_err();
    let want = format!("Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(refused.to_string(), want);
    let (port, _) = server(vec![String::new()]).await;
    assert!(get(&ask(port, "/"), LIMIT).await.unwrap_err().to_string().ends_with(": EOF"));
}

#[tokio::test]
async fn tls_to_a_server_without_it_is_told_apart() {
    let (port, _) = server(vec!["HTTP/1.0 400 Bad Request\r\n\r\n".to_owned()]).await;
    let request = Get { https: true, ..ask(port, "/") };
    let url = format!("https://127.0.0.1:{port}/");
    assert_eq!(get(&request, LIMIT).await, Err(Error::PlainServer(url)));
}

#[tokio::test]
async fn a_long_body_is_cut() {
    let (port, _) = server(vec![ok(&"x".repeat(20_000))]).await;
    assert_eq!(get(&ask(port, "/"), LIMIT).await.unwrap().body.len(), LONGEST_BODY);
}

#[test]
fn ports_have_numbers_and_names() {
    let ports = vec![ContainerPort { name: Some("web".into()), container_port: 8080, ..Default::default() }];
    let container = Container { name: "app".into(), ports: Some(ports), ..Default::default() };
    let name = |name: &str| IntOrString::String(name.into());
    for (wanted, found) in [
        (IntOrString::Int(80), Ok(80)),
        (name("web"), Ok(8080)),
        (name("81"), Ok(81)),
        (name("none"), Err("couldn't find port: \"none\" in container \"app\"".to_owned())),
        (IntOrString::Int(70_000), Err("invalid port number: 70000".to_owned())),
    ] {
        assert_eq!(port(&wanted, &container), found);
    }
}

#[test]
fn an_action_is_about_its_pod_unless_it_names_a_host() {
    let action = HTTPGetAction { port: IntOrString::Int(1), scheme: Some("HTTPS".into()), ..Default::default() };
    let get = Get::of(&action, &Container::default(), "fd00::1", "lifecycle").unwrap();
    assert_eq!((get.url().as_str(), get.user_agent.as_str()), ("https://[fd00::1]:1/", "kube-lifecycle/1.36"));
    let headers = Some(vec![HTTPHeader { name: "A".into(), value: "1".into() }]);
    let action = HTTPGetAction { host: Some("h".into()), path: Some("x".into()), http_headers: headers, ..action };
    let get = Get::of(&action, &Container::default(), "fd00::1", "probe").unwrap();
    assert_eq!((get.url().as_str(), get.headers.len()), ("https://h:1/x", 1));
}
