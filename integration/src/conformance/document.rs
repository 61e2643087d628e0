//! The results of both agents beside each other: one list a file, and docs/CONFORMANCE.md made from the two.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::choice::Suite;
use super::results::Outcome;
use crate::agent::MODE_VARIABLE;
use crate::error::{Doing as _, Result};
use crate::tools::kubernetes_version;

/// What is known of one spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    word: String,
    reason: String,
}

type List = BTreeMap<String, Known>;

/// docs/.
fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn file(agent: &str, suite: Suite) -> PathBuf {
    docs().join(format!("conformance/{agent}-{}.tsv", suite.name()))
}

/// Writes an agent's list of one suite, and the document anew. What was run in another mode of Services has a list of its own, and no
/// place in the document.
pub fn write(agent: &str, suite: Suite, outcomes: &[Outcome]) -> Result<()> {
    let mode = std::env::var(MODE_VARIABLE).ok().filter(|mode| !mode.is_empty() && mode != "nftables");
    let path = match mode {
        Some(mode) => file(&format!("{agent}-{mode}"), suite),
        None => file(agent, suite),
    };
    std::fs::create_dir_all(docs().join("conformance")).doing(|| format!("making the folder of {}", path.display()))?;
    std::fs::write(&path, list(outcomes)).doing(|| format!("writing {}", path.display()))?;
    let read = |agent: &str, suite| parse(&std::fs::read_to_string(file(agent, suite)).unwrap_or_default());
    let why = std::fs::read_to_string(docs().join("conformance/reasons.tsv")).unwrap_or_default();
    let mut text = introduction();
    for suite in Suite::ALL {
        text += &section(suite, &read("upstream", suite), &read("kubelet-rs", suite), &reasons(&why));
    }
    let path = docs().join("CONFORMANCE.md");
    std::fs::write(&path, text).doing(|| format!("writing {}", path.display()))
}

fn word(outcome: &Outcome) -> &'static str {
    match (outcome.passed, outcome.skipped) {
        (true, _) => "pass",
        (_, true) => "skip",
        _ => "FAIL",
    }
}

/// One line for each spec: result, name, reason; sorted, and without times, so that a run that changes nothing changes no line.
fn list(outcomes: &[Outcome]) -> String {
    let mut lines: Vec<String> =
        outcomes.iter().map(|o| format!("{}\t{}\t{}", word(o), o.name, o.reason).trim_end().to_owned() + "\n").collect();
    lines.sort();
    lines.concat()
}

fn parse(text: &str) -> List {
    let fields = text.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let word = fields.next()?.to_owned();
        Some((fields.next()?.to_owned(), Known { word, reason: fields.next().unwrap_or_default().to_owned() }))
    });
    fields.collect()
}

/// `name<tab>why`, written by hand: why a spec that passes with upstream does not with kubelet-rs.
fn reasons(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('\t')).collect()
}

fn introduction() -> String {
    format!(
        "# Conformance

Upstream's own suites {version} against one node of the lab, specs that upstream marks as slow left out unless `--slow` is said.
Each agent's lists are written by

    make conformance ARGS='--agent upstream'
    make conformance

and the list of Services in iptables mode, beside the document (`conformance/kubelet-rs-iptables-services.tsv`), by

    LAB_PROXY_MODE=iptables make conformance ARGS='--suite services'

Images are built from the modules and Debian's sources under upstream's names: no registry is asked.
",
        version = kubernetes_version()
    )
}

/// What a suite is asked for, in words.
fn asked(suite: Suite) -> &'static str {
    match suite {
        Suite::Cluster => "every spec labelled `Conformance` or `NodeConformance` of `test/e2e/common/node` and `test/e2e/node`",
        Suite::Services => "specs of `test/e2e/network` that need a data plane of Services, on two nodes",
        Suite::Node => {
            "every spec of `test/e2e_node` labelled `NodeConformance`, and those on the life of pods (restarts, mirror pods, static pods, \
             termination, conditions) that are not: they end the agent and start it again too"
        }
    }
}

fn section(suite: Suite, upstream: &List, ours: &List, reasons: &BTreeMap<&str, &str>) -> String {
    let names: Vec<&String> = upstream.keys().chain(ours.keys().filter(|name| !upstream.contains_key(*name))).collect();
    let word = |list: &List, name: &str| list.get(name).map_or("–", |known| &known.word).to_owned();
    let passes = |list: &List| list.values().filter(|known| known.word == "pass").count();
    let missing: Vec<&&String> = names.iter().filter(|name| word(upstream, name) == "pass" && word(ours, name) != "pass").collect();
    let mut text = format!(
        "
## {program}

{asked}.

| | pass | of |
|---|---|---|
| upstream's kubelet and kube-proxy | {upstream_passes} | {upstream_all} |
| kubelet-rs | {our_passes} | {our_all} |

",
        program = suite.program(),
        asked = asked(suite),
        upstream_passes = passes(upstream),
        upstream_all = upstream.len(),
        our_passes = passes(ours),
        our_all = ours.len(),
    );
    let _ = writeln!(text, "### What passes with upstream and not with kubelet-rs\n");
    if missing.is_empty() {
        let _ = writeln!(text, "Nothing.");
    }
    for name in missing {
        let seen = ours.get(*name).map_or("it was not run", |known| known.reason.as_str());
        let why = reasons.get(name.as_str()).copied().unwrap_or(seen);
        let _ = writeln!(text, "- {name}: {why}");
    }
    let _ = writeln!(text, "\n### All specs\n\n| spec | upstream | kubelet-rs |\n|---|---|---|");
    for name in names {
        let _ = writeln!(text, "| {} | {} | {} |", name.replace('|', "\\|"), word(upstream, name), word(ours, name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstream_passes_and_we_do_not_has_a_line_that_says_why() {
        let outcome = |name: &str, passed| Outcome {
            name: name.into(),
            passed,
            skipped: false,
            seconds: 1.0,
            reason: if passed { String::new() } else { "timed out".into() },
        };
        let upstream = parse(&list(&[outcome("a", true), outcome("b", true), outcome("c", false), outcome("d", true)]));
        let ours = parse(&list(&[outcome("a", true), outcome("b", false), outcome("c", true)]));
        let text = section(Suite::Node, &upstream, &ours, &reasons("d\tneeds a second node\n"));
        assert!(text.contains("- b: timed out\n- d: needs a second node\n"), "{text}");
        assert!(
            text.contains("| kubelet-rs | 2 | 3 |") && text.contains("| c | FAIL | pass |") && text.contains("| d | pass | – |"),
            "{text}"
        );
    }
}
