//! The lab: a control plane and its nodes, up in seconds, gone when dropped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node as NodeObject, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, ListParams, PostParams};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::client::client;
use crate::control_plane::{ControlPlane, KUBELET_CLIENT, ready};
use crate::error::{Doing as _, Error, Result};
use crate::leftovers::Folder;
use crate::network::{self, NodeNet};
use crate::node::Node;
use crate::pki::Pki;
use crate::place::{Place, Scope};
use crate::tools::Tools;

/// How long things may take that take a second on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster of its own. Dropped, it ends and leaves only its logs.
pub struct Lab {
    // In the order in which things end.
    nodes: Vec<Node>,
    control_plane: Mutex<ControlPlane>,
    place: Place,
    client: kube::Client,
    agent: Agent,
    tools: Tools,
    pki: Pki,
    admin: PathBuf,
    folder: Folder,
}

/// What a lab shall be.
pub struct Builder {
    name: String,
    nodes: u8,
    agent: Option<Agent>,
    start_agents: bool,
    progress: Box<dyn Fn(&str)>,
}

impl Lab {
    /// A lab of one node, named for what it is used for ("demo", "services").
    pub fn builder(name: &str) -> Builder {
        Builder { name: name.to_owned(), nodes: 1, agent: None, start_agents: true, progress: Box::new(|_| {}) }
    }

    /// A client with all rights.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The n-th node, from 0.
    ///
    /// # Panics
    /// If the lab has fewer.
    pub fn node(&self, index: usize) -> &Node {
        self.nodes.get(index).unwrap_or_else(|| panic!("the lab has {} nodes", self.nodes.len()))
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Which agent its nodes run.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The programs it runs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Makes credentials for the lab's API server.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Where the control plane runs.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The lab's folder.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Logs of all parts.
    pub fn logs(&self) -> PathBuf {
        self.folder.path.join("logs")
    }

    /// Runs kubectl as a person with all rights would; gives what it printed on stdout.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_input(args, "").await
    }

    /// As [`Lab::kubectl`], with something on stdin: `&["apply", "-f", "-"]`.
    pub async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = tokio::process::Command::new("nsenter");
        let net = format!("--net=/proc/{}/ns/net", self.place.first_pid());
        command.arg(net).arg(self.tools.kubernetes("kubectl")).arg("--kubeconfig").arg(&self.admin).args(args).kill_on_drop(true);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let shown = || format!("kubectl {}", args.join(" "));
        let mut child = command.spawn().doing(shown)?;
        if let Some(mut stdin) = child.stdin.take() {
            tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.doing(shown)?;
        }
        let output = tokio::time::timeout(2 * PATIENCE, child.wait_with_output())
            .await
            .map_err(|_| Error::Other(format!("{} did not end", shown())))?;
        let output = output.doing(shown)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let both = [output.stdout, output.stderr].concat();
        Err(Error::Program { program: shown(), status: output.status, output: String::from_utf8_lossy(&both).trim().to_owned() })
    }

    /// Ends the API server as a crash would.
    pub async fn kill_api_server(&self) -> Result<()> {
        self.control_plane.lock().await.kill_api_server().await
    }

    /// Starts it again and waits until it answers.
    pub async fn start_api_server(&self) -> Result<()> {
        self.control_plane.lock().await.start_api_server(&self.place, &self.logs())?;
        self.wait_for("the API server", PATIENCE, async || if ready(&self.client).await { Ok(()) } else { Err("not ready".to_owned()) })
            .await
    }

    /// Waits until all nodes are Ready.
    pub async fn nodes_ready(&self) -> Result<()> {
        for node in &self.nodes {
            self.wait_for(&format!("{} to be Ready", node.name()), PATIENCE, async || {
                let nodes: Api<NodeObject> = Api::all(self.client());
                let object = nodes.get(node.name()).await.map_err(|error| error.to_string())?;
                match condition(&object, "Ready") {
                    Some((status, _)) if status == "True" => Ok(()),
                    Some((status, message)) => Err(format!("Ready is {status}: {message}")),
                    None => Err("no Ready condition".to_owned()),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Asks `probe` until it answers; its refusals say what was seen. On a timeout the error holds what a person would look at first.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut probe: impl AsyncFnMut() -> std::result::Result<T, String>,
    ) -> Result<T> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let seen = match tokio::time::timeout(patience, probe()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(seen)) => seen,
                Err(_) => "no answer".to_owned(),
            };
            if start.elapsed() > patience {
                let diagnosis = self.diagnosis().await;
                return Err(Error::Timeout { what: what.to_owned(), waited: patience, last: seen, diagnosis });
            }
            sleep(pause).await;
            pause = (pause * 5 / 4).min(Duration::from_millis(250));
        }
    }

    /// Pods, events and the ends of the agents' logs.
    pub async fn diagnosis(&self) -> String {
        let mut text = String::new();
        for args in [["get", "nodes,pods,services", "-A", "-o", "wide"].as_slice(), &["get", "events", "-A", "--sort-by=.lastTimestamp"]] {
            let shown = self.kubectl(args).await.unwrap_or_else(|error| error.to_string());
            let lines: Vec<&str> = shown.lines().collect();
            text.push_str(&format!(
                "--- kubectl {}\n{}\n",
                args.join(" "),
                lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
            ));
        }
        for node in &self.nodes {
            let ended = node.check().await.err().map(|error| format!("{error}\n")).unwrap_or_default();
            text.push_str(&format!("--- agent on {} (all logs: {})\n{ended}{}\n", node.name(), self.logs().display(), node.agent_log(25)));
        }
        text
    }

    /// Marks the lab as one that [`crate::leftovers::clean`] may end although its owner lives.
    pub fn offer_to_clean(&self) -> Result<()> {
        self.folder.offer_to_clean()
    }
}

