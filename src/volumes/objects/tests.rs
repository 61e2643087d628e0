use futures::future::join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::api::fake::FakeApi;
use crate::api::{Error, ErrorKind};

fn object(name: &str, text: &str, immutable: bool) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { namespace: Some("shop".into()), name: Some(name.into()), ..Default::default() },
        data: Some([("k".to_owned(), text.to_owned())].into()),
        immutable: Some(immutable),
        ..Default::default()
    }
}

fn start() -> (FakeApi, ObjectCache) {
    let api = FakeApi::new("n1");
    (api.clone(), ObjectCache::new(Arc::new(api)))
}

async fn text(cache: &ObjectCache, name: &str, max_age: Duration) -> Option<String> {
    let object = cache.config_map("shop", name, max_age).await.ok()?;
    object.data.as_ref()?.get("k").cloned()
}

fn gets(api: &FakeApi) -> usize {
    api.injector().count("api", "config_map")
}

const S: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn copies_are_as_old_as_the_caller_allows() {
    let (api, cache) = start();
    api.put_config_map(object("c", "old", false));
    assert_eq!(text(&cache, "c", FRESH).await.as_deref(), Some("old"));
    api.put_config_map(object("c", "new", false));
    // (seconds later, how old it may be, what is seen, GETs so far)
    let table = [(1, FRESH, "old", 1), (1, TTL, "old", 1), (0, FRESH, "new", 2), (59, TTL, "new", 2), (2, TTL, "new", 3)];
    for (later, max_age, want, count) in table {
        tokio::time::advance(S * later).await;
        assert_eq!(text(&cache, "c", max_age).await.as_deref(), Some(want), "{later} {max_age:?}");
        assert_eq!(gets(&api), count, "{later} {max_age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_at_the_same_time_are_one() {
    let (api, cache) = start();
    api.put_config_map(object("c", "1", false));
    // Makes the first GET last 5 ms.
    let lag = Error { action: "get".into(), kind: ErrorKind::Forbidden("no relationship found between node and object".into()) };
    api.injector().fail("api", "config_map", lag);
    let all = join_all((0..110).map(|_| text(&cache, "c", FRESH))).await;
    assert!(all.iter().all(|t| t.as_deref() == Some("1")));
    assert_eq!(gets(&api), 2, "the refused one and the other");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_nobody_with_it() {
    let (api, cache) = start();
    api.put_config_map(object("c", "1", false));
    let lag = || Error { action: "get".into(), kind: ErrorKind::Forbidden("no relationship found".into()) };
    api.injector().fail("api", "config_map", lag());
    let impatient = tokio::time::timeout(Duration::from_millis(2), text(&cache, "c", FRESH));
    let (gone, stays) = tokio::join!(impatient, text(&cache, "c", FRESH));
    assert!(gone.is_err());
    assert_eq!(stays.as_deref(), Some("1"));

    // Alone, it takes the request with it, and the next caller asks anew.
    api.injector().hang("api", "config_map");
    assert!(tokio::time::timeout(S, text(&cache, "d", FRESH)).await.is_err());
    api.put_config_map(object("d", "2", false));
    assert_eq!(text(&cache, "d", FRESH).await.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn absence_is_never_remembered() {
    let (api, cache) = start();
    let missing = cache.config_map("shop", "c", FRESH).await.unwrap_err();
    assert!(missing.is_not_found());
    api.put_config_map(object("c", "1", false));
    assert_eq!(text(&cache, "c", FRESH).await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_serves_while_the_api_server_is_away() {
    let (api, cache) = start();
    api.put_config_map(object("c", "1", false));
    text(&cache, "c", FRESH).await;
    let away = || Error { action: "get".into(), kind: ErrorKind::Unavailable("connection refused".into()) };
    tokio::time::advance(TTL * 2).await;
    api.injector().fail("api", "config_map", away());
    assert_eq!(text(&cache, "c", TTL).await.as_deref(), Some("1"));
    assert_eq!(text(&cache, "c", TTL).await.as_deref(), Some("1"));
    assert_eq!(gets(&api), 2, "the server is left alone for a while");
    api.injector().fail("api", "config_map", away());
    assert_eq!(text(&cache, "c", FRESH).await.as_deref(), Some("1"), "a restart of a container may use it too");
    api.injector().fail("api", "config_map", away());
    assert!(cache.config_map("shop", "other", FRESH).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn immutable_objects_are_read_once_by_pods_that_run() {
    let (api, cache) = start();
    api.put_config_map(object("c", "1", true));
    for _ in 0..5 {
        text(&cache, "c", TTL).await;
        tokio::time::advance(S * 100).await;
    }
    assert_eq!(gets(&api), 1);
    api.put_config_map(object("c", "made again", true));
    assert_eq!(text(&cache, "c", FRESH).await.as_deref(), Some("made again"), "a new pod gets what is there now");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_leaves_the_memory() {
    let (api, cache) = start();
    api.put_config_map(object("a", "1", false));
    api.put_config_map(object("b", "1", false));
    text(&cache, "a", TTL).await;
    for _ in 0..6 {
        text(&cache, "b", TTL).await;
        tokio::time::sleep(S * 60).await;
    }
    assert_eq!(cache.len(), 1);
    tokio::time::sleep(UNUSED * 2).await;
    assert_eq!(cache.len(), 0);
    text(&cache, "a", TTL).await;
    tokio::time::sleep(UNUSED * 3).await;
    assert_eq!(cache.len(), 0, "the sweep starts again when there is something to sweep");
}
