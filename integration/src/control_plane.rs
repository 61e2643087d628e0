//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, stock and with their defaults where behaviour matters.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{Doing as _, Error, Result};
use crate::network::{API_SERVER, POD_CIDRS, SERVICE_CIDRS};
use crate::pki::Pki;
use crate::place::Place;
use crate::process::{Process, Spec};
use crate::tools::Tools;

/// The four parts, as long as they run.
#[derive(Debug)]
pub struct ControlPlane {
    etcd: Process,
    api_server: Option<Process>,
    api_server_spec: Spec,
    controller_manager: Process,
    scheduler: Process,
}

/// What the API server calls itself when it talks to nodes.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

impl ControlPlane {
    /// Starts etcd and the API server; the caller waits for [`ready`], then starts the rest.
    /// A `token` is a password for everything, and makes the API server one as upstream's suite for nodes wants it.
    pub fn start(place: &Place, folder: &Path, logs: &Path, tools: &Tools, pki: &Pki, token: Option<&str>) -> Result<Starting> {
        pki.api_server()?;
        pki.service_account_key()?;
        pki.client("kubelet-client", KUBELET_CLIENT, None)?;
        let etcd = Process::start(place, logs, &etcd(tools, folder))?;
        let mut api_server_spec = api_server(tools, pki);
        if let Some(token) = token {
            let file = folder.join("tokens.csv");
            std::fs::write(&file, format!("{token},suite,suite,system:masters\n")).doing(|| format!("writing {}", file.display()))?;
            api_server_spec.args.extend([
                format!("--token-auth-file={}", file.display()).into(),
                "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".into(),
            ]);
        }
        let api_server = Process::start(place, logs, &api_server_spec)?;
        Ok(Starting { etcd, api_server, api_server_spec })
    }

    /// Ends the API server as a crash would. Nodes must live on without it.
    pub async fn kill_api_server(&mut self) -> Result<()> {
        match self.api_server.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Starts the API server again, unless it runs; the caller waits until it answers.
    pub fn start_api_server(&mut self, place: &Place, logs: &Path) -> Result<()> {
        let runs = match &mut self.api_server {
            Some(process) => process.ended()?.is_none(),
            None => false,
        };
        // A second one beside it would find the port taken, and the first would be dropped, which ends it.
        if !runs {
            self.api_server = Some(Process::start(place, logs, &self.api_server_spec)?);
        }
        Ok(())
    }

    /// An error that names the part that has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.etcd.check()?;
        self.api_server.as_mut().map_or(Ok(()), Process::check)?;
        self.controller_manager.check()?;
        self.scheduler.check()
    }
}

/// etcd and the API server, on their way up.
#[derive(Debug)]
pub struct Starting {
    etcd: Process,
    api_server: Process,
    api_server_spec: Spec,
}

impl Starting {
    /// Waits until the API server answers, then starts what needs it: the controller manager ends itself without one.
    pub async fn finish(mut self, place: &Place, logs: &Path, tools: &Tools, pki: &Pki, client: &kube::Client) -> Result<ControlPlane> {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !ready(client).await {
            self.etcd.check()?;
            self.api_server.check()?;
            if Instant::now() > deadline {
                return Err(Error::Other(format!(
                    "the API server did not become ready within 90 s: {}",
                    crate::process::tail(self.api_server.log(), 5)
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
        let controller_manager = Process::start(place, logs, &controller_manager(tools, pki)?)?;
        let scheduler = Process::start(place, logs, &scheduler(tools, pki)?)?;
        Ok(ControlPlane {
            etcd: self.etcd,
            api_server: Some(self.api_server),
            api_server_spec: self.api_server_spec,
            controller_manager,
            scheduler,
        })
    }
}

/// Whether the API server says that it is ready.
pub async fn ready(client: &kube::Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    tokio::time::timeout(Duration::from_secs(2), client.request_text(request)).await.is_ok_and(|answer| answer.is_ok())
}

fn etcd(tools: &Tools, folder: &Path) -> Spec {
    let data = folder.join("etcd");
    Spec::new(
        "etcd",
        &tools.etcd,
        [
            format!("--data-dir={}", data.display()),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            // A lab that loses power is thrown away.
            "--unsafe-no-fsync".into(),
        ],
    )
}

fn api_server(tools: &Tools, pki: &Pki) -> Spec {
    let file = |name: &str| pki.path(name).display().to_string();
    Spec::new(
        "kube-apiserver",
        tools.kubernetes("kube-apiserver"),
        [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--secure-port=6443".into(),
            format!("--advertise-address={API_SERVER}"),
            "--allow-privileged".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            format!("--service-cluster-ip-range={SERVICE_CIDRS}"),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            // Benchmarks make thousands of objects at once.
            "--max-requests-inflight=2000".into(),
            "--max-mutating-requests-inflight=1000".into(),
        ],
    )
}

fn controller_manager(tools: &Tools, pki: &Pki) -> Result<Spec> {
    let config = pki.kubeconfig("controller-manager", "system:kube-controller-manager", None)?;
    let config = config.display();
    Ok(Spec::new(
        "kube-controller-manager",
        tools.kubernetes("kube-controller-manager"),
        [
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
            "--use-service-account-credentials".into(),
            format!("--service-account-private-key-file={}", pki.path("sa.key").display()),
            format!("--root-ca-file={}", pki.path("ca.crt").display()),
            format!("--cluster-signing-cert-file={}", pki.path("ca.crt").display()),
            format!("--cluster-signing-key-file={}", pki.path("ca.key").display()),
            format!("--cluster-cidr={POD_CIDRS}"),
            "--allocate-node-cidrs=false".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ],
    ))
}

fn scheduler(tools: &Tools, pki: &Pki) -> Result<Spec> {
    let config = pki.kubeconfig("scheduler", "system:kube-scheduler", None)?;
    let config = config.display();
    Ok(Spec::new(
        "kube-scheduler",
        tools.kubernetes("kube-scheduler"),
        [
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ],
    ))
}
