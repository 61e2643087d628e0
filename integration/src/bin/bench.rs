//! `bench` measures kubelet-rs beside upstream's kubelet and kube-proxy, prints a table and writes docs/BENCHMARKS.md.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use integration::bench::host::Host;
use integration::bench::options::{Options, USAGE};
use integration::bench::{Bench, plot, report};
use integration::error::Doing as _;
use integration::tools::Tools;
use integration::{Error, Result};
use tokio::time::{Instant, timeout};

/// A run that takes longer is ended, and what it has measured is printed.
const LIMIT: Duration = Duration::from_secs(35 * 60);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.doing(|| "starting the runtime").and_then(|runtime| runtime.block_on(run(options)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<()> {
    let start = Instant::now();
    let host = Host::look(&Tools::find()?);
    let mut bench = Bench::start(options.clone()).await?;
    let in_time = timeout(LIMIT.saturating_sub(start.elapsed()), bench.run()).await.is_ok();
    println!("\n{}", report::tables(&bench.figures));
    if !in_time {
        return Err(Error::Other(format!(
            "the run was ended after {} minutes: the table lacks what was still to come",
            LIMIT.as_secs() / 60
        )));
    }
    if options.is_whole() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let document = report::document(&bench, &host, start.elapsed().as_secs_f64() / 60.0);
        for (name, text) in [("BENCHMARKS.md", document), ("benchmarks.svg", plot::svg(&bench.figures))] {
            std::fs::write(docs.join(name), text).doing(|| format!("writing docs/{name}"))?;
            println!("bench: docs/{name} is written");
        }
    } else {
        println!("bench: docs/BENCHMARKS.md is left as it is: this was not a whole run");
    }
    match bench.figures.failures() {
        [] => Ok(()),
        failures => Err(Error::Other(format!("{} measurements failed:\n{}", failures.len(), failures.join("\n")))),
    }
}
