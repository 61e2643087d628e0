//! Where the runtime serves the streams of exec, attach and port forwarding.

use proto::cri::{AttachRequest, ExecRequest, PortForwardRequest};

use super::call::{garbage, within};
use super::{ContainerId, CriRuntime, Result, SandboxId, StreamRequest};

pub(super) async fn exec(cri: &CriRuntime, id: &ContainerId, request: &StreamRequest) -> Result<String> {
    let StreamRequest { command, stdin, stdout, stderr, tty } = request.clone();
    let message = ExecRequest { container_id: id.to_string(), cmd: command, tty, stdin, stdout, stderr };
    let mut client = cri.runtime();
    let action = format!("prepare a command in container {id}");
    let answer = within(&action, cri.timeout, message, |r| async move { client.exec(r).await }).await?;
    url(&action, answer.url)
}

pub(super) async fn attach(cri: &CriRuntime, id: &ContainerId, request: &StreamRequest) -> Result<String> {
    let StreamRequest { stdin, stdout, stderr, tty, .. } = *request;
    let message = AttachRequest { container_id: id.to_string(), stdin, tty, stdout, stderr };
    let mut client = cri.runtime();
    let action = format!("attach to container {id}");
    let answer = within(&action, cri.timeout, message, |r| async move { client.attach(r).await }).await?;
    url(&action, answer.url)
}

pub(super) async fn port_forward(cri: &CriRuntime, id: &SandboxId, ports: &[u16]) -> Result<String> {
    let message = PortForwardRequest { pod_sandbox_id: id.to_string(), port: ports.iter().map(|p| i32::from(*p)).collect() };
    let mut client = cri.runtime();
    let action = format!("forward ports of sandbox {id}");
    let answer = within(&action, cri.timeout, message, |r| async move { client.port_forward(r).await }).await?;
    url(&action, answer.url)
}

fn url(action: &str, url: String) -> Result<String> {
    match url.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(url),
        _ => Err(garbage(action, format!("{url:?} in place of a URL"))),
    }
}
