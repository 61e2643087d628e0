use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, PodStatus};
use proptest::prelude::*;

use super::*;

fn query(raw: &str) -> Query {
    Query::parse(Some(raw)).unwrap()
}

const NOW: &str = "2024-01-01T00:01:00Z";

#[test]
fn options_that_can_be_read() {
    let none = log::Options::default;
    let at = |t: &str| Some(t.parse().unwrap());
    let table = [
        ("", none(), false),
        ("follow=true&timestamps=1&previous=", log::Options { follow: true, timestamps: true, ..none() }, true),
        ("follow=false&timestamps=0&previous=FALSE", none(), false),
        ("tailLines=10&limitBytes=5", log::Options { tail_lines: Some(10), limit_bytes: Some(5), ..none() }, false),
        ("tailLines=0", log::Options { tail_lines: Some(0), ..none() }, false),
        ("tailLines=10&tail=3", log::Options { tail_lines: Some(3), ..none() }, false),
        ("tailLines=10&tail=all", none(), false),
        ("sinceSeconds=60", log::Options { since: at("2024-01-01T00:00:00Z"), ..none() }, false),
        ("sinceSeconds=9223372036854775807", log::Options { since: Some(Timestamp::MIN), ..none() }, false),
        ("sinceTime=2024-01-01T01:00:00%2B01:00", log::Options { since: at("2024-01-01T00:00:00Z"), ..none() }, false),
        ("sinceTime=&stream=All", none(), false),
    ];
    for (raw, want, previous) in table {
        assert_eq!(options(&query(raw), NOW.parse().unwrap()), Ok((want, previous)), "{raw}");
    }
}

#[test]
fn options_that_are_refused() {
    for (raw, status) in [
        ("tailLines=", 400),
        ("tailLines=ten", 400),
        ("tail=ten", 400),
        ("limitBytes=1.5", 400),
        ("sinceTime=yesterday", 400),
        ("stream=Stdout", 400),
        ("tailLines=-1", 422),
        ("limitBytes=0", 422),
        ("sinceSeconds=0", 422),
        ("sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z", 422),
    ] {
        let got = options(&query(raw), NOW.parse().unwrap()).unwrap_err();
        assert_eq!(got.0.as_u16(), status, "{raw}: {}", got.1);
    }
}

fn running() -> ContainerState {
    ContainerState { running: Some(ContainerStateRunning::default()), ..ContainerState::default() }
}

fn waiting(reason: &str) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.into()), ..ContainerStateWaiting::default() };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn ended(id: &str) -> ContainerState {
    let container_id = (!id.is_empty()).then(|| format!("containerd://{id}"));
    let terminated = ContainerStateTerminated { container_id, ..ContainerStateTerminated::default() };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn pod(id: &str, state: Option<ContainerState>, last_state: Option<ContainerState>) -> Pod {
    let status = ContainerStatus {
        name: "c".into(),
        container_id: Some(format!("containerd://{id}")),
        state,
        last_state,
        ..ContainerStatus::default()
    };
    let mut pod = Pod { status: Some(PodStatus { container_statuses: Some(vec![status]), ..PodStatus::default() }), ..Pod::default() };
    pod.metadata.name = Some("web".into());
    pod
}

#[test]
fn the_instance_that_is_meant() {
    let table = [
        (pod("new", Some(running()), None), false, Ok("new")),
        (pod("new", Some(running()), Some(ended("old"))), false, Ok("new")),
        (pod("new", Some(running()), Some(ended("old"))), true, Ok("old")),
        (pod("new", Some(running()), None), true, Err("previous terminated container \"c\" in pod \"web\" not found")),
        (pod("new", Some(ended("new")), None), false, Ok("new")),
        (pod("new", Some(ended("")), Some(ended("old"))), false, Ok("old")),
        (pod("new", Some(ended("")), None), false, Err("container \"c\" in pod \"web\" is terminated")),
        (pod("", Some(waiting("CrashLoopBackOff")), Some(ended("old"))), false, Ok("old")),
        (pod("", Some(waiting("CrashLoopBackOff")), Some(ended("old"))), true, Ok("old")),
        (
            pod("", Some(waiting("ImagePullBackOff")), None),
            false,
            Err("container \"c\" in pod \"web\" is waiting to start: trying and failing to pull image"),
        ),
        (
            pod("", Some(waiting("ContainerCreating")), None),
            false,
            Err("container \"c\" in pod \"web\" is waiting to start: ContainerCreating"),
        ),
        (pod("", None, None), false, Err("container \"c\" in pod \"web\" is waiting to start - no logs yet")),
        (Pod::default(), false, Err("container \"c\" in pod \"\" is not available")),
    ];
    for (pod, previous, want) in table {
        assert_eq!(choose(&pod, "c", previous), want.map(ContainerId::from).map_err(str::to_owned));
    }
}

proptest! {
    #[test]
    fn any_query(raw in "[a-zA-Z0-9=&%:+-]{0,80}|(tailLines|sinceSeconds|sinceTime)=[0-9TZ:-]{0,30}") {
        if let Some(query) = Query::parse(Some(&raw)) {
            let _ = options(&query, NOW.parse().unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_log_comes_after_its_last_bytes() {
    let mut log = std::pin::pin!(with_a_late_end(futures::stream::iter(["a", "b"])));
    let start = tokio::time::Instant::now();
    assert_eq!([log.next().await, log.next().await], [Some("a"), Some("b")]);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(log.next().await, None);
    assert_eq!(start.elapsed(), LATE_END);
}
