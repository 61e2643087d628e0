//! The lab: a control plane and its nodes, up in seconds, gone when dropped.

mod ask;
mod start;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::agent::Agent;
use crate::control_plane::{ControlPlane, ready};
use crate::error::Result;
use crate::leftovers::Folder;
use crate::node::Node;
use crate::pki::Pki;
use crate::place::{Place, Scope};
use crate::tools::Tools;

pub use ask::condition;
pub use start::Builder;

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
    /// Whether its nodes run the agent by themselves.
    with_agents: bool,
    tools: Tools,
    pki: Pki,
    admin: PathBuf,
    folder: Folder,
}

impl Lab {
    /// A lab of one node, named for what it is used for ("demo", "services").
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
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

    /// The kubeconfig of somebody with all rights, for programs in the control plane's place.
    pub fn admin(&self) -> &Path {
        &self.admin
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

    /// Ends the API server as a crash would.
    pub async fn kill_api_server(&self) -> Result<()> {
        self.control_plane.lock().await.kill_api_server().await
    }

    /// Starts it again, unless it runs, and waits until it answers.
    pub async fn start_api_server(&self) -> Result<()> {
        self.control_plane.lock().await.start_api_server(&self.place, &self.logs())?;
        self.wait_for("the API server", PATIENCE, async || if ready(&self.client).await { Ok(()) } else { Err("not ready".to_owned()) })
            .await
    }

    /// Brings the lab back to what it was when it came up, after a test that has failed in the middle of disturbing it.
    pub async fn mend(&self) -> Result<()> {
        self.start_api_server().await?;
        self.grant().await?;
        for node in &self.nodes {
            node.kill_agent().await?;
            node.use_agent(&self.agent, &self.tools)?;
            if !node.containerd_runs().await? {
                node.start_containerd().await?;
            }
            if self.with_agents {
                node.start_agent().await?;
            }
        }
        if self.with_agents { self.nodes_ready().await } else { Ok(()) }
    }

    /// Runs a program on a node, with the node's files, and gives what it printed.
    pub fn on_node(&self, index: usize, program: &str, args: &[&str]) -> Result<String> {
        self.node(index).place().run(Scope::Processes, program, args, "")
    }

    /// Marks the lab as one that [`crate::leftovers::clean`] may end although its owner lives.
    pub fn offer_to_clean(&self) -> Result<()> {
        self.folder.offer_to_clean()
    }
}
