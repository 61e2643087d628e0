//! `conformance` runs upstream's end-to-end suite against a node of the lab, and writes docs/CONFORMANCE.md.

use std::process::ExitCode;

use integration::conformance::options::{Options, USAGE};
use integration::conformance::results::Outcome;
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
    let (mut failed, mut all) = (0, 0);
    for suite in &options.suites {
        let outcomes = run(*suite, Agent::named(&options.agent)?, options).await?;
        failed += tell(&outcomes, options);
        all += outcomes.len();
        if options.is_whole() {
            document::write(&options.agent, *suite, &outcomes)?;
            println!("conformance: docs/CONFORMANCE.md is written");
        }
    }
    match (failed, all) {
        (_, 0) => Err(Error::Other("no spec was chosen".into())),
        (0, _) => Ok(()),
        (failed, _) => Err(Error::Other(format!("{failed} specs failed"))),
    }
}

/// Prints what did not pass, and gives how many failed.
fn tell(outcomes: &[Outcome], options: &Options) -> usize {
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
        println!("{}  {}\n      {}", if outcome.skipped { "skip" } else { "FAIL" }, outcome.name, outcome.reason);
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let failed = outcomes.iter().filter(|outcome| !outcome.passed && !outcome.skipped).count();
    println!("conformance: {} specs with {}: {passed} passed, {failed} failed", outcomes.len(), options.agent);
    failed
}
