//! Slices of upstream's own suites: `make conformance` runs all of them.

use std::sync::{Mutex, PoisonError};

use integration::Agent;
use integration::conformance::choice::Suite;
use integration::conformance::options::Options;
use integration::conformance::run;

/// One suite at a time: each keeps all CPUs busy, and some specs measure how long something takes.
static TURN: Mutex<()> = Mutex::new(());

fn passes(suite: Suite) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let options = Options::parse(["--slice".to_owned()]).expect("options");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let outcomes = runtime.block_on(async { run(suite, Agent::from_env()?, &options).await }).expect("the suite runs");
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| !outcome.passed).map(|outcome| format!("{}: {}", outcome.name, outcome.reason)).collect();
    assert!(failed.is_empty(), "{} specs did not pass:\n{}", failed.len(), failed.join("\n"));
    let mut names: Vec<&str> = outcomes.iter().map(|outcome| outcome.name.as_str()).collect();
    names.sort_unstable();
    let mut wanted: Vec<&str> = suite.slice().collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted, "every spec of the slice was run");
}

#[test]
fn a_slice_of_upstreams_suite_for_clusters_passes() {
    passes(Suite::Cluster);
}

#[test]
fn a_slice_of_upstreams_suite_for_nodes_passes() {
    passes(Suite::Node);
}

#[test]
fn a_slice_of_upstreams_suite_for_services_passes() {
    passes(Suite::Services);
}
