//! `lab demo` brings a cluster up and leaves it running; `lab clean` ends it and removes what crashed tests left; `lab sweep` removes
//! only that, and leaves logs.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use integration::demo::{UP, own};
use integration::error::Doing as _;
use integration::{Agent, Error, Result, leftovers};

const USAGE: &str = "usage: lab demo [--agent kubelet-rs|upstream] | lab clean | lab sweep";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["clean"] => clean(),
        ["sweep"] => leftovers::sweep(),
        ["demo"] => demo("kubelet-rs"),
        ["demo", "--agent", agent] => demo(agent),
        // What `demo` leaves behind as the owner of the cluster.
        ["own", agent] => Agent::named(agent).and_then(own),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn clean() -> Result<()> {
    let leftovers::Cleaned { removed, mut failures } = leftovers::clean()?;
    println!("lab: {}", if removed.is_empty() { "nothing to remove".to_owned() } else { format!("removed {}", removed.join(", ")) });
    let last = failures.pop();
    failures.iter().for_each(|failure| println!("lab: {failure}"));
    last.map_or(Ok(()), Err)
}

/// Starts the owner in the background and shows what it says until the cluster is up.
fn demo(agent: &str) -> Result<()> {
    let this = std::env::current_exe().doing(|| "looking for this program")?;
    let mut owner = Command::new(this)
        .args(["own", agent])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .doing(|| "starting the owner of the cluster")?;
    for line in owner.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line.doing(|| "reading what the owner of the cluster says")?;
        if line == UP {
            return Ok(());
        }
        println!("{line}");
    }
    let status = owner.wait().doing(|| "waiting for the owner of the cluster")?;
    Err(Error::Other(format!("the demo did not come up ({status})")))
}
