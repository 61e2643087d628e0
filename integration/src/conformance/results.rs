//! What the suite's report says.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Doing as _, Error, Result};

/// How a spec ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The spec's whole name.
    pub name: String,
    /// It passed.
    pub passed: bool,
    /// It said itself that it can't run here, and why.
    pub skipped: bool,
    /// How long it took.
    pub seconds: f64,
    /// The first line of why it did not pass.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    #[serde(default)]
    leaf_node_text: String,
    state: String,
    /// Nanoseconds.
    #[serde(default)]
    run_time: f64,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

/// Reads a report. Specs that were not chosen are left out.
pub fn read(path: &Path) -> Result<Vec<Outcome>> {
    let text = std::fs::read_to_string(path).doing(|| format!("reading {}", path.display()))?;
    parse(&text).map_err(|error| Error::Other(format!("{} is no report of the suite: {error}", path.display())))
}

fn parse(text: &str) -> serde_json::Result<Vec<Outcome>> {
    let suites: Vec<Suite> = serde_json::from_str(text)?;
    Ok(suites.into_iter().flat_map(|suite| suite.spec_reports.unwrap_or_default()).filter_map(outcome).collect())
}

fn outcome(spec: Spec) -> Option<Outcome> {
    let message = spec.failure.map(|failure| failure.message).unwrap_or_default();
    // A spec that was not chosen is skipped without a word.
    if spec.leaf_node_type != "It" || (spec.state == "skipped" && message.is_empty()) || spec.state == "pending" {
        return None;
    }
    let words = spec.container_hierarchy_texts.unwrap_or_default().into_iter().chain([spec.leaf_node_text]);
    Some(Outcome {
        name: words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "),
        passed: spec.state == "passed",
        skipped: spec.state == "skipped",
        seconds: spec.run_time / 1e9,
        reason: message.lines().next().unwrap_or_default().replace('\t', " "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_specs_alone_are_results() {
        let text = r#"[{"SpecReports": [
            {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should be", "State": "passed", "RunTime": 2500000000},
            {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should not", "State": "failed", "RunTime": 1, "Failure": {"Message": "no\nmore"}},
            {"ContainerHierarchyTexts": [], "LeafNodeType": "It", "LeafNodeText": "other", "State": "skipped"},
            {"ContainerHierarchyTexts": [], "LeafNodeType": "It", "LeafNodeText": "can't", "State": "skipped", "Failure": {"Message": "needs two nodes"}},
            {"ContainerHierarchyTexts": null, "LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"}
        ]}, {"SpecReports": null}]"#;
        let found = parse(text).unwrap();
        let seen: Vec<_> = found.iter().map(|o| (o.name.as_str(), o.passed, o.skipped, o.reason.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("[sig-node] Pods should be", true, false, ""),
                ("[sig-node] Pods should not", false, false, "no"),
                ("can't", false, true, "needs two nodes"),
            ]
        );
        assert!((found[0].seconds - 2.5).abs() < 1e-9);
    }
}
