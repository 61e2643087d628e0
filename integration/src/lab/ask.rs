//! What is asked of a running lab: kubectl, waiting for something, and what there is to see when it does not come.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::Api;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::{Lab, PATIENCE};
use crate::error::{Doing as _, Error, Result};

impl Lab {
    /// Runs kubectl as a person with all rights would; gives what it printed on stdout.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_input(args, "").await
    }

    /// As [`Lab::kubectl`], with something on stdin: `&["apply", "-f", "-"]`.
    pub async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new("nsenter");
        let net = format!("--net=/proc/{}/ns/net", self.place.first_pid());
        command.arg(net).arg(self.tools.kubernetes("kubectl")).arg("--kubeconfig").arg(&self.admin).args(args).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = || format!("kubectl {}", args.join(" "));
        let mut child = command.spawn().doing(shown)?;
        let stdin = child.stdin.take();
        let feed = async move {
            match stdin {
                Some(mut stdin) => stdin.write_all(input.as_bytes()).await,
                None => Ok(()),
            }
        };
        // At the same time: what answers while it is asked would wait for a reader.
        let both = timeout(2 * PATIENCE, async { tokio::join!(feed, child.wait_with_output()) });
        let (fed, output) = both.await.map_err(|_| Error::Other(format!("{} did not end", shown())))?;
        let output = output.doing(shown)?;
        if output.status.success() {
            fed.doing(shown)?;
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let both = [output.stdout, output.stderr].concat();
        Err(Error::Program { program: shown(), status: output.status, output: String::from_utf8_lossy(&both).trim().to_owned() })
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
            let seen = match timeout(patience, probe()).await {
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
            let last = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n");
            let _ = writeln!(text, "--- kubectl {}\n{last}", args.join(" "));
        }
        for node in &self.nodes {
            let ended = node.check().await.err().map(|error| format!("{error}\n")).unwrap_or_default();
            let _ = writeln!(text, "--- agent on {} (all logs: {})\n{ended}{}", node.name(), self.logs().display(), node.agent_log(25));
        }
        text
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