impl Builder {
    /// How many nodes; one if not said.
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// Which agent; the one that `LAB_AGENT` names if not said.
    pub fn agent(mut self, agent: Agent) -> Self {
        self.agent = Some(agent);
        self
    }

    /// Leaves agents and containerd to the caller.
    pub fn without_agents(mut self) -> Self {
        self.start_agents = false;
        self
    }

    /// Called with what is being done next.
    pub fn progress(mut self, progress: impl Fn(&str) + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Starts everything and waits until the nodes are Ready.
    pub async fn start(self) -> Result<Lab> {
        let tools = Tools::find()?;
        let mut agent = self.agent.map_or_else(Agent::from_env, Ok)?;
        (self.progress)("namespaces, network and certificates");
        let folder = Folder::new(&self.name)?;
        let logs = folder.path.join("logs");
        if let Agent::KubeletRs(binary) = &mut agent {
            // A build that goes on beside must not change what runs here.
            let copy = folder.path.join("kubelet-rs");
            std::fs::copy(&binary, &copy).doing(|| format!("copying {}", binary.display()))?;
            *binary = copy;
        }
        let place = Place::new("control-plane")?;
        let mut parts = Vec::new();
        for index in 1..=self.nodes {
            parts.push((Place::new(&format!("node-{index}"))?, NodeNet::new(index)));
        }
        network::connect(&place, &parts.iter().map(|(place, net)| (place, *net)).collect::<Vec<_>>())?;
        let pki = Pki::new(&folder.path.join("pki"))?;
        let admin = pki.kubeconfig("admin", "admin", Some("system:masters"))?;

        (self.progress)("etcd, API server and containerd");
        let starting = ControlPlane::start(&place, &folder.path, &logs, &tools, &pki)?;
        let mut nodes = Vec::new();
        for (place, net) in parts {
            let path = folder.path.join(place.name());
            nodes.push(Node::new(place, net, &folder.id, path, &logs, &tools, &pki, &agent)?);
        }
        for node in &nodes {
            node.start_containerd().await?;
            node.import_images(&tools)?;
        }
        let client = client(place.connector(), &admin).await?;
        let control_plane = starting.finish(&place, &logs, &tools, &pki, &client).await?;
        let lab = Lab { nodes, control_plane: control_plane.into(), place, client, agent, tools, pki, admin, folder };
        lab.write_kubectl()?;

        (self.progress)("controllers, roles and service accounts");
        lab.grant().await?;
        lab.wait_for("the default service account", PATIENCE, async || {
            lab.control_plane.lock().await.check().map_err(|error| error.to_string())?;
            let accounts: Api<ServiceAccount> = Api::namespaced(lab.client(), "default");
            let found = accounts.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            if found.items.is_empty() { Err("none".to_owned()) } else { Ok(()) }
        })
        .await?;
        if self.start_agents {
            (self.progress)("the nodes' agents");
            for node in &lab.nodes {
                node.start_agent().await?;
            }
            lab.nodes_ready().await?;
        }
        Ok(lab)
    }
}

impl Lab {
    /// What a stock cluster lacks: nodes may not watch EndpointSlices (kube-proxy has an account of its own there),
    /// and the API server's own client may not call a node that asks the API server who may.
    async fn grant(&self) -> Result<()> {
        let bindings = [
            ("lab-node-proxier", "system:node-proxier", "Group", "system:nodes"),
            ("lab-kubelet-client", "system:kubelet-api-admin", "User", KUBELET_CLIENT),
        ];
        let api: Api<ClusterRoleBinding> = Api::all(self.client());
        for (name, role, kind, subject) in bindings {
            let binding = serde_json::from_value(serde_json::json!({
                "metadata": { "name": name },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
                "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": subject }],
            }))
            .map_err(|error| Error::Other(format!("the role binding {name}: {error}")))?;
            api.create(&PostParams::default(), &binding).await.doing(|| format!("binding {role} to {subject}"))?;
        }
        Ok(())
    }

    /// `kubectl` in the lab's folder: works from any shell of this machine.
    fn write_kubectl(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path.join("kubectl");
        let script = format!(
            "#!/bin/sh\nexec nsenter --net=/proc/{}/ns/net {} --kubeconfig {} \"$@\"\n",
            self.place.first_pid(),
            self.tools.kubernetes("kubectl").display(),
            self.admin.display()
        );
        std::fs::write(&path, script).doing(|| format!("writing {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).doing(|| format!("making {} executable", path.display()))
    }

    /// Runs a program on a node, with the node's files, and gives what it printed.
    pub fn on_node(&self, index: usize, program: &str, args: &[&str]) -> Result<String> {
        self.node(index).place().run(Scope::Processes, program, args, "")
    }
}

/// Status and message of a node's condition.
pub fn condition(node: &NodeObject, kind: &str) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map(|condition| (condition.status.clone(), condition.message.clone().unwrap_or_default()))
}
