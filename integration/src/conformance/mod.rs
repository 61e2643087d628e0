//! Upstream's own end-to-end suites, `e2e.test` and `e2e_node.test`, against nodes of the lab.
//!
//! In: [`Options`], and the programs of `setup.sh conformance`. Out: one [`Outcome`] for each spec that was chosen. Owns: a lab of one
//! or two nodes. Survives a run: its log folder, and what the caller writes of the results.

pub mod choice;
pub mod document;
pub mod options;
pub mod results;
pub mod suites;
mod units;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::agent::{Agent, RUNTIME_SOCKET};
use crate::error::{Doing as _, Error, Result};
use crate::lab::Lab;
use crate::network::API_SERVER;
use crate::place::Scope;
use choice::{Choice, Suite};
use options::Options;
use results::Outcome;
use suites::Suites;
use units::Units;

/// Starts a lab for a suite, runs what is chosen and gives the results, in the order of the suite.
pub async fn run(suite: Suite, agent: Agent, options: &Options) -> Result<Vec<Outcome>> {
    let suites = Suites::find()?;
    let start = Instant::now();
    let say = move |what: &str| println!("[{:6.1} s] {what}", start.elapsed().as_secs_f64());
    let builder = Lab::builder("conformance").nodes(suite.nodes()).agent(agent).images(suites.images.clone()).progress(say);
    let lab = match suite {
        Suite::Cluster | Suite::Services => builder.start().await?,
        Suite::Node => builder.for_node_suite(TOKEN).start().await?,
    };
    if suite == Suite::Node {
        api_server_on_the_node(&lab)?;
    }
    // Pods of these specs find Services by name.
    let _dns = if suite == Suite::Services { Some(crate::dns::Dns::start(&lab).await?) } else { None };
    let mut outcomes = Vec::new();
    for (number, pass) in options.passes(suite).iter().enumerate() {
        say(&format!("{}: {} at a time, logs in {}", pass.name, pass.processes, lab.logs().display()));
        let folder = lab.logs().join(format!("suite-{number}"));
        let result = ginkgo(&lab, &suites, suite, pass, &folder).await;
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

/// Who shows it to the lab's API server may do everything; the lab is reached from its own namespaces alone.
const TOKEN: &str = "suite";

/// The suite for nodes looks for the API server on the node itself.
fn api_server_on_the_node(lab: &Lab) -> Result<()> {
    let place = lab.node(0).place();
    place.run(Scope::Network, "sysctl", &["-qw", "net.ipv4.conf.all.route_localnet=1"], "")?;
    let rules = format!(
        "table ip suite {{
  chain out {{
    type nat hook output priority -110
    ip daddr 127.0.0.1 tcp dport 6443 dnat to {API_SERVER}
  }}
  chain back {{
    type nat hook postrouting priority 90
    ip saddr 127.0.0.1 ip daddr {API_SERVER} masquerade
  }}
}}
"
    );
    place.run(Scope::Network, "nft", &["-f", "-"], &rules).map(drop)
}

/// The file of the results, in the folder of a pass.
const REPORT: &str = "report.json";

async fn ginkgo(lab: &Lab, suites: &Suites, suite: Suite, pass: &Choice, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).doing(|| format!("making {}", folder.display()))?;
    let log = folder.join("ginkgo.log");
    let output = || std::fs::File::create(&log).doing(|| format!("making {}", log.display()));
    let stdout = output()?;
    let units = Units::new(folder.join("bin"))?;
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
        .arg(suites.program(suite))
        .arg("--")
        .args(arguments(lab, suite))
        .env_clear()
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", units.path().display()))
        .env("HOME", folder)
        .env("KUBECONFIG", lab.admin())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    let place = match suite {
        Suite::Cluster | Suite::Services => lab.place(),
        Suite::Node => lab.node(0).place(),
    };
    let mut child = place.spawn(&mut command)?;
    let (mut told, mut shown) = (0, Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait().doing(|| "waiting for the suite")? {
            break status;
        }
        sleep(Duration::from_millis(100)).await;
        if suite == Suite::Node {
            units.serve(lab.node(0)).await?;
        }
        if shown.elapsed() > Duration::from_secs(1) {
            shown = Instant::now();
            told = progress(&log, told);
        }
    };
    // Failed specs are results like others; a suite that could not run at all has left no report, and the log says why.
    if status.success() || folder.join(REPORT).exists() {
        Ok(())
    } else {
        Err(Error::Program { program: "the suite".into(), status, output: crate::process::tail(&log, 20) })
    }
}

/// What a suite is told about the lab.
fn arguments(lab: &Lab, suite: Suite) -> Vec<String> {
    match suite {
        Suite::Cluster | Suite::Services => vec![
            "--provider=skeleton".into(),
            format!("--num-nodes={}", suite.nodes()),
            "--dump-logs-on-failure=false".into(),
            "--disable-log-dump".into(),
            format!("--kubeconfig={}", lab.admin().display()),
            format!("--kubectl-path={}", lab.tools().kubernetes("kubectl").display()),
        ],
        Suite::Node => vec![
            "--start-services=false".into(),
            "--prepull-images=false".into(),
            // Two minutes for each spec that fails, in a search for metrics of the control plane.
            "--dump-logs-on-failure=false".into(),
            "--dns-domain=cluster.local".into(),
            format!("--bearer-token={TOKEN}"),
            format!("--node-name={}", lab.node(0).name()),
            format!("--container-runtime-endpoint=unix://{RUNTIME_SOCKET}"),
            format!("--kubelet-config-file={}", lab.node(0).config().display()),
        ],
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
