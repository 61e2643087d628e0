//! `kubectl logs` over the wire.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::fakes;
use super::lab::Lab;

fn write(path: &Path, text: &str) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "2024-01-01T00:00:00.5Z stdout F {text}").unwrap();
}

#[tokio::test]
async fn lines_and_options() {
    let (lab, dir) = (Lab::start().await, tempfile::tempdir().unwrap());
    let (new, old) = (dir.path().join("1.log"), dir.path().join("0.log"));
    lab.pods.put(fakes::running_pod("ns", "web", "new", Some("old")));
    lab.pods.set("uid-web", "c", false, "new", &new, true);
    lab.pods.set("uid-web", "c", true, "old", &old, false);
    write(&new, "one");
    write(&new, "two");
    write(&old, "before");
    let mut client = lab.admin().await;
    assert_eq!(client.get("/containerLogs/ns/web/c").await, (200, "one\ntwo\n".into()));
    assert_eq!(client.get("/containerLogs/ns/web/c?tailLines=1&timestamps=true").await.1, "2024-01-01T00:00:00.500000000Z two\n");
    assert_eq!(client.get("/containerLogs/ns/web/c?previous=true").await, (200, "before\n".into()));
    assert_eq!(client.get("/containerLogs/ns/web/c?limitBytes=5").await, (200, "one\nt".into()));
}

#[tokio::test]
async fn refusals() {
    let (lab, dir) = (Lab::start().await, tempfile::tempdir().unwrap());
    lab.pods.put(fakes::pod("ns", "waiting"));
    lab.pods.put(fakes::running_pod("ns", "web", "new", None));
    let mut client = lab.admin().await;
    for (path, want) in [
        ("/containerLogs/ns/none/c", (404, "pod \"none\" does not exist")),
        ("/containerLogs/ns/web/d", (404, "container \"d\" not found in pod \"web\"")),
        ("/containerLogs/ns/web/c?tailLines=x", (400, "unable to decode query")),
        ("/containerLogs/ns/web/c?tailLines=-1", (422, "invalid request")),
        ("/containerLogs/ns/waiting/c", (400, "container \"c\" in pod \"waiting\" is not available")),
        ("/containerLogs/ns/web/c?previous=1", (400, "previous terminated container \"c\" in pod \"web\" not found")),
        ("/containerLogs/ns/web/c", (400, "unable to retrieve container logs for new")),
    ] {
        let (status, text) = client.get(path).await;
        assert!(status == want.0 && text.starts_with(want.1), "{path}: {status} {text}");
    }
    lab.pods.set("uid-web", "c", false, "new", &dir.path().join("gone.log"), true);
    assert_eq!(client.get("/containerLogs/ns/web/c").await.0, 404);
}

async fn next(body: &mut Incoming) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.expect("no more of the log came in time")?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn follow_goes_over_a_rotation_and_ends_with_the_container() {
    let (lab, dir) = (Lab::start().await, tempfile::tempdir().unwrap());
    let log = dir.path().join("0.log");
    lab.pods.put(fakes::running_pod("ns", "web", "id", None));
    lab.pods.set("uid-web", "c", false, "id", &log, true);
    write(&log, "one");
    let mut client = lab.admin().await;
    let mut body = client.try_send("GET", "/containerLogs/ns/web/c?follow=true", &[]).await.unwrap().into_body();
    assert_eq!(next(&mut body).await.unwrap(), "one\n");
    std::fs::rename(&log, dir.path().join("0.log.20240101-000000")).unwrap();
    write(&log, "two");
    assert_eq!(next(&mut body).await.unwrap(), "two\n");
    lab.pods.set("uid-web", "c", false, "id", &log, false);
    write(&log, "three");
    assert_eq!(next(&mut body).await.unwrap(), "three\n");
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn a_follower_whose_client_has_gone_is_forgotten() {
    let (lab, dir) = (Lab::start().await, tempfile::tempdir().unwrap());
    let log = dir.path().join("0.log");
    lab.pods.put(fakes::running_pod("ns", "web", "id", None));
    lab.pods.set("uid-web", "c", false, "id", &log, true);
    write(&log, "one");
    let users = || Arc::strong_count(&lab.pods);
    let before = users();
    let mut client = lab.admin().await;
    let mut body = client.try_send("GET", "/containerLogs/ns/web/c?follow=true", &[]).await.unwrap().into_body();
    assert_eq!(next(&mut body).await.unwrap(), "one\n");
    assert_eq!(users(), before + 1);
    drop((client, body));
    for _ in 0..100 {
        if users() == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server still follows the log");
}
