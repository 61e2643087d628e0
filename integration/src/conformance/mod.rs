//! Upstream's own end-to-end suite, `e2e.test`, against a node of the lab.
//!
//! In: [`Options`], and the programs of `setup.sh conformance`. Out: one [`Outcome`] for each spec that was chosen. Owns: a lab of one
//! node. Survives a run: its log folder, and what the caller writes of the results.

pub mod document;
pub mod options;
pub mod results;
pub mod suites;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::error::{Doing as _, Error, Result};
use crate::lab::Lab;
use options::{Choice, Options};
use results::Outcome;
use suites::Suites;

/// Starts a lab, runs what is chosen and gives the results, in the order of the suite.
pub async fn run(agent: Agent, options: &Options) -> Result<Vec<Outcome>> {
    let suites = Suites::find()?;
    let start = Instant::now();
    let say = move |what: &str| println!("[{:6.1} s] {what}", start.elapsed().as_secs_f64());
    let lab = Lab::builder("conformance").agent(agent).images(suites.images.clone()).progress(say).start().await?;
    let mut outcomes = Vec::new();
    for (number, pass) in options.passes().iter().enumerate() {
        say(&format!("{}: {} at a time, logs in {}", pass.name, pass.processes, lab.logs().display()));
        let folder = lab.logs().join(format!("suite-{number}"));
        let result = ginkgo(&lab, &suites, pass, &folder).await;
        let found = results::read(&folder.join(REPORT));
        match (result, found) {
            (_, Ok(found)) => outcomes.extend(found),
            // What it said comes first: a report that is missing follows from it.
            (Err(error), Err(_)) | (Ok(()), Err(error)) => return Err(error),
        }
    }
    say(&format!("done; ending the lab, its logs stay in {}", lab.logs().display()));
    Ok(outcomes)
}

/// The file of the results, in the folder of a pass.
const REPORT: &str = "report.json";

async fn ginkgo(lab: &Lab, suites: &Suites, pass: &Choice, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).doing(|| format!("making {}", folder.display()))?;
    let log = folder.join("ginkgo.log");
    let output = || std::fs::File::create(&log).doing(|| format!("making {}", log.display()));
    let (stdout, kubectl) = (output()?, lab.tools().kubernetes("kubectl"));
    let stderr = stdout.try_clone().doing(|| format!("opening {}", log.display()))?;
    let mut command = Command::new(&suites.ginkgo);
    command
        .args(["--no-color", "-v", "--timeout=3h", "--output-interceptor-mode=none"])
        .arg(format!("--procs={}", pass.processes))
        .arg(format!("--label-filter={}", pass.labels))
        .args(pass.files.map(|files| format!("--focus-file={files}")))
        .args(pass.focus.iter().map(|focus| format!("--focus={focus}")))
        .arg(format!("--json-report={REPORT}"))
        .arg(format!("--output-dir={}", folder.display()))
        .arg(&suites.e2e)
        .args(["--", "--provider=skeleton", "--num-nodes=1", "--dump-logs-on-failure=false", "--disable-log-dump"])
        .arg(format!("--kubeconfig={}", lab.admin().display()))
        .arg(format!("--kubectl-path={}", kubectl.display()))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", folder)
        .env("KUBECONFIG", lab.admin())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    let mut child = lab.place().spawn(&mut command)?;
    let mut told = 0;
    let status = loop {
        if let Some(status) = child.try_wait().doing(|| "waiting for the suite")? {
            break status;
        }
        sleep(Duration::from_secs(1)).await;
        told = progress(&log, told);
    };
    // Failed specs are results like others; a suite that could not run at all has left no report, and the log says why.
    if status.success() || folder.join(REPORT).exists() {
        Ok(())
    } else {
        Err(Error::Program { program: "the suite".into(), status, output: crate::process::tail(&log, 20) })
    }
}

/// Shows results that have come since the last look: the suite's log marks each with a dot.
fn progress(log: &Path, told: usize) -> usize {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let results: Vec<&str> = text.lines().filter(|line| line.starts_with("• ") && line.contains(" seconds]")).collect();
    let failed = results.iter().filter(|line| line.contains("[FAILED]")).count();
    if results.len() >= told + 10 {
        println!("           {} specs, {failed} of them failed", results.len());
        return results.len();
    }
    told
}
