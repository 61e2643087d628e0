//! How a lab comes up.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, ListParams, PostParams};

use super::{Lab, PATIENCE};
use crate::agent::Agent;
use crate::client::client;
use crate::control_plane::{ControlPlane, KUBELET_CLIENT};
use crate::error::{Doing as _, Error, Result};
use crate::leftovers::Folder;
use crate::network::{self, NodeNet};
use crate::node::{Ground, Node};
use crate::pki::Pki;
use crate::place::Place;
use crate::tools::Tools;

/// What a lab shall be.
pub struct Builder {
    name: String,
    nodes: u8,
    agent: Option<Agent>,
    start_agents: bool,
    images: Option<Vec<PathBuf>>,
    token: Option<&'static str>,
    progress: Box<dyn Fn(&str)>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), nodes: 1, agent: None, start_agents: true, images: None, token: None, progress: Box::new(|_| {}) }
    }

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

    /// Leaves the agents to the caller; containerd runs.
    pub fn without_agents(mut self) -> Self {
        self.start_agents = false;
        self
    }

    /// Image archives in place of those of the tests.
    pub fn images(mut self, archives: Vec<PathBuf>) -> Self {
        self.images = Some(archives);
        self
    }

    /// An API server as upstream's suite for nodes starts it: who shows `token` may do everything, and pods come without service accounts.
    pub fn for_node_suite(mut self, token: &'static str) -> Self {
        self.token = Some(token);
        self
    }

    /// Called with what is being done next.
    pub fn progress(mut self, progress: impl Fn(&str) + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Starts everything and waits until the nodes are Ready.
    pub async fn start(self) -> Result<Lab> {
        let mut tools = Tools::find()?;
        if let Some(images) = self.images {
            tools.images = images;
        }
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
        let starting = ControlPlane::start(&place, &folder.path, &logs, &tools, &pki, self.token)?;
        let mut nodes = Vec::new();
        let ground = Ground { lab: &folder.id, folder: &folder.path, logs: &logs, tools: &tools, pki: &pki, agent: &agent };
        for (place, net) in parts {
            nodes.push(Node::new(place, net, &ground)?);
        }
        for node in &nodes {
            node.start_containerd().await?;
            node.import_images(&tools)?;
        }
        let client = client(place.connector(), &admin).await?;
        let control_plane = starting.finish(&place, &logs, &tools, &pki, &client).await?;
        let lab = Lab {
            nodes,
            control_plane: control_plane.into(),
            place,
            client,
            agent,
            with_agents: self.start_agents,
            tools,
            pki,
            admin,
            folder,
        };
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
    pub(super) async fn grant(&self) -> Result<()> {
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
            match api.create(&PostParams::default(), &binding).await {
                Ok(_) => {}
                // It is there already: the lab is being mended.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error).doing(|| format!("binding {role} to {subject}")),
            }
        }
        Ok(())
    }

    /// `kubectl` in the lab's folder: works from any shell of this machine.
    fn write_kubectl(&self) -> Result<()> {
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
}
