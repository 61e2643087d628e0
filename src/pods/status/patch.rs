//! The patch that turns the API server's status into ours.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

use super::conditions::OWNED;
use crate::model::PodRef;

/// Fields that a status may lose again; an absent one must be named as null, or the old value stays.
const CLEARABLE: [&str; 6] = ["reason", "message", "podIP", "podIPs", "containerStatuses", "initContainerStatuses"];

/// A strategic merge patch of `pods/status`. Conditions merge by type, so only the owned ones are named and those of others stay;
/// `podIPs` merge by address, so they are replaced as a whole. The UID makes it fail for a namesake.
/// Conditions of the node that `sent` had and `status` has not are taken away.
pub fn patch(pod: &PodRef, status: &PodStatus, sent: Option<&PodStatus>) -> Value {
    let mut fields = match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    for name in CLEARABLE {
        fields.entry(name).or_insert(Value::Null);
    }
    // Written by others; naming them could only undo their work.
    for name in ["resourceClaimStatuses", "nominatedNodeName"] {
        fields.remove(name);
    }
    if let Some(Value::Array(conditions)) = fields.get_mut("conditions") {
        let place = |c: &Value| OWNED.iter().position(|owned| c.get("type").and_then(Value::as_str) == Some(owned));
        // Shared with others: it is the node's word only if it says so.
        let by_node =
            |c: &Value| c.get("type") == Some(&json!("DisruptionTarget")) && c.get("reason") == Some(&json!("TerminationByKubelet"));
        conditions.retain(|c| place(c).is_some() || by_node(c));
        let is_there = |kind: &str| status.conditions.iter().flatten().any(|c| c.type_ == kind);
        let before = sent.into_iter().flat_map(|s| s.conditions.iter().flatten()).map(|c| &*c.type_);
        let gone = before.filter(|kind| OWNED.contains(kind) && !is_there(kind));
        conditions.extend(gone.map(|kind| json!({"$patch": "delete", "type": kind})));
        // The API server keeps no order between the conditions of several writers.
        conditions.sort_by_key(place);
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut).filter(|c| !c.contains_key("$patch")) {
            condition.entry("reason").or_insert(Value::Null);
            condition.entry("message").or_insert(Value::Null);
        }
    }
    if let Some(Value::Array(ips)) = fields.get_mut("podIPs") {
        ips.push(json!({"$patch": "replace"}));
    }
    json!({"metadata": {"uid": pod.uid.as_str()}, "status": fields})
}
