//! No socket, errors, no answer, nonsense.

use super::*;

async fn version_error(server: Option<Server>) -> Error {
    setup(server).client.version().await.expect_err("the call fails")
}

#[tokio::test]
async fn answers_are_read() {
    let setup = setup(Some(Server { version: containerd(), run: Some("s1".into()), ..Default::default() }));
    assert_eq!(setup.client.version().await.unwrap(), RuntimeVersion { name: "containerd".into(), version: "2.4.2".into() });
    assert_eq!(setup.client.run_sandbox(Default::default(), "").await.unwrap(), "s1".into());
}

#[tokio::test]
async fn a_missing_socket_says_what_to_do() {
    let error = version_error(None).await;
    let text = error.to_string();
    assert!(matches!(error.kind, ErrorKind::Unavailable(_)), "{error:?}");
    let want = "ask the container runtime for its version: the container runtime can't be reached: there is no socket; start the";
    assert!(text.starts_with(want) && text.contains("containerRuntimeEndpoint"), "{text}");
}

#[tokio::test]
async fn a_dead_socket_says_what_to_do() {
    let setup = setup(None);
    drop(UnixListener::bind(&setup.path).unwrap());
    let text = setup.client.version().await.expect_err("nobody listens").to_string();
    assert!(text.contains("nobody listens on the socket; start the container runtime"), "{text}");
}

#[tokio::test]
async fn the_first_call_after_a_restart_of_the_runtime_works() {
    let setup = setup(None);
    let server = listen(&setup.path, Server { version: containerd(), ..Default::default() });
    setup.client.version().await.unwrap();
    server.abort();
    let _ = server.await;
    std::fs::remove_file(&setup.path).unwrap();
    // The client's side of the connection must get to see its end.
    tokio::time::sleep(Duration::from_millis(20)).await;
    listen(&setup.path, Server { version: containerd(), ..Default::default() });
    setup.client.version().await.unwrap();
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let deadline = Duration::from_millis(300);
    let setup = setup_with(Some(Server { hang: true, ..Default::default() }), deadline);
    let error = setup.client.version().await.expect_err("the call fails");
    assert_eq!(error.kind, ErrorKind::Deadline(deadline));
}

#[tokio::test]
async fn kinds_of_failure() {
    for (status, want) in [
        (Status::not_found("x"), ErrorKind::NotFound("x".into())),
        (Status::unimplemented("x"), ErrorKind::Unimplemented),
        (Status::unknown("failed to x"), ErrorKind::Failed("failed to x".into())),
        (Status::internal("x"), ErrorKind::Failed("x".into())),
        (Status::unavailable("shutting down"), ErrorKind::Unavailable("shutting down".into())),
        (Status::deadline_exceeded("x"), ErrorKind::Deadline(DEADLINE)),
    ] {
        let error = version_error(Some(Server { fail: Some(status.clone()), ..Default::default() })).await;
        assert_eq!(error.kind, want, "{status:?}");
    }
}

#[tokio::test]
async fn what_is_gone_is_stopped() {
    let stop = async |status: Status| {
        let server = Server { fail: Some(status), ..Default::default() };
        setup(Some(server)).client.stop_container(&"c1".into(), Duration::ZERO).await
    };
    assert_eq!(stop(Status::not_found("x")).await, Ok(()));
    let error = stop(Status::unknown("x")).await.expect_err("an error").to_string();
    assert_eq!(error, "stop container c1: x");
}

#[tokio::test]
async fn nonsense_is_an_error_and_no_panic() {
    let nameless = Server { version: Some(VersionResponse::default()), ..Default::default() };
    assert_eq!(version_error(Some(nameless)).await.kind, ErrorKind::Garbage("an empty name".into()));

    let config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: "web".into(), namespace: "shop".into(), ..Default::default() }),
        ..Default::default()
    };
    let error = setup(Some(Server::default())).client.run_sandbox(config, "").await.expect_err("no id");
    assert_eq!(error.to_string(), "create sandbox of pod shop/web: the runtime answered nonsense: an empty sandbox id");

    let status = |status: PodSandboxStatus| PodSandboxStatus { id: "s1".into(), ..status };
    for (answer, want) in [
        (status(PodSandboxStatus { state: 9, ..Default::default() }), "sandbox state number 9"),
        (
            status(PodSandboxStatus {
                network: Some(PodSandboxNetworkStatus { ip: "10.1".into(), ..Default::default() }),
                ..Default::default()
            }),
            "address \"10.1\" of sandbox s1",
        ),
    ] {
        let server = Server { sandbox_status: vec![answer], ..Default::default() };
        let error = setup(Some(server)).client.sandbox(&"s1".into()).await.expect_err(want);
        assert_eq!(error.kind, ErrorKind::Garbage(want.into()));
    }

    let container = ContainerStatus { id: "c1".into(), state: -4, ..Default::default() };
    let server = Server { container_status: vec![container], ..Default::default() };
    let error = setup(Some(server)).client.container(&"c1".into()).await.expect_err("no such state");
    assert_eq!(error.kind, ErrorKind::Garbage("state number -4 of container c1".into()));
}

#[test]
fn health() {
    let condition = |name: &str, status| RuntimeCondition {
        r#type: name.into(),
        status,
        reason: "NetworkPluginNotReady".into(),
        message: "cni plugin not initialized".into(),
    };
    let answer = StatusResponse {
        status: Some(RuntimeStatus { conditions: vec![condition("RuntimeReady", true), condition("NetworkReady", false)] }),
        ..Default::default()
    };
    let health = system::to_health(answer);
    assert_eq!(health.runtime_error, None);
    let want = "NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized";
    assert_eq!(health.network_error.as_deref(), Some(want));
    let empty = system::to_health(StatusResponse::default());
    assert_eq!(empty.runtime_error.as_deref(), Some("the container runtime reports no condition RuntimeReady"));
}

#[test]
fn endpoints() {
    let new = |endpoint, images| CriRuntime::new(endpoint, images, Duration::from_secs(1)).map(drop);
    assert!(tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { new("/run/x.sock", Some("")) }).is_ok());
    let error = new("tcp://1.2.3.4:5", None).expect_err("not a socket").to_string();
    assert!(error.starts_with("containerRuntimeEndpoint \"tcp://1.2.3.4:5\" is not the address of a unix socket"), "{error}");
}
