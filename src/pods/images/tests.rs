use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use proto::cri::{ContainerConfig, LinuxContainerResources};
use serde_json::{Value, json};

use super::*;
use crate::api::fake::FakeApi;
use crate::model::{ContainerId, SandboxId};
use crate::runtime::{
    self, CgroupDriver, Error, ErrorKind, ExecOutput, ObservedPod, Result as RuntimeResult, RuntimeHealth, RuntimeVersion, Sandbox,
    StreamRequest,
};

/// The image side of a runtime. Pulls take a second.
#[derive(Default)]
struct Registry {
    present: Mutex<BTreeSet<String>>,
    broken: Mutex<Option<String>>,
    inspect_error: Mutex<Option<String>>,
    pulls: Mutex<Vec<(String, Option<String>)>>,
}

fn fail<T>(kind: ErrorKind) -> RuntimeResult<T> {
    Err(Error { action: "test".into(), kind })
}

fn not_here<T>() -> RuntimeResult<T> {
    fail(ErrorKind::Unimplemented)
}

#[async_trait]
impl Runtime for Registry {
    async fn image(&self, reference: &str) -> RuntimeResult<Option<Image>> {
        if let Some(why) = self.inspect_error.lock().unwrap().clone() {
            return fail(ErrorKind::Failed(why));
        }
        let image =
            Image { id: reference.into(), tags: vec![], digests: vec![], size: 42, uid: None, username: String::new(), pinned: false };
        Ok(self.present.lock().unwrap().contains(reference).then_some(image))
    }
    async fn pull_image(&self, reference: &str, auth: Option<&RegistryAuth>, _: &PodSandboxConfig) -> RuntimeResult<String> {
        let user = auth.map(|a| a.username.clone());
        self.pulls.lock().unwrap().push((reference.into(), user.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        if user.as_deref() == Some("wrong") {
            return fail(ErrorKind::Failed("unauthorized".into()));
        }
        if let Some(why) = self.broken.lock().unwrap().clone() {
            return fail(ErrorKind::Failed(why));
        }
        self.present.lock().unwrap().insert(reference.into());
        Ok(reference.into())
    }

    async fn version(&self) -> RuntimeResult<RuntimeVersion> {
        not_here()
    }
    async fn health(&self) -> RuntimeResult<RuntimeHealth> {
        not_here()
    }
    async fn cgroup_driver(&self) -> RuntimeResult<CgroupDriver> {
        not_here()
    }
    async fn update_pod_cidr(&self, _: &str) -> RuntimeResult<()> {
        not_here()
    }
    async fn list_pods(&self) -> RuntimeResult<Vec<ObservedPod>> {
        not_here()
    }
    async fn observe_pod(&self, _: &PodUid) -> RuntimeResult<Option<ObservedPod>> {
        not_here()
    }
    async fn sandbox(&self, _: &SandboxId) -> RuntimeResult<Sandbox> {
        not_here()
    }
    async fn container(&self, _: &ContainerId) -> RuntimeResult<runtime::Container> {
        not_here()
    }
    fn events(&self) -> BoxStream<'static, Option<PodUid>> {
        futures::stream::empty().boxed()
    }
    async fn run_sandbox(&self, _: PodSandboxConfig, _: &str) -> RuntimeResult<SandboxId> {
        not_here()
    }
    async fn stop_sandbox(&self, _: &SandboxId) -> RuntimeResult<()> {
        not_here()
    }
    async fn remove_sandbox(&self, _: &SandboxId) -> RuntimeResult<()> {
        not_here()
    }
    async fn create_container(&self, _: &SandboxId, _: ContainerConfig, _: PodSandboxConfig) -> RuntimeResult<ContainerId> {
        not_here()
    }
    async fn start_container(&self, _: &ContainerId) -> RuntimeResult<()> {
        not_here()
    }
    async fn stop_container(&self, _: &ContainerId, _: Duration) -> RuntimeResult<()> {
        not_here()
    }
    async fn remove_container(&self, _: &ContainerId) -> RuntimeResult<()> {
        not_here()
    }
    async fn reopen_log(&self, _: &ContainerId) -> RuntimeResult<()> {
        not_here()
    }
    async fn images(&self) -> RuntimeResult<Vec<Image>> {
        not_here()
    }
    async fn remove_image(&self, _: &str) -> RuntimeResult<()> {
        not_here()
    }
    async fn exec(&self, _: &ContainerId, _: &[String], _: Duration) -> RuntimeResult<ExecOutput> {
        not_here()
    }
    async fn update_container(&self, _: &ContainerId, _: LinuxContainerResources) -> RuntimeResult<()> {
        not_here()
    }
    async fn file_systems(&self) -> RuntimeResult<crate::runtime::FileSystems> {
        not_here()
    }
    async fn container_usage(&self, _: &ContainerId) -> RuntimeResult<crate::runtime::ContainerUsage> {
        not_here()
    }
    async fn update_sandbox(&self, _: &SandboxId, _: LinuxContainerResources, _: LinuxContainerResources) -> RuntimeResult<()> {
        not_here()
    }
    async fn exec_url(&self, _: &ContainerId, _: &StreamRequest) -> RuntimeResult<String> {
        not_here()
    }
    async fn attach_url(&self, _: &ContainerId, _: &StreamRequest) -> RuntimeResult<String> {
        not_here()
    }
    async fn port_forward_url(&self, _: &SandboxId, _: &[u16]) -> RuntimeResult<String> {
        not_here()
    }
}

struct Bench {
    registry: Arc<Registry>,
    api: FakeApi,
    images: Images,
    events: Mutex<Vec<String>>,
}

impl Bench {
    fn new(serialize: bool) -> Self {
        let (registry, api) = (Arc::new(Registry::default()), FakeApi::new("n1"));
        let settings =
            ImageSettings { serialize_image_pulls: serialize, max_parallel_image_pulls: None, registry_pull_qps: 0, registry_burst: 0 };
        let images = Images::new(registry.clone(), ObjectCache::new(Arc::new(api.clone())), &settings, Refresher::default());
        Self { registry, api, images, events: Mutex::default() }
    }

