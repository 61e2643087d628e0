//! `conformance` runs upstream's end-to-end suite against a node of the lab, and writes docs/CONFORMANCE.md.

use std::process::ExitCode;

use integration::conformance::options::{Options, USAGE};
use integration::conformance::{document, run};
use integration::error::Doing as _;
use integration::{Agent, Error, Result};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("conformance: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.doing(|| "starting the runtime").and_then(|runtime| runtime.block_on(whole(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn whole(options: &Options) -> Result<()> {
    let outcomes = run(Agent::named(&options.agent)?, options).await?;
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
        println!("{}  {}\n      {}", if outcome.skipped { "skip" } else { "FAIL" }, outcome.name, outcome.reason);
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let failed = outcomes.iter().filter(|outcome| !outcome.passed && !outcome.skipped).count();
    println!("conformance: {} specs with {}: {passed} passed, {failed} failed", outcomes.len(), options.agent);
    if options.is_whole() {
        document::write(&options.agent, &outcomes)?;
        println!("conformance: docs/CONFORMANCE.md is written");
    }
    match (failed, outcomes.is_empty()) {
        (0, false) => Ok(()),
        (_, true) => Err(Error::Other("no spec was chosen".into())),
        (failed, _) => Err(Error::Other(format!("{failed} specs failed"))),
    }
}
