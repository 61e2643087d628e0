//! The client against a server on a real socket that answers what each test wants.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::StreamExt;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::cri::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use proto::cri::*;
use tokio::net::UnixListener;
use tonic::{Request, Response, Status};
use tower::Service as _;

use super::*;

type Answer<T> = std::result::Result<Response<T>, Status>;

type EventStream = BoxStream<'static, std::result::Result<ContainerEventResponse, Status>>;

/// What the server answers. Calls that are not told anything are unimplemented.
#[derive(Clone, Default)]
struct Server {
    version: Option<VersionResponse>,
    hang: bool,
    fail: Option<Status>,
    run: Option<String>,
    sandboxes: Vec<PodSandbox>,
    sandbox_status: Vec<PodSandboxStatus>,
    containers: Vec<proto::cri::Container>,
    container_status: Vec<ContainerStatus>,
    /// What each subscription in turn sends before it ends; the last one stays open.
    events: Vec<Vec<ContainerEventResponse>>,
    subscriptions: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl RuntimeService for Server {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        if self.hang {
            std::future::pending::<()>().await;
        }
        if let Some(status) = &self.fail {
            return Err(status.clone());
        }
        self.version.clone().map(Response::new).ok_or_else(|| Status::unimplemented("no version"))
    }
    async fn stop_container(&self, _: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        Err(self.fail.clone().unwrap_or_else(|| Status::unimplemented("no stop")))
    }
    async fn run_pod_sandbox(&self, _: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id: self.run.clone().unwrap_or_default() }))
    }
    async fn list_pod_sandbox(&self, _: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        Ok(Response::new(ListPodSandboxResponse { items: self.sandboxes.clone() }))
    }
    async fn list_containers(&self, _: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        Ok(Response::new(ListContainersResponse { containers: self.containers.clone() }))
    }
    async fn pod_sandbox_status(&self, r: Request<PodSandboxStatusRequest>) -> Answer<PodSandboxStatusResponse> {
        let status = self.sandbox_status.iter().find(|s| s.id == r.get_ref().pod_sandbox_id).cloned();
        let status = status.ok_or_else(|| Status::not_found("no such sandbox"))?;
        Ok(Response::new(PodSandboxStatusResponse { status: Some(status) }))
    }
    async fn container_status(&self, r: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let status = self.container_status.iter().find(|s| s.id == r.get_ref().container_id).cloned();
        let status = status.ok_or_else(|| Status::not_found("no such container"))?;
        Ok(Response::new(ContainerStatusResponse { status: Some(status) }))
    }

    async fn get_container_events(&self, _: Request<GetEventsRequest>) -> Answer<EventStream> {
        let number = self.subscriptions.fetch_add(1, Ordering::SeqCst) as usize;
        let Some(batch) = self.events.get(number.min(self.events.len().saturating_sub(1))) else {
            return Err(Status::unimplemented("unknown method GetContainerEvents"));
        };
        let events = futures::stream::iter(batch.clone().into_iter().map(Ok));
        let open = number + 1 >= self.events.len();
        let rest: EventStream = if open { futures::stream::pending().boxed() } else { futures::stream::empty().boxed() };
        Ok(Response::new(events.chain(rest).boxed()))
    }
}

/// A server on a socket, and a client of it. Both end with the test.
struct Setup {
    client: CriRuntime,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

/// Serves until the task is aborted; connections that are open then are closed.
fn listen(path: &std::path::Path, server: Server) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    let service = RuntimeServiceServer::new(server);
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let service = service.clone();
            let serve = hyper::service::service_fn(move |request| service.clone().call(request));
            connections.spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), serve));
        }
    })
}

/// For calls that are answered, on the slowest machine too.
const DEADLINE: Duration = Duration::from_secs(30);

fn setup(server: Option<Server>) -> Setup {
    setup_with(server, DEADLINE)
}

fn setup_with(server: Option<Server>, deadline: Duration) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cri.sock");
    if let Some(server) = server {
        listen(&path, server);
    }
    let client = CriRuntime::new(&format!("unix://{}", path.display()), None, deadline).unwrap();
    Setup { client, path, _dir: dir }
}

fn containerd() -> Option<VersionResponse> {
    Some(VersionResponse { runtime_name: "containerd".into(), runtime_version: "v2.4.2".into(), ..Default::default() })
}

fn labels(uid: &str) -> BTreeMap<String, String> {
    let all = [(names::POD_UID, uid), (names::POD_NAME, "web"), (names::POD_NAMESPACE, "shop"), (names::CONTAINER_NAME, "app")];
    all.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

mod failures;
mod hints;
mod observing;