    fn put(&self, image: &str) {
        self.registry.present.lock().unwrap().insert(image.into());
    }

    fn pulls(&self) -> Vec<(String, Option<String>)> {
        self.registry.pulls.lock().unwrap().clone()
    }

    async fn ensure(&self, uid: &str, image: &str, policy: Option<&str>) -> Result<Image, ImageProblem> {
        self.ensure_with(json!({"uid": uid}), json!([]), image, policy).await
    }

    async fn ensure_with(&self, meta: Value, secrets: Value, image: &str, policy: Option<&str>) -> Result<Image, ImageProblem> {
        let mut meta = meta;
        meta["namespace"] = json!("shop");
        let spec = json!({"containers": [{"name": "c", "image": image, "imagePullPolicy": policy}], "imagePullSecrets": secrets});
        let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
        let sink = |kind: EventType, reason: &'static str, message: String| {
            self.events.lock().unwrap().push(format!("{kind:?} {reason}: {message}"));
        };
        self.images.ensure(&pod, &pod.spec.as_ref().unwrap().containers[0], &PodSandboxConfig::default(), &sink).await
    }

    fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn policies() {
    // (image, policy, is it there) → (pulled, reason of the problem)
    let table = [
        ("app:1", None, true, false, None),
        ("app:1", None, false, true, None),
        ("app", None, true, true, None),
        ("app:latest", None, true, true, None),
        ("app:latest", Some("IfNotPresent"), true, false, None),
        ("app:1", Some("Always"), true, true, None),
        ("app:1", Some("Never"), true, false, None),
        ("app:1", Some("Never"), false, false, Some("ErrImageNeverPull")),
        ("App:1", None, true, false, Some("InvalidImageName")),
        ("", Some("Never"), true, false, Some("InvalidImageName")),
    ];
    for (image, policy, there, pulled, problem) in table {
        let bench = Bench::new(true);
        if there {
            bench.put(&reference::parse(image).map_or_else(|_| image.to_owned(), |r| r.image));
        }
        let result = bench.ensure("u1", image, policy).await;
        assert_eq!(result.err().map(|p| p.reason), problem, "{image} {policy:?} {there}");
        assert_eq!(!bench.pulls().is_empty(), pulled, "{image} {policy:?} {there}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_and_messages_are_the_ones_that_people_know() {
    let bench = Bench::new(true);
    bench.ensure("u1", "app", None).await.unwrap();
    assert_eq!(
        bench.take_events(),
        [
            "Normal Pulling: Pulling image \"app\"",
            "Normal Pulled: Successfully pulled image \"app\" in 1s (1s including waiting). Image size: 42 bytes.",
        ]
    );
    bench.put("old:1");
    bench.ensure("u1", "old:1", None).await.unwrap();
    assert_eq!(bench.take_events(), ["Normal Pulled: Container image \"old:1\" already present on machine"]);

    let problem = bench.ensure("u1", "a b", None).await.unwrap_err();
    assert!(problem.message.starts_with("Failed to apply default image tag \"a b\": couldn't parse image name \"a b\": "), "{problem}");
    let events = bench.take_events();
    assert_eq!(events, [format!("Warning InspectFailed: {}", problem.message), "Warning Failed: Error: InvalidImageName".into()]);

    let problem = bench.ensure("u1", "none:1", Some("Never")).await.unwrap_err();
    assert_eq!(problem.message, "Container image \"none:1\" is not present with pull policy of Never");

    *bench.registry.inspect_error.lock().unwrap() = Some("disk on fire".into());
    let problem = bench.ensure("u1", "app:1", None).await.unwrap_err();
    assert_eq!((problem.reason, &*problem.message), ("ImageInspectError", "Failed to inspect image \"app:1\": disk on fire"));
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_for_each_pod_on_its_own() {
    let bench = Bench::new(true);
    *bench.registry.broken.lock().unwrap() = Some("manifest unknown".into());
    let start = Instant::now();
    let problem = bench.ensure("u1", "app:1", None).await.unwrap_err();
    let until = start + Duration::from_secs(11);
    assert_eq!(problem, ImageProblem { reason: "ErrImagePull", message: "manifest unknown".into(), retry_at: Some(until) });
    assert_eq!(
        bench.take_events(),
        [
            "Normal Pulling: Pulling image \"app:1\"",
            "Warning Failed: Failed to pull image \"app:1\": manifest unknown",
            "Warning Failed: Error: ErrImagePull",
        ]
    );

    let message = "Back-off pulling image \"app:1\": ErrImagePull: manifest unknown".to_owned();
    let problem = bench.ensure("u1", "app:1", None).await.unwrap_err();
    assert_eq!(problem, ImageProblem { reason: "ImagePullBackOff", message, retry_at: Some(until) });
    assert_eq!(bench.take_events(), ["Normal BackOff: Back-off pulling image \"app:1\"", "Warning Failed: Error: ImagePullBackOff"]);
    assert_eq!(bench.pulls().len(), 1);

    assert_eq!(bench.ensure("u2", "app:1", None).await.unwrap_err().reason, "ErrImagePull", "another pod tries itself");
    tokio::time::sleep_until(until).await;
    let again = bench.ensure("u1", "app:1", None).await.unwrap_err();
    assert_eq!((again.reason, again.retry_at), ("ErrImagePull", Some(Instant::now() + Duration::from_secs(20))));

    bench.put("app:1");
    bench.ensure("u1", "app:1", None).await.expect("an image that turned up some other way needs no pull");
    bench.images.forget(&PodUid::from("u1"));
    bench.images.forget(&PodUid::from("u2"));
    assert!(bench.images.failures().last.is_empty());
}

#[tokio::test(start_paused = true)]
async fn runtimes_can_say_what_kind_of_failure_it_was() {
    for (error, reason, message) in [
        ("RegistryUnavailable: no route", "RegistryUnavailable", "image pull failed for a because the registry is unavailable: no route"),
        ("SignatureValidationFailed", "SignatureValidationFailed", "image pull failed for a because the signature validation failed"),
        ("not found", "ErrImagePull", "not found"),
    ] {
        assert_eq!(pull::explain("a", error), (reason, message.to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn one_pull_serves_all_pods_that_want_the_same() {
    let bench = Bench::new(true);
    let start = Instant::now();
    let all = join_all(["u1", "u2", "u3"].map(|uid| bench.ensure(uid, "app:1", None))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((bench.pulls().len(), start.elapsed().as_secs()), (1, 1));

    bench.ensure("u4", "app:1", Some("Always")).await.unwrap();
    assert_eq!(bench.pulls().len(), 2, "a pull that is over serves nobody");

    // The first one leaves, the others still get it.
    let (gone, stays) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(500), bench.ensure("u5", "web:1", None)),
        bench.ensure("u6", "web:1", None)
    );
    assert!(gone.is_err() && stays.is_ok());
    assert_eq!(bench.pulls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn pulls_queue_up_but_hold_up_nobody_else() {
    for (serialize, seconds) in [(true, 3), (false, 1)] {
        let bench = Bench::new(serialize);
        bench.put("there:1");
        let start = Instant::now();
        let pulls = join_all(["a:1", "b:1", "c:1"].map(|image| bench.ensure("u1", image, None)));
        let (pulled, there) = tokio::join!(pulls, async {
            bench.ensure("u2", "there:1", None).await.unwrap();
            start.elapsed()
        });
        assert!(pulled.iter().all(Result::is_ok));
        assert_eq!(start.elapsed().as_secs(), seconds, "serialize: {serialize}");
        assert_eq!(there, Duration::ZERO);
    }
    // A pull that everybody gave up makes room.
    let bench = Bench::new(true);
    assert!(bench.ensure("u1", "slow:1", None).now_or_never().is_none());
    let start = Instant::now();
    bench.ensure("u2", "b:1", None).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_tried_in_turn_and_missing_secrets_reported() {
    let bench = Bench::new(true);
    let secret = |name: &str, user: &str| {
        let auths = json!({"auths": {"r.example": {"username": user, "password": "p"}}}).to_string();
        let data = json!({".dockerconfigjson": k8s_openapi::ByteString(auths.into_bytes())});
        let metadata = json!({"namespace": "shop", "name": name});
        bench.api.put_secret(
            serde_json::from_value(json!({"metadata": metadata, "type": "kubernetes.io/dockerconfigjson", "data": data})).unwrap(),
        );
    };
    secret("a", "wrong");
    secret("b", "right");
    let secrets = json!([{"name": "a"}, {"name": "gone"}, {"name": "b"}]);
    bench.ensure_with(json!({"uid": "u1"}), secrets.clone(), "r.example/app:1", None).await.unwrap();
    let users: Vec<_> = bench.pulls().into_iter().map(|(_, user)| user.unwrap_or_default()).collect();
    assert_eq!(users, ["wrong", "right"]);
    let events = bench.take_events();
    let missing = "Warning FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets: gone (not found: ";
    assert!(events.iter().any(|e| e.starts_with(missing)), "{events:?}");

    bench.ensure_with(json!({"uid": "u1"}), secrets, "other.example/app:1", None).await.unwrap();
    assert_eq!(bench.pulls().last(), Some(&("other.example/app:1".to_owned(), None)));

    // Another pod with other credentials must not profit from a pull of the first one's.
    let (a, b) = tokio::join!(
        bench.ensure_with(json!({"uid": "u1"}), json!([{"name": "b"}]), "r.example/x:1", None),
        bench.ensure_with(json!({"uid": "u2"}), json!([{"name": "a"}]), "r.example/x:1", Some("Always")),
    );
    assert!(a.is_ok());
    assert_eq!(b.unwrap_err().message, "unauthorized");
}
