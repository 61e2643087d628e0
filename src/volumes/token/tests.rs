use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;
use crate::api::fake::FakeApi;
use crate::api::{Error, ErrorKind};
use crate::volumes::tests::pod;

const MINUTE: Duration = Duration::from_secs(60);

fn source(seconds: i64) -> ServiceAccountTokenProjection {
    ServiceAccountTokenProjection { audience: None, expiration_seconds: Some(seconds), path: "token".into() }
}

fn start() -> (FakeApi, Tokens, Pod) {
    let api = FakeApi::new("n1");
    (api.clone(), Tokens::new(Arc::new(api)), pod(json!({"containers": [], "serviceAccountName": "robot"})))
}

fn requests(api: &FakeApi) -> usize {
    api.injector().count("api", "service_account_token")
}

fn away() -> Error {
    Error { action: "token".into(), kind: ErrorKind::Unavailable("connection refused".into()) }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_for_four_fifths_of_its_life_or_a_day() {
    for (life, use_for) in [(600, MINUTE * 8), (3607, MINUTE * 48), (7 * 24 * 3600, MINUTE * 24 * 60)] {
        let (api, tokens, pod) = start();
        let context = PodContext::new(&pod, true);
        let first = tokens.get(&context, &source(life), || None).await.unwrap();
        assert!(first.text.starts_with("token-of-shop-robot-"), "{first:?}");

        tokio::time::advance(use_for - MINUTE).await;
        assert_eq!(tokens.get(&context, &source(life), || None).await.unwrap(), first, "{life}");
        assert_eq!(requests(&api), 1);
        assert!(first.refresh_at > Instant::now());

        tokio::time::advance(MINUTE * 2).await;
        let second = tokens.get(&context, &source(life), || None).await.unwrap();
        assert_ne!(second.text, first.text, "{life}");
        assert_eq!(requests(&api), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_token_is_better_than_none_until_it_expires() {
    let (api, tokens, pod) = start();
    let context = PodContext::new(&pod, true);
    let first = tokens.get(&context, &source(600), || None).await.unwrap();
    tokio::time::advance(MINUTE * 9).await;
    api.injector().fail("api", "service_account_token", away());
    let kept = tokens.get(&context, &source(600), || None).await.unwrap();
    assert_eq!((&kept.text, kept.refresh_at), (&first.text, Instant::now() + RETRY));
    tokens.get(&context, &source(600), || None).await.unwrap();
    assert_eq!(requests(&api), 2, "not again before its time");

    tokio::time::advance(MINUTE * 2).await;
    api.injector().fail("api", "service_account_token", away());
    let error = tokens.get(&context, &source(600), || None).await.unwrap_err().to_string();
    assert!(error.starts_with("the service account token has expired"), "{error}");
    assert_ne!(tokens.get(&context, &source(600), || None).await.unwrap().text, first.text);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_a_new_pod_gets_an_error() {
    let (api, tokens, pod) = start();
    api.injector().fail("api", "service_account_token", away());
    let problem = tokens.get(&PodContext::new(&pod, true), &source(600), || None).await.unwrap_err();
    assert!(problem.is_transient());
}

#[tokio::test(start_paused = true)]
async fn pods_and_audiences_have_tokens_of_their_own_until_the_pod_is_gone() {
    let (api, tokens, pod) = start();
    let context = PodContext::new(&pod, true);
    let vault = ServiceAccountTokenProjection { audience: Some("vault".into()), ..source(600) };
    let (a, b) = (tokens.get(&context, &source(600), || None).await.unwrap(), tokens.get(&context, &vault, || None).await.unwrap());
    assert_ne!(a.text, b.text);
    tokens.forget(&context.names.uid);
    assert!(tokens.lock().is_empty());
    tokens.get(&context, &vault, || None).await.unwrap();
    assert_eq!(requests(&api), 3);
}

/// A token as the API server makes them, without a signature.
fn jwt(claims: serde_json::Value) -> String {
    // URL-safe base64 without padding.
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::from("header.");
    for chunk in claims.to_string().as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            out.push(DIGITS[(bits >> (18 - 6 * n)) as usize & 63] as char);
        }
    }
    out + ".signature"
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_token_in_the_volume_is_used() {
    let (api, tokens, pod) = start();
    let context = PodContext::new(&pod, true);
    let now = Timestamp::now().as_second();
    let claims = |uid: &str, account: &str, iat: i64, warn: Option<i64>| {
        let names = json!({"pod": {"name": "web", "uid": uid}, "serviceaccount": {"name": account, "uid": "x"}, "warnafter": warn});
        jwt(json!({"aud": ["https://kubernetes"], "iat": iat, "exp": iat + 31_536_000, "kubernetes.io": names}))
    };
    let good = claims("uid-web", "robot", now - 600, Some(now + 3000));
    let token = tokens.get(&context, &source(3607), || Some(good.clone())).await.unwrap();
    assert_eq!(&*token.text, good);
    let left = token.refresh_at - Instant::now();
    assert!(left > MINUTE * 37 && left <= MINUTE * 38, "four fifths of an hour less ten minutes: {left:?}");
    assert_eq!(requests(&api), 0);

    for (what, text) in [
        ("another pod's", claims("other", "robot", now - 600, None)),
        ("another account's", claims("uid-web", "other", now - 600, None)),
        ("past its use", claims("uid-web", "robot", now - 3500, Some(now + 100))),
        ("expired", claims("uid-web", "robot", now - 3700, Some(now - 100))),
        ("from the future", claims("uid-web", "robot", now + 3600, None)),
        ("no token", "rubbish".to_owned()),
        ("no claims", "a.!!.c".to_owned()),
    ] {
        let before = requests(&api);
        tokens.forget(&context.names.uid);
        let token = tokens.get(&context, &source(3607), || Some(text.clone())).await.unwrap();
        assert_ne!(&*token.text, text, "{what}");
        assert_eq!(requests(&api), before + 1, "{what}");
    }

    tokens.forget(&context.names.uid);
    let vault = ServiceAccountTokenProjection { audience: Some("vault".into()), ..source(3607) };
    assert_ne!(&*tokens.get(&context, &vault, || Some(good.clone())).await.unwrap().text, good, "another audience");
}

#[test]
fn the_server_decides_about_the_life_unless_the_clocks_disagree() {
    let now = Timestamp::now();
    let status = |seconds: i64| TokenRequestStatus {
        expiration_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now + jiff::SignedDuration::from_secs(seconds))),
        token: None,
    };
    for (granted, want) in [(600, 600), (7200, 3600), (-50, 3600)] {
        assert_eq!(life_of(&status(granted), 3600, now), Duration::from_secs(want));
    }
    assert_eq!(life_of(&TokenRequestStatus::default(), 3600, now), Duration::from_secs(3600));
}
