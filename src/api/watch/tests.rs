use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::stream::{self, pending};

use super::*;

type Frame = super::Frame<&'static str>;

/// What the script answers to the next call.
enum Answer {
    Watch(Vec<Result<Frame>>, End),
    Refuse(ErrorKind),
    Page(&'static [&'static str], Option<&'static str>),
}

#[derive(Clone, Copy)]
enum End {
    Open,
    Closed,
}

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), calls: Arc::default() }
    }
    fn next(&self, call: String) -> Option<Answer> {
        self.calls.lock().expect("lock").push(call);
        self.answers.lock().expect("lock").pop_front()
    }
    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("lock").clone()
    }
}

fn error(kind: ErrorKind) -> Error {
    Error { action: "watch".into(), kind }
}

impl Source for Script {
    type Item = &'static str;
    async fn page(&self, next: Option<&str>) -> Result<Page<&'static str>> {
        match self.next(format!("page {next:?}")) {
            Some(Answer::Page(items, next)) => Ok(Page { items: items.to_vec(), version: "9".into(), next: next.map(str::to_owned) }),
            Some(Answer::Refuse(kind)) => Err(error(kind)),
            _ => panic!("a page was asked for"),
        }
    }
    async fn watch(&self, begin: Begin<'_>) -> Result<Frames<&'static str>> {
        match self.next(format!("{begin:?}")) {
            Some(Answer::Watch(frames, End::Closed)) => Ok(stream::iter(frames).boxed()),
            Some(Answer::Watch(frames, End::Open)) => Ok(stream::iter(frames).chain(pending()).boxed()),
            Some(Answer::Refuse(kind)) => Err(error(kind)),
            Some(Answer::Page(..)) => panic!("a watch was asked for"),
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
fn bookmark(version: &str, list_complete: bool) -> Result<Frame> {
    Ok(Frame::Bookmark { version: version.into(), list_complete })
}
fn ended(code: u16) -> Result<Frame> {
    Ok(Frame::Error { code, reason: String::new(), message: "over".into() })
}
fn down() -> ErrorKind {
    ErrorKind::Unavailable("connection refused".into())
}
fn listed(frames: Vec<Result<Frame>>, end: End) -> Answer {
    Answer::Watch([vec![put("a", "3"), bookmark("5", true)], frames].concat(), end)
}
fn list_from(at_least: &str) -> String {
    format!("{:?}", Begin::List { at_least })
}
fn resume(version: &str) -> String {
    format!("{:?}", Begin::Version(version))
}

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
async fn a_streamed_list_becomes_a_snapshot_then_changes_come() {
    let changes = vec![put("b", "6"), Ok(Frame::Deleted("a", "7".into()))];
    let script = Script::new([listed(changes, End::Open)]);
    assert_eq!(events(&script).await, ["all a", "+b", "-a"]);
    assert_eq!(script.calls(), [list_from("0")]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_watch_resumes_from_the_last_version_or_bookmark() {
    let script = Script::new([
        listed(vec![put("b", "6")], End::Closed),
        Answer::Watch(vec![bookmark("8", false)], End::Closed),
        Answer::Watch(vec![put("c", "9")], End::Open),
    ]);
    assert_eq!(events(&script).await, ["all a", "+b", "+c"]);
    assert_eq!(script.calls(), [list_from("0"), resume("6"), resume("8")]);
}

#[tokio::test(start_paused = true)]
async fn lost_history_means_a_new_snapshot_that_is_not_older() {
    for (gone, want) in [
        (Answer::Refuse(ErrorKind::Refused(410, "too old".into())), "5"),
        (Answer::Watch(vec![put("b", "6"), ended(410)], End::Closed), "6"),
    ] {
        let script = Script::new([listed(vec![], End::Closed), gone, listed(vec![], End::Open)]);
        let events = events(&script).await;
        assert_eq!((events.first(), events.last()), (Some(&"all a".to_owned()), Some(&"all a".to_owned())), "{events:?}");
        assert!(!events.iter().any(|e| e.starts_with('!')), "{events:?}");
        assert_eq!(script.calls().last(), Some(&list_from(want)));
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
        listed(vec![], End::Closed),
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
    let script = Script::new([listed(vec![put("b", "6"), garbage], End::Closed), Answer::Watch(vec![put("c", "7")], End::Open)]);
    let events = events(&script).await;
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(events[2].starts_with("! ") && events[3] == "+c");
    assert_eq!(script.calls()[1], resume("6"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_is_never_taken_for_the_whole() {
    let script = Script::new([
        Answer::Watch(vec![put("a", "3")], End::Closed),
        Answer::Watch(vec![put("a", "3"), put("b", "4"), bookmark("5", true)], End::Open),
    ]);
    assert_eq!(events(&script).await.last().map(String::as_str), Some("all a b"));
}

#[tokio::test(start_paused = true)]
async fn servers_that_stream_no_lists_are_paged() {
    let script = Script::new([
        Answer::Refuse(ErrorKind::Refused(422, "sendInitialEvents is forbidden".into())),
        Answer::Page(&["a", "b"], Some("more")),
        Answer::Page(&["c"], None),
        Answer::Watch(vec![put("d", "10")], End::Open),
    ]);
    assert_eq!(events(&script).await, ["all a b c", "+d"]);
    assert_eq!(script.calls(), [list_from("0"), "page None".into(), "page Some(\"more\")".into(), resume("9")]);
}

#[tokio::test(start_paused = true)]
async fn an_etcd_restored_from_a_backup_is_read_anew() {
    let future = || ErrorKind::Unavailable("Timeout: Too large resource version: 5, current: 2".into());
    let script = Script::new([listed(vec![], End::Closed), Answer::Refuse(future()), listed(vec![], End::Open)]);
    let events = events(&script).await;
    assert_eq!((events.first(), events.last(), events.len()), (Some(&"all a".to_owned()), Some(&"all a".to_owned()), 3));
    assert_eq!(script.calls().last(), Some(&list_from("0")));
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_while_the_server_is_away() {
    let script = Script::new((0..12).map(|_| Answer::Refuse(down())));
    let start = Instant::now();
    events(&script).await;
    let tries = script.calls().len();
    assert_eq!(tries, 13);
    assert!(start.elapsed() > Duration::from_secs(60), "{:?}", start.elapsed());
}
