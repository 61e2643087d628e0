use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;
use crate::api::ErrorKind;
use crate::api::fake::FakeApi;

const TTL: Duration = Duration::from_secs(120);

fn authenticator(api: &FakeApi, anonymous: bool, webhook: bool) -> Authenticator {
    Authenticator::new(Arc::new(api.clone()), AuthnSettings { anonymous, webhook, cache_ttl: TTL })
}

fn headers(authorization: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !authorization.is_empty() {
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
    }
    headers
}

fn api() -> FakeApi {
    let api = FakeApi::new("node");
    api.put_token("good", "scraper", &["monitoring"]);
    api
}

#[tokio::test]
async fn who_is_recognised() {
    let table = [
        // anonymous, webhook, header, user
        (false, true, "Bearer good", Some("scraper")),
        (false, true, "bearer  good ", Some("scraper")),
        (false, true, "Bearer bad", None),
        (false, true, "Bearer ", None),
        (false, true, "Basic good", None),
        (false, true, "good", None),
        (false, true, "", None),
        (false, false, "Bearer good", None),
        (true, true, "", Some("system:anonymous")),
        (true, true, "Bearer good", Some("scraper")),
        (true, true, "Bearer bad", None),
        (true, false, "Bearer bad", Some("system:anonymous")),
    ];
    for (anonymous, webhook, header, want) in table {
        let got = authenticator(&api(), anonymous, webhook).authenticate(Shown::Nothing, &headers(header)).await;
        let name = got.as_ref().map(|user| user.name.as_str());
        assert_eq!(name, want.ok_or(&Error::Unauthorized), "{header:?}");
    }
}

#[tokio::test]
async fn a_certificate_comes_before_a_token() {
    let user = Arc::new(User { name: "cert".into(), ..User::default() });
    let got = authenticator(&api(), false, true).authenticate(Shown::User(user), &headers("Bearer good")).await.unwrap();
    assert_eq!(got.name, "cert");
}

#[tokio::test]
async fn a_certificate_that_does_not_count_hides_no_token_and_is_not_anonymous() {
    let bad = || Shown::Bad("expired".into());
    let authenticator = authenticator(&api(), true, true);
    assert_eq!(authenticator.authenticate(bad(), &headers("Bearer good")).await.unwrap().name, "scraper");
    assert_eq!(authenticator.authenticate(bad(), &headers("")).await, Err(Error::Unauthorized));
}

#[tokio::test(start_paused = true)]
async fn answers_are_remembered_for_a_while() {
    let api = api();
    let authenticator = authenticator(&api, false, true);
    for _ in 0..3 {
        authenticator.authenticate(Shown::Nothing, &headers("Bearer good")).await.unwrap();
        authenticator.authenticate(Shown::Nothing, &headers("Bearer bad")).await.unwrap_err();
    }
    assert_eq!(api.injector().count("api", "review_token"), 2);
    tokio::time::advance(TTL).await;
    let user = authenticator.authenticate(Shown::Nothing, &headers("Bearer good")).await.unwrap();
    assert_eq!(api.injector().count("api", "review_token"), 3);
    assert_eq!(user.groups, ["monitoring", AUTHENTICATED]);
}

#[tokio::test]
async fn without_the_api_server_nobody_is_recognised_and_nothing_is_remembered() {
    let api = api();
    let away = api::Error { action: "review a token".into(), kind: ErrorKind::Unavailable("away".into()) };
    api.injector().fail("api", "review_token", away.clone());
    let authenticator = authenticator(&api, true, true);
    assert_eq!(authenticator.authenticate(Shown::Nothing, &headers("Bearer good")).await, Err(Error::Unavailable(away)));
    assert_eq!(authenticator.authenticate(Shown::Nothing, &headers("Bearer good")).await.unwrap().name, "scraper");
}

#[test]
fn names_of_certificates() {
    let der = |names: &[(DnType, &str)]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let user = of_certificate(&der(&[(DnType::CommonName, "admin"), (DnType::OrganizationName, "system:masters")])).unwrap();
    assert_eq!((user.name.as_str(), user.groups), ("admin", vec!["system:masters".to_owned(), AUTHENTICATED.to_owned()]));
    assert_eq!(of_certificate(&der(&[(DnType::OrganizationName, "system:masters")])), None);
    assert_eq!(of_certificate(b"garbage"), None);
}
