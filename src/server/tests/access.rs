//! Who gets in.

use super::lab::{Ca, Lab};

#[tokio::test]
async fn without_credentials_401() {
    let lab = Lab::start().await;
    let mut client = lab.client(None).await.unwrap();
    for path in ["/pods", "/healthz", "/nothing", "/exec/ns/a/c"] {
        assert_eq!(client.get(path).await, (401, "Unauthorized".into()), "{path}");
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_count_is_401_unless_there_is_a_token() {
    let lab = Lab::with(|settings| settings.authentication.anonymous = true).await;
    lab.api.put_token("good", "scraper", &[]);
    let (stranger, expired) = (Ca::new().client("admin", &["system:masters"]), lab.ca.expired("admin"));
    for identity in [stranger, expired] {
        let mut client = lab.client(Some(&identity)).await.unwrap();
        assert_eq!(client.get("/pods").await, (401, "Unauthorized".into()));
        assert_eq!(client.send("GET", "/pods", &[("authorization", "Bearer good")]).await.0, 200);
    }
}

#[tokio::test]
async fn the_api_servers_certificate_gets_in_as_far_as_its_rights_go() {
    let lab = Lab::start().await;
    lab.api.allow("kube-apiserver-kubelet-client", "get", "proxy");
    let identity = lab.ca.client("kube-apiserver-kubelet-client", &["system:masters"]);
    let mut client = lab.client(Some(&identity)).await.unwrap();
    assert_eq!(client.get("/pods").await.0, 200);
    let want = "Forbidden (user=kube-apiserver-kubelet-client, verb=get, resource=nodes, subresource(s)=[metrics])\n";
    assert_eq!(client.get("/metrics").await, (403, want.into()));
    assert_eq!(client.send("POST", "/exec/ns/a/c", &[]).await.0, 403);
}

#[tokio::test]
async fn tokens() {
    let lab = Lab::start().await;
    lab.api.put_token("good", "scraper", &[]);
    lab.api.allow("scraper", "get", "healthz");
    let mut client = lab.client(None).await.unwrap();
    assert_eq!(client.send("GET", "/healthz", &[("authorization", "Bearer good")]).await, (200, "ok".into()));
    assert_eq!(client.send("GET", "/pods", &[("authorization", "Bearer good")]).await.0, 403);
    assert_eq!(client.send("GET", "/healthz", &[("authorization", "Bearer bad")]).await.0, 401);
}

#[tokio::test]
async fn anonymous_users_have_rights_too() {
    let lab = Lab::with(|settings| settings.authentication.anonymous = true).await;
    lab.api.allow("system:anonymous", "get", "healthz");
    let mut client = lab.client(None).await.unwrap();
    assert_eq!(client.get("/healthz").await.0, 200);
    assert_eq!(client.get("/pods").await.0, 403);
}

#[tokio::test]
async fn new_certificate_files_are_for_new_connections() {
    let (dir, lab) = Lab::with_files().await;
    lab.admin().await.get("/healthz").await;
    let replaced = lab.replace_certificate(dir.path());
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(lab.server_certificate().await, replaced);
    std::fs::write(dir.path().join("tls.crt"), "garbage").unwrap();
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(lab.server_certificate().await, replaced);
}

#[tokio::test]
async fn the_hosts_logs_need_their_own_right() {
    let lab = Lab::start().await;
    lab.api.put_token("good", "agent", &[]);
    let mut client = lab.client(None).await.unwrap();
    lab.api.allow("agent", "get", "proxy");
    assert_eq!(client.send("GET", "/logs/", &[("authorization", "Bearer good")]).await.0, 403);
    lab.api.allow("admin", "get", "log");
    let (status, text) = lab.admin().await.get("/logs/").await;
    assert!(status == 200 && text.contains("<pre>"), "{status} {text}");
    let lab = Lab::with(|settings| settings.system_logs = None).await;
    lab.api.allow("admin", "get", "log");
    assert_eq!(lab.admin().await.get("/logs/").await, (405, "logs endpoint is disabled.\n".into()));
}
