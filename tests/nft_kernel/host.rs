//! A network namespace to test in, and the programs that look at it.
#![allow(clippy::disallowed_methods, reason = "tests run short programs and wait for them")]

use std::process::Command;

use kubelet_rs::nft::Kernel;
use kubelet_rs::sys::netns;

/// Runs a test in a new network namespace with loopback up.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Kernel) -> F + Send + 'static) {
    let outcome = netns::in_new_namespace(|| {
        run("ip", &["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Kernel::open().await.unwrap()).await });
    });
    outcome.unwrap_or_else(|error| panic!("in a network namespace of one's own, for which these tests need root: {error}"));
}

/// Runs a program that must succeed and returns what it wrote.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What `nft` reads back.
pub fn list() -> String {
    run("nft", &["list", "ruleset"])
}

/// A ruleset without what differs between two listings of the same thing: white space, the order of elements, and words that `nft` leaves
/// out where it finds them obvious.
pub fn normal(ruleset: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = ruleset.lines().map(str::trim).filter(|line| !line.is_empty());
    while let Some(line) = rest.next() {
        let Some(first) = line.strip_prefix("elements = {") else {
            lines.push(line.replace("meta l4proto tcp reject with", "reject with").replace(" addr . port to ", " to "));
            continue;
        };
        let mut elements = first.to_owned();
        while !elements.ends_with('}') {
            elements.push_str(rest.next().expect("the end of the elements"));
        }
        let mut elements: Vec<_> = elements.trim_end_matches('}').split(',').map(|element| format!("element {}", element.trim())).collect();
        elements.sort();
        lines.extend(elements);
    }
    lines
}
