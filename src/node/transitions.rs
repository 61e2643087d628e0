//! Which node events a new status calls for (pure).

use k8s_openapi::api::core::v1::{Node, NodeStatus};

/// A condition turned to the given status: the event's reason.
const EVENTS: [(&str, &str, &str); 8] = [
    ("MemoryPressure", "True", "NodeHasInsufficientMemory"),
    ("MemoryPressure", "False", "NodeHasSufficientMemory"),
    ("DiskPressure", "True", "NodeHasDiskPressure"),
    ("DiskPressure", "False", "NodeHasNoDiskPressure"),
    ("PIDPressure", "True", "NodeHasInsufficientPID"),
    ("PIDPressure", "False", "NodeHasSufficientPID"),
    ("Ready", "True", "NodeReady"),
    ("Ready", "False", "NodeNotReady"),
];

/// Reasons of the events for conditions that are other than before. A node that never was ready doesn't become not ready.
pub fn of_conditions(old: &NodeStatus, new: &NodeStatus) -> Vec<&'static str> {
    let find = |status: &NodeStatus, name: &str| {
        let condition = status.conditions.iter().flatten().find(|c| c.type_ == name);
        condition.map(|c| c.status.clone())
    };
    let turned = EVENTS.into_iter().filter(|(name, status, reason)| {
        let before = find(old, name);
        find(new, name).as_deref() == Some(status) && before.as_deref() != Some(status) && (before.is_some() || *reason != "NodeNotReady")
    });
    turned.map(|(_, _, reason)| reason).collect()
}

/// Reason of the event for a cordon that was set or lifted.
pub fn of_cordon(old: &Node, new: &Node) -> Option<&'static str> {
    let cordoned = |node: &Node| node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    match (cordoned(old), cordoned(new)) {
        (false, true) => Some("NodeNotSchedulable"),
        (true, false) => Some("NodeSchedulable"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec};

    use super::*;

    fn status(conditions: &[(&str, &str)]) -> NodeStatus {
        let condition =
            |(name, status): &(&str, &str)| NodeCondition { type_: (*name).into(), status: (*status).into(), ..NodeCondition::default() };
        NodeStatus { conditions: Some(conditions.iter().map(condition).collect()), ..NodeStatus::default() }
    }

    #[test]
    fn only_changes_are_told() {
        let table: [(&[_], &[_], &[&str]); 6] = [
            (&[], &[("MemoryPressure", "False"), ("Ready", "False")], &["NodeHasSufficientMemory"]),
            (&[], &[("Ready", "True")], &["NodeReady"]),
            (&[("Ready", "False")], &[("Ready", "True")], &["NodeReady"]),
            (&[("Ready", "Unknown")], &[("Ready", "False")], &["NodeNotReady"]),
            (&[("Ready", "True")], &[("Ready", "True")], &[]),
            (&[("DiskPressure", "False")], &[("DiskPressure", "True")], &["NodeHasDiskPressure"]),
        ];
        for (old, new, want) in table {
            assert_eq!(of_conditions(&status(old), &status(new)), want, "{old:?} → {new:?}");
        }
    }

    #[test]
    fn cordons_are_told() {
        let node = |cordoned| Node { spec: Some(NodeSpec { unschedulable: cordoned, ..NodeSpec::default() }), ..Node::default() };
        assert_eq!(of_cordon(&node(None), &node(Some(true))), Some("NodeNotSchedulable"));
        assert_eq!(of_cordon(&node(Some(true)), &node(None)), Some("NodeSchedulable"));
        assert_eq!(of_cordon(&node(None), &node(Some(false))), None);
    }
}
