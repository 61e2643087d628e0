//! One attempt at a probe: the call that leaves the agent, and what its answer means (upstream: `prober/prober.go`, `pkg/probe`).

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Probe};
use tokio::time::timeout;

use super::grpc;
use crate::model::ContainerId;
use crate::pods::http_get::{self, Get};
use crate::runtime::translate::expansion::expand;
use crate::runtime::{ErrorKind, Runtime};

/// How often an attempt that could not even be made is made again at once.
const TRIES: usize = 3;
/// Most of a command's output that an event shows.
const LONGEST_OUTPUT: usize = 10 * 1024;

/// What an attempt said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Success,
    /// It works, but somebody should look.
    Warning(String),
    /// It doesn't.
    Failure(String),
    /// The question could not be asked.
    Error(String),
}

/// What an attempt is about.
pub struct Subject<'a> {
    /// For exec.
    pub runtime: &'a dyn Runtime,
    /// The probe.
    pub probe: &'a Probe,
    /// Its container.
    pub container: &'a Spec,
    /// The instance.
    pub id: &'a ContainerId,
    /// The pod's address, as its status shows it.
    pub pod_ip: &'a str,
}

/// Asks, and asks again if the question could not be asked.
pub async fn attempt(subject: &Subject<'_>) -> Outcome {
    let mut outcome = Outcome::Error(String::new());
    for _ in 0..TRIES {
        outcome = once(subject).await;
        if !matches!(outcome, Outcome::Error(_)) {
            break;
        }
    }
    outcome
}

async fn once(subject: &Subject<'_>) -> Outcome {
    let probe = subject.probe;
    let seconds = probe.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(1);
    let limit = Duration::from_secs(seconds);
    if let Some(exec) = &probe.exec {
        return run(subject, exec.command.as_deref().unwrap_or_default(), limit).await;
    }
    if let Some(action) = &probe.http_get {
        return match Get::of(action, subject.container, subject.pod_ip, "probe") {
            Ok(get) => judge(http_get::get(&get, limit).await),
            Err(error) => Outcome::Error(error),
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(subject.pod_ip);
        return match http_get::port(&tcp.port, subject.container) {
            Ok(port) => connect(host, port, limit).await,
            Err(error) => Outcome::Error(error),
        };
    }
    if let Some(grpc) = &probe.grpc {
        let Ok(port) = u16::try_from(grpc.port) else { return Outcome::Error(format!("invalid port number: {}", grpc.port)) };
        return grpc::check(subject.pod_ip, port, grpc.service.as_deref().unwrap_or_default(), limit).await;
    }
    Outcome::Error(format!("missing probe handler for container {}", subject.container.name))
}

async fn run(subject: &Subject<'_>, command: &[String], limit: Duration) -> Outcome {
    let command = with_literals(command, subject.container);
    match subject.runtime.exec(subject.id, &command, limit).await {
        Ok(done) if done.exit_code == 0 => Outcome::Success,
        Ok(done) => {
            let output = done.output.get(..LONGEST_OUTPUT).unwrap_or(&done.output);
            Outcome::Failure(String::from_utf8_lossy(output).into_owned())
        }
        Err(error) if matches!(error.kind, ErrorKind::Deadline(_)) => {
            Outcome::Failure(format!("command timed out: {:?} timed out after {}s", command.join(" "), limit.as_secs()))
        }
        Err(error) => Outcome::Error(error.to_string()),
    }
}

/// `$(NAME)` in a command stands for what the spec says literally; a probe knows no others of the container's variables.
fn with_literals(command: &[String], container: &Spec) -> Vec<String> {
    let literals: BTreeMap<&str, &str> = container
        .env
        .iter()
        .flatten()
        .filter(|e| e.value_from.is_none())
        .map(|e| (&*e.name, e.value.as_deref().unwrap_or_default()))
        .collect();
    let expanded = command.iter().map(|word| expand(word, |name| literals.get(name).map(|value| value.as_bytes())));
    expanded.map(|word| String::from_utf8_lossy(&word).into_owned()).collect()
}

async fn connect(host: &str, port: u16, limit: Duration) -> Outcome {
    match timeout(limit, http_get::connect(host, port)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(error),
        Err(_) => Outcome::Failure(format!("dial tcp {}: i/o timeout", http_get::join(host, port))),
    }
}

fn judge(answer: Result<http_get::Answer, http_get::Error>) -> Outcome {
    match answer {
        Ok(answer) if (200..300).contains(&answer.status) => Outcome::Success,
        Ok(answer) if (300..400).contains(&answer.status) => {
            Outcome::Warning(format!("Probe terminated redirects, Response body: {}", String::from_utf8_lossy(&answer.body)))
        }
        // Without the body: it may hold what not everybody who reads events should see.
        Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
        Err(error) => Outcome::Failure(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource};

    use super::*;

    #[test]
    fn answers_below_400_are_good_and_redirects_are_a_warning() {
        let judged = |status| judge(Ok(http_get::Answer { status, body: b"there".to_vec() }));
        assert_eq!(judged(200), Outcome::Success);
        assert_eq!(judged(302), Outcome::Warning("Probe terminated redirects, Response body: there".into()));
        assert_eq!(judged(400), Outcome::Failure("HTTP probe failed with statuscode: 400".into()));
        assert_eq!(judged(503), Outcome::Failure("HTTP probe failed with statuscode: 503".into()));
    }

    #[test]
    fn commands_see_literal_variables_alone() {
        let env = |name: &str, value: Option<&str>| EnvVar {
            name: name.into(),
            value: value.map(Into::into),
            value_from: value.is_none().then(EnvVarSource::default),
        };
        let container = Spec { env: Some(vec![env("A", Some("a")), env("B", None)]), ..Default::default() };
        assert_eq!(with_literals(&["$(A)$(B)".into()], &container), ["a$(B)"]);
    }
}
