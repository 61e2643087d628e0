use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::stream::{self, pending};

use super::*;

type Frame = super::Frame<&'static str>;

/// What the script answers to the next call.
enum Answer {
    List(&'static [&'static str], &'static str),
    Watch(Vec<Result<Frame>>, End),
    Refuse(ErrorKind),
}

#[derive(Clone, Copy)]
enum End {
    Open,
    Closed,
}

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), calls: Arc::default() }
    }
    fn next(&self, call: String) -> Option<Answer> {
        self.calls.lock().expect("lock").push((Instant::now(), call));
        self.answers.lock().expect("lock").pop_front()
    }
    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("lock").iter().map(|(_, call)| call.clone()).collect()
    }
    /// From the first call to the last one.
    fn took(&self) -> Duration {
        let calls = self.calls.lock().expect("lock");
        calls.last().map(|(at, _)| *at).zip(calls.first().map(|(at, _)| *at)).map_or(Duration::ZERO, |(last, first)| last - first)
    }
}

fn error(kind: ErrorKind) -> Error {
    Error { action: "watch".into(), kind }
}

impl Source for Script {
    type Item = &'static str;
    async fn list(&self, at_least: &str) -> Result<Listed<&'static str>> {
        match self.next(format!("list {at_least}")) {
            Some(Answer::List(items, version)) => Ok(Listed { items: items.to_vec(), version: version.into() }),
            Some(Answer::Refuse(kind)) => Err(error(kind)),
            Some(Answer::Watch(..)) => panic!("a list was asked for"),
            None => std::future::pending().await,
        }
    }
    async fn watch(&self, version: &str) -> Result<Frames<&'static str>> {
        match self.next(format!("watch {version}")) {
            Some(Answer::Watch(frames, End::Closed)) => Ok(stream::iter(frames).boxed()),
            Some(Answer::Watch(frames, End::Open)) => Ok(stream::iter(frames).chain(pending()).boxed()),
            Some(Answer::Refuse(kind)) => Err(error(kind)),
            Some(Answer::List(..)) => panic!("a watch was asked for"),
            None => std::future::pending().await,
        }
    }
    async fn recovered(&self) {
        std::future::pending().await
    }
}

fn put(name: &'static str, version: &str) -> Result<Frame> {
    Ok(Frame::Applied(name, version.into()))
}
fn bookmark(version: &str) -> Result<Frame> {
    Ok(Frame::Bookmark { version: version.into() })
}
fn ended(code: u16) -> Result<Frame> {
    Ok(Frame::Error { code, reason: String::new(), message: "over".into() })
}
fn down() -> ErrorKind {
    ErrorKind::Unavailable("connection refused".into())
}
const LIST: Answer = Answer::List(&["a"], "5");

/// All events until nothing more happens.
async fn events(script: &Script) -> Vec<String> {
    let stream = run(script.clone());
    let mut stream = std::pin::pin!(stream);
    let mut all = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(300), stream.next()).await {
        all.push(match event {
            WatchEvent::Snapshot(items) => format!("all {}", items.join(" ")),
            WatchEvent::Applied(item) => format!("+{item}"),
            WatchEvent::Deleted(item) => format!("-{item}"),
            WatchEvent::Failing(error) => format!("! {error}"),
        });
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_list_becomes_a_snapshot_then_changes_come() {
    let changes = vec![put("b", "6"), Ok(Frame::Deleted("a", "7".into()))];
    let script = Script::new([LIST, Answer::Watch(changes, End::Open)]);
    assert_eq!(events(&script).await, ["all a", "+b", "-a"]);
    assert_eq!(script.calls(), ["list 0", "watch 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_watch_resumes_from_the_last_version_or_bookmark() {
    let script = Script::new([
        LIST,
        Answer::Watch(vec![put("b", "6")], End::Closed),
        Answer::Watch(vec![bookmark("8")], End::Closed),
        Answer::Watch(vec![put("c", "9")], End::Open),
    ]);
    assert_eq!(events(&script).await, ["all a", "+b", "+c"]);
    assert_eq!(script.calls(), ["list 0", "watch 5", "watch 6", "watch 8"]);
}

#[tokio::test(start_paused = true)]
async fn lost_history_means_a_new_snapshot_that_is_not_older() {
    for (gone, want) in [
        (Answer::Refuse(ErrorKind::Refused(410, "too old".into())), "list 5"),
        (Answer::Watch(vec![put("b", "6"), ended(410)], End::Closed), "list 6"),
    ] {
        let script = Script::new([LIST, gone, Answer::List(&["c"], "9")]);
        let events = events(&script).await;
        assert_eq!((events.first(), events.last()), (Some(&"all a".to_owned()), Some(&"all c".to_owned())), "{events:?}");
        assert!(!events.iter().any(|e| e.starts_with('!')), "{events:?}");
        assert!(script.calls().contains(&want.to_owned()), "{:?}", script.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once_until_something_succeeds() {
    let forbidden = || ErrorKind::Forbidden("no".into());
    let script = Script::new([
        Answer::Refuse(down()),
        Answer::Refuse(down()),
        Answer::Refuse(forbidden()),
        Answer::Refuse(forbidden()),
        LIST,
        Answer::Refuse(down()),
        Answer::Refuse(down()),
        Answer::Watch(vec![put("b", "6")], End::Open),
    ]);
    let down = format!("! {}", error(down()));
    assert_eq!(events(&script).await, [&down, "! watch: forbidden: no", "all a", &down, "+b"]);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_told_and_the_watch_resumes() {
    let garbage = Err(error(ErrorKind::Unavailable("malformed watch event".into())));
    let script =
        Script::new([LIST, Answer::Watch(vec![put("b", "6"), garbage], End::Closed), Answer::Watch(vec![put("c", "7")], End::Open)]);
    let events = events(&script).await;
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(events[2].starts_with("! ") && events[3] == "+c");
    assert_eq!(script.calls()[2], "watch 6");
}

#[tokio::test(start_paused = true)]
async fn an_etcd_restored_from_a_backup_is_read_anew() {
    let future = || ErrorKind::Unavailable("Timeout: Too large resource version: 5, current: 2".into());
    let script = Script::new([LIST, Answer::Refuse(future()), Answer::List(&["b"], "2"), Answer::Watch(vec![ended(410)], End::Open)]);
    let events = events(&script).await;
    assert_eq!((events.first(), events.last(), events.len()), (Some(&"all a".to_owned()), Some(&"all b".to_owned()), 3));
    assert_eq!(script.calls()[2], "list 0");

    let script = Script::new([LIST, Answer::Refuse(ErrorKind::Refused(410, String::new())), Answer::Refuse(future()), LIST]);
    self::events(&script).await;
    assert_eq!(script.calls()[..4], ["list 0", "watch 5", "list 5", "list 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_opened_in_a_tight_loop() {
    let script = Script::new([LIST].into_iter().chain((0..6).map(|_| Answer::Watch(vec![], End::Closed))));
    assert_eq!(events(&script).await, ["all a"]);
    assert_eq!(script.calls().len(), 8);
    assert!(script.took() > Duration::from_secs(3), "{:?}", script.took());
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_while_the_server_is_away() {
    let script = Script::new((0..12).map(|_| Answer::Refuse(down())));
    events(&script).await;
    assert_eq!(script.calls().len(), 13);
    // 0.1 + 0.2 + … + 25.6 + 30 + 30 + 30 s, of which jitter may take half.
    let took = script.took().as_secs();
    assert!((70..=142).contains(&took), "{took}");
}
