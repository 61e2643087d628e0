//! The whole server over loopback: real TLS, real HTTP, fake API server, fake runtime.

mod access;
mod fakes;
mod lab;
mod logs;
mod streams;

use serde_json::{Value, json};

use super::*;
use lab::Lab;

#[tokio::test]
async fn pods_are_a_pod_list() {
    let lab = Lab::start().await;
    let mut client = lab.admin().await;
    let (status, body) = client.get("/pods").await;
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &list["kind"], &list["apiVersion"]), (200, &json!("PodList"), &json!("v1")));
    assert_eq!(list["items"], json!([]));
    lab.pods.put(fakes::pod("ns", "a"));
    lab.pods.put(fakes::pod("ns", "b"));
    let (_, body) = client.get("/pods").await;
    let list: Value = serde_json::from_str(&body).unwrap();
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|p| p["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    let decoded: k8s_openapi::List<k8s_openapi::api::core::v1::Pod> = serde_json::from_str(&body).unwrap();
    assert_eq!(decoded.items.len(), 2);
}

#[tokio::test]
async fn running_pods_come_from_the_runtime() {
    let lab = Lab::start().await;
    lab.runtime.run("ns", "a", "web");
    let (_, body) = lab.admin().await.get("/runningpods/").await;
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(list["items"][0]["metadata"], json!({"name": "a", "namespace": "ns", "uid": "uid-a"}));
    assert_eq!(list["items"][0]["spec"]["containers"], json!([{"name": "web", "image": "web:1", "resources": {}}]));
}

#[tokio::test]
async fn small_answers() {
    let lab = Lab::start().await;
    let mut client = lab.admin().await;
    assert_eq!(client.get("/healthz").await, (200, "ok".into()));
    assert_eq!(client.get("/healthz/syncloop").await, (200, "ok".into()));
    assert_eq!(client.get("/configz").await, (200, r#"{"kubeletconfig":{}}"#.into()));
    assert_eq!(client.get("/nothing").await.0, 404);
    assert_eq!(client.get("/pods?x=%zz").await, (400, "the query is broken\n".into()));
    assert_eq!(client.get("/pods%zz").await, (400, "the path is broken\n".into()));
    assert_eq!(client.send("DELETE", "/pods", &[]).await.0, 405);
}

#[tokio::test]
async fn without_debugging_handlers() {
    let lab = Lab::with(|settings| settings.debugging_handlers = false).await;
    let mut client = lab.admin().await;
    assert_eq!(client.get("/exec/ns/a/c?output=1").await, (405, "Debug endpoints are disabled.\n".into()));
    assert_eq!(client.get("/configz").await.0, 404);
    assert_eq!(client.get("/pods").await.0, 200);
}

#[tokio::test]
async fn plain_health_needs_nothing() {
    let server = HealthzServer::bind("127.0.0.1".parse().unwrap(), 0).unwrap();
    let address = server.local_addr().unwrap();
    let task = tokio::spawn(server.run());
    for (path, want) in [("/healthz", "HTTP/1.1 200 OK"), ("/healthz/ping", "HTTP/1.1 200 OK"), ("/pods", "HTTP/1.1 404 Not Found")] {
        let answer = lab::plain(address, path).await;
        assert!(answer.starts_with(want), "{path}: {answer}");
    }
    task.abort();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = HealthzServer::bind("127.0.0.1".parse().unwrap(), 0).unwrap();
    let port = first.local_addr().unwrap().port();
    let error = HealthzServer::bind("127.0.0.1".parse().unwrap(), port).err().unwrap().to_string();
    assert!(error.starts_with(&format!("can't listen on 127.0.0.1:{port}:")), "{error}");
}
