use super::*;
use crate::api::ErrorKind;
use crate::api::fake::FakeApi;

#[test]
fn rights_for_requests() {
    let table: &[(&str, &str, &str, &[&str])] = &[
        ("GET", "/stats", "get", &["stats"]),
        ("GET", "/stats/summary", "get", &["stats"]),
        ("GET", "/metrics", "get", &["metrics"]),
        ("GET", "/metrics/cadvisor", "get", &["metrics"]),
        ("GET", "/metricsx", "get", &["proxy"]),
        ("GET", "/logs/", "get", &["log"]),
        ("GET", "/logs/syslog", "get", &["log"]),
        ("POST", "/checkpoint/ns/pod/c", "create", &["checkpoint"]),
        ("GET", "/statusz", "get", &["statusz"]),
        ("GET", "/flagz", "get", &["configz"]),
        ("GET", "/pods", "get", &["pods", "proxy"]),
        ("GET", "/pods/", "get", &["pods", "proxy"]),
        ("GET", "/runningpods/", "get", &["pods", "proxy"]),
        ("GET", "/healthz", "get", &["healthz", "proxy"]),
        ("GET", "/healthz/ping", "get", &["healthz", "proxy"]),
        ("GET", "/configz", "get", &["configz", "proxy"]),
        ("GET", "/containerLogs/ns/pod/c", "get", &["proxy"]),
        ("POST", "/exec/ns/pod/c", "create", &["proxy"]),
        ("GET", "/exec/ns/pod/c", "get", &["proxy"]),
        ("POST", "/run/ns/pod/c", "create", &["proxy"]),
        ("GET", "/", "get", &["proxy"]),
        ("GET", "", "get", &["proxy"]),
        ("GET", "//pods", "get", &["proxy"]),
        ("GET", "/Metrics", "get", &["proxy"]),
        ("PUT", "/debug/flags/v", "update", &["proxy"]),
        ("PATCH", "/pods", "patch", &["pods", "proxy"]),
        ("DELETE", "/pods", "delete", &["pods", "proxy"]),
        ("HEAD", "/pods", "", &["pods", "proxy"]),
        ("OPTIONS", "/exec/ns/pod/c", "", &["proxy"]),
    ];
    for (method, path, verb, subresources) in table {
        let want: Vec<_> = subresources.iter().map(|subresource| Attributes { verb, subresource }).collect();
        assert_eq!(attributes(&method.parse().unwrap(), path), want, "{method} {path}");
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn user(name: &str) -> User {
    User { name: name.into(), ..User::default() }
}

fn authorizer(api: &FakeApi) -> Authorizer {
    let settings = AuthzSettings::Webhook { allowed_ttl: HOUR, denied_ttl: MINUTE };
    Authorizer::new(Arc::new(api.clone()), settings, "node".into())
}

#[tokio::test]
async fn one_right_is_enough() {
    let api = FakeApi::new("node");
    api.allow("fine", "get", "pods");
    api.allow("coarse", "get", "proxy");
    let authorizer = authorizer(&api);
    for (name, method, path, allowed) in [
        ("fine", Method::GET, "/pods", true),
        ("fine", Method::GET, "/configz", false),
        ("fine", Method::POST, "/pods", false),
        ("coarse", Method::GET, "/pods", true),
        ("coarse", Method::GET, "/metrics", false),
        ("coarse", Method::GET, "/exec/ns/pod/c", true),
        ("nobody", Method::GET, "/pods", false),
    ] {
        assert_eq!(authorizer.authorize(&user(name), &method, path).await.is_ok(), allowed, "{name} {path}");
    }
    let error = authorizer.authorize(&user("nobody"), &Method::GET, "/pods").await.unwrap_err();
    assert_eq!(error.to_string(), "Forbidden (user=nobody, verb=get, resource=nodes, subresource(s)=[pods proxy])");
}

#[tokio::test(start_paused = true)]
async fn decisions_are_remembered_for_a_while() {
    let api = FakeApi::new("node");
    api.allow("admin", "get", "metrics");
    let authorizer = authorizer(&api);
    let ask = async |name: &str| authorizer.authorize(&user(name), &Method::GET, "/metrics").await;
    let asked = || api.injector().count("api", "review_access");
    for _ in 0..2 {
        ask("admin").await.unwrap();
        ask("other").await.unwrap_err();
    }
    assert_eq!(asked(), 2);
    tokio::time::advance(MINUTE).await;
    api.allow("other", "get", "metrics");
    ask("admin").await.unwrap();
    ask("other").await.unwrap();
    assert_eq!(asked(), 3);
}

#[tokio::test]
async fn users_with_other_groups_are_other_users() {
    let api = FakeApi::new("node");
    let authorizer = authorizer(&api);
    for groups in [vec![], vec!["a".to_owned()]] {
        let user = User { groups, ..user("admin") };
        authorizer.authorize(&user, &Method::GET, "/metrics").await.unwrap();
    }
    assert_eq!(api.injector().count("api", "review_access"), 2);
}

#[tokio::test]
async fn without_the_api_server_nothing_is_allowed_and_nothing_is_remembered() {
    let api = FakeApi::new("node");
    let away = api::Error { action: "review access".into(), kind: ErrorKind::Unavailable("away".into()) };
    api.injector().fail("api", "review_access", away);
    let authorizer = authorizer(&api);
    let error = authorizer.authorize(&user("admin"), &Method::GET, "/metrics").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    authorizer.authorize(&user("admin"), &Method::GET, "/metrics").await.unwrap();
}

#[tokio::test]
async fn always_allow_asks_nobody() {
    let api = FakeApi::new("node");
    let authorizer = Authorizer::new(Arc::new(api.clone()), AuthzSettings::AlwaysAllow, "node".into());
    authorizer.authorize(&user("anybody"), &Method::POST, "/exec/ns/pod/c").await.unwrap();
    assert_eq!(api.injector().count("api", "review_access"), 0);
}
