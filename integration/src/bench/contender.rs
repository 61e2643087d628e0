//! One of those that are compared: its node and its processes.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Api, DeleteParams, WatchEvent};
use tokio::time::Instant;

use super::figures::Who;
use super::watch::Watch;
use crate::agent::{self, Agent, NodeFacts};
use crate::cgroups;
use crate::error::{Doing as _, Error, Result};
use crate::lab::{Lab, PATIENCE, condition};
use crate::network::NodeNet;
use crate::node::Node;
use crate::place::Scope;
use crate::process::{Process, Spec};

/// kubelet-rs, or kubelet and kube-proxy, on a node of its own.
pub struct Contender {
    /// Which.
    pub who: Who,
    node: usize,
    /// The kubelet, or kubelet-rs.
    agent: Spec,
    /// kube-proxy; nothing where the agent does its work.
    proxy: Option<Spec>,
    running: Vec<Process>,
}

impl Contender {
    /// Prepares it, starts nothing.
    pub fn new(lab: &Lab, who: Who) -> Result<Self> {
        let (index, kind) = match who {
            Who::KubeletRs => (1, Agent::named("kubelet-rs")?),
            Who::Upstream | Who::Floor => (0, Agent::Upstream),
        };
        let node = lab.node(index);
        let facts = NodeFacts {
            lab: lab_id(lab),
            node: node.name(),
            net: NodeNet::new(if index == 0 { 1 } else { 2 }),
            folder: node.folder(),
            ca: &lab.pki().path("ca.crt"),
            kubeconfig: &lab.pki().kubeconfig(node.name(), &format!("system:node:{}", node.name()), Some("system:nodes"))?,
        };
        let mut specs = agent::specs(&kind, lab.tools(), &facts)?.into_iter();
        let agent = specs.next().ok_or_else(|| Error::Other(format!("{} has no process", who.name())))?;
        Ok(Self { who, node: index, agent, proxy: specs.next(), running: Vec::new() })
    }

    /// Its node.
    pub fn node<'a>(&self, lab: &'a Lab) -> &'a Node {
        lab.node(self.node)
    }

    /// The control group that the node's pods are below.
    pub fn cgroup(&self, lab: &Lab) -> String {
        cgroups::name(lab_id(lab), self.node(lab).name())
    }

    /// Its programs.
    pub fn programs(&self) -> impl Iterator<Item = &Spec> {
        [&self.agent].into_iter().chain(&self.proxy)
    }

    /// The processes that run, with a short name.
    pub fn processes(&self) -> Vec<(&'static str, u32)> {
        let name = |process: &Process| match self.who {
            Who::KubeletRs => "kubelet-rs",
            _ if process.log().ends_with(format!("{}.log", self.agent.name)) => "kubelet",
            _ => "kube-proxy",
        };
        self.running.iter().map(|process| (name(process), process.pid())).collect()
    }

    /// Their ids.
    pub fn pids(&self) -> Vec<u32> {
        self.running.iter().map(Process::pid).collect()
    }

    /// Starts the node's agent with no Node object and no rules; gives the time until the Node is Ready.
    pub async fn start_node(&mut self, lab: &Lab) -> Result<Duration> {
        self.stop().await?;
        self.clear_rules(lab)?;
        let name = self.node(lab).name().to_owned();
        let nodes: Api<NodeObject> = Api::all(lab.client());
        match nodes.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error).doing(|| format!("deleting Node {name}")),
        }
        let mut watch = Watch::open(&nodes, &format!("metadata.name={name}")).await?;
        let start = Instant::now();
        self.running.push(Process::start(self.node(lab).place(), &lab.logs(), &self.agent)?);
        let ready = |event: &WatchEvent<NodeObject>| match event {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => condition(node, "Ready").is_some_and(|(status, _)| status == "True"),
            _ => false,
        };
        let at = watch.until(&format!("Node {name} to be Ready"), PATIENCE, ready).await?;
        Ok(at - start)
    }

    /// Starts the node's agent again on what it left.
    pub fn resume(&mut self, lab: &Lab) -> Result<()> {
        self.running.push(Process::start(self.node(lab).place(), &lab.logs(), &self.agent)?);
        Ok(())
    }

    /// Starts all of it and waits until it works.
    pub async fn start(&mut self, lab: &Lab) -> Result<()> {
        self.start_node(lab).await?;
        if let Some(proxy) = &self.proxy {
            self.running.push(Process::start(self.node(lab).place(), &lab.logs(), proxy)?);
            let connector = self.node(lab).place().connector();
            let health = SocketAddr::from(([127, 0, 0, 1], 10256));
            let healthy = async || connector.http(health, "/healthz", Duration::from_secs(1)).await.map_err(|error| error.to_string());
            lab.wait_for("kube-proxy to be healthy", PATIENCE, healthy).await?;
        }
        Ok(())
    }

    /// Starts what programs Services, on a node without rules whose Node object is there: kube-proxy alone, or all of kubelet-rs.
    pub fn start_services(&mut self, lab: &Lab) -> Result<()> {
        self.clear_rules(lab)?;
        let spec = self.proxy.as_ref().unwrap_or(&self.agent);
        self.running.push(Process::start(self.node(lab).place(), &lab.logs(), spec)?);
        Ok(())
    }

    /// Ends it.
    pub async fn stop(&mut self) -> Result<()> {
        for process in self.running.drain(..) {
            process.stop(Duration::from_secs(20)).await?;
        }
        Ok(())
    }

    /// An error with the end of the log if a process has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.running.iter_mut().try_for_each(Process::check)
    }

    /// Removes all rules from its node.
    pub fn clear_rules(&self, lab: &Lab) -> Result<()> {
        self.node(lab).place().run(Scope::Network, "nft", &["flush", "ruleset"], "").map(drop)
    }
}

fn lab_id(lab: &Lab) -> &str {
    lab.folder().file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
