//! Whether a pod wants this node: its name, its labels (upstream: scheduler, `nodename`, `nodeaffinity`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::Rejection;

/// The check's name, which is the reason of a rejection.
pub(super) const NAME: &str = "NodeAffinity";

/// nodeName, nodeSelector and required node affinity.
pub(super) fn check(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = required.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    if !selected || !required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches(term, name, labels))) {
        return Err(Rejection::predicate(NAME, "node(s) didn't match Pod's node affinity/selector"));
    }
    if spec.node_name.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != name) {
        return Err(Rejection::predicate("NodeName", "node(s) didn't match the requested node name"));
    }
    Ok(())
}

/// All of a term's requirements hold. A term without any matches nothing.
fn matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions: Vec<_> = term.match_expressions.iter().flatten().collect();
    let fields: Vec<_> = term.match_fields.iter().flatten().collect();
    let field = |requirement: &&NodeSelectorRequirement| requirement.key == "metadata.name" && holds(requirement, Some(name));
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
        && fields.iter().all(field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = |holds: fn(i64, i64) -> bool| match (value.and_then(number), values) {
        (Some(value), [limit]) => number(limit).is_some_and(|limit| holds(value, limit)),
        _ => false,
    };
    match &*requirement.operator {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|value, limit| value > limit),
        "Lt" => compared(|value, limit| value < limit),
        _ => false,
    }
}
