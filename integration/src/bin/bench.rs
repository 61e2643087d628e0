//! `make bench`: kubelet-rs beside upstream's kubelet and kube-proxy, and both beside the runtime alone.

use std::path::Path;
use std::process::ExitCode;

use integration::agent::Agent;
use integration::bench::report::{Figures, table};
use integration::bench::{Sizes, binary_size, measure, measure_floor};
use integration::error::Doing as _;
use integration::tools::{Tools, kubelet_rs, kubernetes_version};
use integration::{Error, Result};

const USAGE: &str = "usage: bench [--small] [--only kubelet-rs|upstream]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        [] => run(Sizes::FULL, None),
        ["--only", agent] => run(Sizes::FULL, Some(agent)),
        ["--small"] => run(Sizes::SMALL, None),
        ["--small", "--only", agent] => run(Sizes::SMALL, Some(agent)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(sizes: Sizes, only: Option<&str>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().doing(|| "starting the runtime")?;
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    if !wanted("kubelet-rs") && !wanted("upstream") {
        return Err(Error::Other(USAGE.into()));
    }
    let (mut ours, mut upstream) = (Figures::default(), Figures::default());
    let tools = Tools::find()?;
    if wanted("kubelet-rs") {
        let binary = kubelet_rs()?;
        ours = runtime.block_on(measure(Agent::KubeletRs(binary.clone()), sizes, |what| println!("kubelet-rs: {what}")))?;
        ours.bytes("binary", binary_size(&binary)?);
    }
    if wanted("upstream") {
        upstream = runtime.block_on(measure(Agent::Upstream, sizes, |what| println!("upstream: {what}")))?;
        upstream.bytes("binary", binary_size(&tools.kubernetes("kubelet"))? + binary_size(&tools.kubernetes("kube-proxy"))?);
    }
    let floor = runtime.block_on(measure_floor(sizes, |what| println!("floor: {what}")))?;
    let table = table(&ours, &upstream, &floor);
    println!("\n{table}");
    if only.is_none() && std::env::args().len() == 1 {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/BENCHMARKS.md");
        std::fs::write(&path, page(&table)).doing(|| format!("writing {}", path.display()))?;
        println!("written to docs/BENCHMARKS.md");
    }
    Ok(())
}

fn page(table: &str) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# Benchmarks\n\nMade by `make bench`, on {cpus} cores under Linux {kernel}, with Kubernetes {version} and containerd 2.x. Upstream is kubelet \
and kube-proxy (nftables mode) together, with the same configuration. The floor is a client that makes the same CRI calls and nothing \
else. Pods run the pause image, are pinned to the node, and have a service-account token; images are present. Services have one port and two \
endpoints each.\n\n{table}",
        kernel = read("/proc/sys/kernel/osrelease").trim(),
        version = kubernetes_version(),
    )
}
