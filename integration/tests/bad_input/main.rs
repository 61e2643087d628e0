//! What a person does wrong, and what a host lacks: one clear line each, and the agent lives on wherever a kubelet should.
//!
//! These tests read what kubelet-rs itself says; with another agent they fail and say so.

mod lives_on;
mod refuses;

use std::path::{Path, PathBuf};

use integration::fixture::SharedLab;
use integration::lab::PATIENCE;
use integration::process::{Process, Spec, tail};
use integration::{Agent, Error, Lab, Result};

static LAB: SharedLab = SharedLab::one_at_a_time(|| Lab::builder("bad-input").without_agents());

/// One run of the agent under another name, so with a log of its own.
struct Run {
    process: Process,
    log: PathBuf,
}

/// The agent as the lab starts it, to be changed by the test.
fn agent(lab: &Lab, name: &str) -> Result<Spec> {
    if *lab.agent() == Agent::Upstream {
        return Err(Error::Other("this reads what kubelet-rs says: run it with LAB_AGENT=kubelet-rs".into()));
    }
    let spec = lab.node(0).agent_specs().into_iter().next().ok_or_else(|| Error::Other("the node has no agent".into()))?;
    Ok(Spec { name: name.to_owned(), ..spec })
}

/// Replaces the value of a flag.
fn with(mut spec: Spec, flag: &str, value: &Path) -> Spec {
    spec.args.retain(|arg| !arg.to_string_lossy().starts_with(&format!("{flag}=")));
    spec.args.push(format!("{flag}={}", value.display()).into());
    spec
}

/// The lab's configuration with one more line at its beginning.
fn config_with(lab: &Lab, name: &str, line: &str) -> Result<PathBuf> {
    let whole = std::fs::read_to_string(lab.node(0).folder().join("kubelet.yaml")).unwrap_or_default();
    file(lab, &format!("{name}.yaml"), &format!("{line}\n{whole}"))
}

fn file(lab: &Lab, name: &str, content: &str) -> Result<PathBuf> {
    let path = lab.node(0).folder().join(name);
    std::fs::write(&path, content).map_err(|error| Error::Other(format!("writing {}: {error}", path.display())))?;
    Ok(path)
}

fn start(lab: &Lab, spec: &Spec) -> Result<Run> {
    let log = lab.logs().join(format!("{}.log", spec.name));
    Ok(Run { process: Process::start(lab.node(0).place(), &lab.logs(), spec)?, log })
}

/// Whether a line is a warning or information, as klog marks them.
fn is_remark(line: &str) -> bool {
    let mut start = line.chars();
    matches!(start.next(), Some('W' | 'I')) && start.next().is_some_and(|digit| digit.is_ascii_digit())
}

impl Run {
    fn said(&self) -> String {
        tail(&self.log, 1000)
    }

    /// Waits for the end: it must be a failure, told in at most `lines` lines with all `words`. Warnings before it don't count.
    async fn refuses(mut self, lines: usize, words: &[&str]) -> Result<()> {
        let status = self.process.wait(PATIENCE).await?;
        let said = self.said();
        assert!(!status.success(), "it ended as if all was well: {said}");
        assert!(status.code().is_some_and(|code| code < 100), "{status}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        for word in words {
            assert!(said.contains(word), "no word of {word:?}: {said}");
        }
        let count = said.lines().filter(|line| !line.trim().is_empty() && !is_remark(line)).count();
        assert!((1..=lines).contains(&count), "{count} lines: {said}");
        Ok(())
    }

    /// Waits for a line with all `words`, from an agent that lives on.
    async fn says(&mut self, lab: &Lab, words: &[&str]) -> Result<()> {
        let look = async || {
            let said = self.said();
            if said.lines().any(|line| words.iter().all(|word| line.contains(word))) { Ok(()) } else { Err(said) }
        };
        lab.wait_for(&format!("a line with {words:?}"), PATIENCE, look).await?;
        self.process.check()
    }

    /// How often a line with all `words` was written.
    fn count(&self, words: &[&str]) -> usize {
        self.said().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}
