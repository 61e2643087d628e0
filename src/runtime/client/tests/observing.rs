//! Lists and states as pods.

use super::*;

fn sandbox(id: &str, uid: &str, state: i32, created_at: i64, attempt: u32) -> (PodSandbox, PodSandboxStatus) {
    let metadata = Some(PodSandboxMetadata { attempt, ..Default::default() });
    let labels = if uid.is_empty() { BTreeMap::new() } else { labels(uid) };
    let listed = PodSandbox { id: id.into(), metadata: metadata.clone(), state, created_at, labels, ..Default::default() };
    let network = PodSandboxNetworkStatus { ip: "10.1.0.2".into(), additional_ips: vec![PodIp { ip: "fd00::2".into() }] };
    let status = PodSandboxStatus { id: id.into(), metadata, state, created_at, network: Some(network), ..Default::default() };
    (listed, status)
}

fn container(id: &str, uid: &str, created_at: i64) -> (proto::cri::Container, ContainerStatus) {
    let labels = labels(uid);
    let annotations: BTreeMap<String, String> =
        [(names::RESTART_COUNT, "2"), (names::CONTAINER_HASH, "abc"), (names::TERMINATION_GRACE_PERIOD, "30")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
    let listed = proto::cri::Container {
        id: id.into(),
        pod_sandbox_id: "s1".into(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        ..Default::default()
    };
    let image = ImageSpec { image: "docker.io/x:1".into(), user_specified_image: "x:1".into(), ..Default::default() };
    let status = ContainerStatus {
        id: id.into(),
        state: 2,
        created_at,
        started_at: 5,
        finished_at: 6,
        exit_code: 3,
        reason: "Error".into(),
        image: Some(image),
        image_ref: "x@sha256:1".into(),
        log_path: "/log".into(),
        labels,
        annotations,
        ..Default::default()
    };
    (listed, status)
}

fn server(sandboxes: Vec<(PodSandbox, PodSandboxStatus)>, containers: Vec<(proto::cri::Container, ContainerStatus)>) -> Server {
    let (sandboxes, sandbox_status) = sandboxes.into_iter().unzip();
    let (containers, container_status) = containers.into_iter().unzip();
    Server { sandboxes, sandbox_status, containers, container_status, ..Default::default() }
}

#[tokio::test]
async fn pods_newest_first() {
    let server = server(
        vec![sandbox("s0", "u1", 1, 10, 0), sandbox("s1", "u1", 0, 20, 1), sandbox("alien", "", 0, 1, 0)],
        vec![container("c1", "u1", 30), container("c2", "u1", 40), container("orphan", "u2", 50)],
    );
    let pods = setup(Some(server)).client.list_pods().await.unwrap();
    let [first, second] = pods.as_slice() else { panic!("two pods, without what nobody labelled: {pods:?}") };
    assert_eq!((first.pod.to_string().as_str(), first.pod.uid.as_str(), first.grace_period), ("shop/web", "u1", Some(30)));
    let sandboxes: Vec<_> = first.sandboxes.iter().map(|s| (s.id.as_str(), s.attempt, s.ready, s.ips.len())).collect();
    assert_eq!(sandboxes, [("s1", 1, true, 2), ("s0", 0, false, 0)], "only a ready sandbox is asked for its addresses");
    assert_eq!(first.containers.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["c2", "c1"]);
    let c = &first.containers[1];
    assert_eq!((c.sandbox.as_str(), &*c.name, c.restart_count, c.hash.as_str(), c.phase), ("s1", "app", 2, "abc", ContainerPhase::Exited));
    assert_eq!((c.image.as_str(), c.image_id.as_str(), c.exit_code, c.log_path.as_str()), ("x:1", "x@sha256:1", 3, "/log"));
    assert_eq!((second.pod.uid.as_str(), second.sandboxes.len(), second.containers.len()), ("u2", 0, 1));
}

#[tokio::test]
async fn one_container_without_its_sandbox() {
    let setup = setup(Some(server(vec![], vec![container("c1", "u1", 30)])));
    let c = setup.client.container(&"c1".into()).await.unwrap();
    assert_eq!((c.sandbox.as_str(), c.exit_code), ("", 3));
}

#[tokio::test]
async fn what_goes_away_meanwhile_is_left_out() {
    let mut server = server(vec![sandbox("s1", "u1", 0, 20, 1)], vec![container("c1", "u1", 30), container("c2", "u1", 40)]);
    server.container_status.remove(0);
    server.sandbox_status.clear();
    let pods = setup(Some(server)).client.list_pods().await.unwrap();
    assert_eq!((pods[0].sandboxes.len(), pods[0].containers.len()), (0, 1));
}

#[tokio::test]
async fn nothing_known_is_none() {
    let setup = setup(Some(Server::default()));
    assert_eq!(setup.client.observe_pod(&"u1".into()).await, Ok(None));
}

#[tokio::test]
async fn nonsense_about_one_pod_hides_no_other_one() {
    let good = || (sandbox("s2", "u2", 0, 20, 0), container("c2", "u2", 30));
    let no_state = server(vec![sandbox("s1", "u1", 7, 20, 1), good().0], vec![good().1]);
    let no_id = server(vec![good().0], vec![container("", "u1", 30), good().1]);
    for (server, want) in [
        (no_state, "list sandboxes: the runtime answered nonsense: sandbox state number 7"),
        (no_id, "list containers: the runtime answered nonsense: an empty container id"),
    ] {
        let setup = setup(Some(server));
        let pods = setup.client.list_pods().await.expect("a list");
        let [bad, good] = pods.as_slice() else { panic!("{pods:?}") };
        // An agent that took the rest for everything would start what runs already.
        assert_eq!(bad.unread.as_ref().map(ToString::to_string).as_deref(), Some(want));
        assert_eq!((good.unread.as_ref(), good.sandboxes.len(), good.containers.len()), (None, 1, 1));
        assert_eq!(setup.client.observe_pod(&"u1".into()).await.expect_err(want).to_string(), want);
    }
}

#[tokio::test]
async fn an_outline_is_two_lists_and_asks_for_no_states() {
    let mut server = server(
        vec![sandbox("s1", "u1", 0, 20, 1), sandbox("odd", "u2", 7, 20, 0), sandbox("alien", "", 0, 1, 0)],
        vec![container("c1", "u1", 30)],
    );
    server.sandbox_status.clear();
    server.container_status.clear();
    let mut pods = setup(Some(server)).client.outlines().await.unwrap();
    pods.sort_by(|a, b| a.pod.uid.cmp(&b.pod.uid));
    let [first, odd] = pods.as_slice() else { panic!("{pods:?}") };
    assert_eq!((&first.sandboxes[..], &first.containers[..]), (&[("s1".into(), true)][..], &[("c1".into(), ContainerPhase::Created)][..]));
    assert_eq!((&odd.sandboxes[..], odd.containers.len()), (&[("odd".into(), false)][..], 0));
}
