//! Fills in what the configuration leaves open.

use serde_json::{Map, Value, json};

use super::check::is_zero;
use super::schema::{Default, Field, KUBELET, Kind};

/// Thresholds of a configuration that names none (pkg/kubelet/eviction/defaults_linux.go).
const EVICTION_HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// Fills every field that has a default. May be called again: what is there stays.
pub(super) fn fill(document: &mut Map<String, Value>) {
    derived(document);
    fill_fields(document, KUBELET, true);
}

/// The same with another schema.
pub(super) fn fill_with(document: &mut Map<String, Value>, schema: &[Field]) {
    fill_fields(document, schema, true);
}

/// The same after flags were laid over a filled document: a number that is zero now was asked for (`--max-pods=0`).
pub(super) fn fill_after_flags(document: &mut Map<String, Value>) {
    derived(document);
    fill_fields(document, KUBELET, false);
}

/// What upstream gives a cluster admin who names no config file at all: settings from before authentication was the default
/// (cmd/kubelet/app/options/options.go, applyLegacyDefaults).
pub(super) fn legacy() -> Map<String, Value> {
    let value = json!({
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "readOnlyPort": 10255,
    });
    if let Value::Object(object) = value { object } else { Map::new() }
}

/// Defaults that follow from other fields.
fn derived(document: &mut Map<String, Value>) {
    let set = |document: &Map<String, Value>, name: &str| document.get(name).is_some_and(|value| !is_zero(value));
    // Whoever sets the one frequency has always got the other one equal to it.
    if !set(document, "nodeStatusReportFrequency")
        && let Some(update) = document.get("nodeStatusUpdateFrequency").filter(|value| !is_zero(value)).cloned()
    {
        document.insert("nodeStatusReportFrequency".into(), update);
    }
    if !document.contains_key("serializeImagePulls") {
        let parallel = document.get("maxParallelImagePulls").and_then(Value::as_i64).is_some_and(|most| most >= 2);
        document.insert("serializeImagePulls".into(), json!(!parallel));
    }
    if document.get("podPidsLimit").and_then(Value::as_i64).is_some_and(|limit| limit < 0) {
        document.insert("podPidsLimit".into(), json!(-1));
    }
    let merge = document.get("mergeDefaultEvictionSettings").and_then(Value::as_bool).unwrap_or(false);
    if merge || !document.contains_key("evictionHard") {
        let thresholds = document.entry("evictionHard").or_insert_with(|| json!({}));
        if let Value::Object(thresholds) = thresholds {
            for (signal, threshold) in EVICTION_HARD {
                thresholds.entry(signal).or_insert_with(|| json!(threshold));
            }
        }
    }
}

fn fill_fields(object: &mut Map<String, Value>, schema: &[Field], replace_numbers: bool) {
    for field in schema {
        let (json, replace_zero) = match field.default {
            Default::Absent => continue,
            Default::Json(json) => (json, false),
            Default::ForZero(json) => (json, replace_numbers || !matches!(field.kind, Kind::Int(..))),
        };
        let open = object.get(field.name).is_none_or(|value| replace_zero && is_zero(value));
        if open {
            // The schema's own texts; a test parses them all.
            object.insert(field.name.to_owned(), serde_json::from_str(json).unwrap_or_default());
        }
        if let (Kind::Struct(inner), Some(Value::Object(value))) = (&field.kind, object.get_mut(field.name)) {
            fill_fields(value, inner, replace_numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{check, schema};
    use super::*;

    fn filled(value: Value) -> Map<String, Value> {
        let Value::Object(mut object) = value else { panic!("an object") };
        fill(&mut object);
        object
    }

    #[test]
    fn the_schema_accepts_its_own_defaults() {
        let mut document = filled(json!({}));
        let mut problems = Vec::new();
        check::fields(&mut document, schema::KUBELET, "", &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        assert!(!document.values().any(Value::is_null));
    }

    #[test]
    fn derived_defaults() {
        let document = filled(json!({"nodeStatusUpdateFrequency": "4s", "maxParallelImagePulls": 3, "podPidsLimit": -7}));
        assert_eq!(document.get("nodeStatusReportFrequency"), Some(&json!("4s")));
        assert_eq!(document.get("serializeImagePulls"), Some(&json!(false)));
        assert_eq!(document.get("podPidsLimit"), Some(&json!(-1)));
        let document = filled(json!({"nodeStatusUpdateFrequency": "0s", "syncFrequency": "0s"}));
        assert_eq!(document.get("nodeStatusReportFrequency"), Some(&json!("5m0s")));
        assert_eq!(document.get("syncFrequency"), Some(&json!("1m0s")));
        assert_eq!(document.get("serializeImagePulls"), Some(&json!(true)));
    }

    #[test]
    fn eviction_thresholds_are_all_or_nothing_unless_merged() {
        let one = json!({"memory.available": "1Gi"});
        let document = filled(json!({"evictionHard": one}));
        assert_eq!(document.get("evictionHard"), Some(&one));
        let document = filled(json!({"evictionHard": one, "mergeDefaultEvictionSettings": true}));
        let merged = document.get("evictionHard").and_then(Value::as_object).expect("thresholds");
        assert_eq!((merged.len(), merged.get("memory.available")), (5, Some(&json!("1Gi"))));
    }

    #[test]
    fn explicit_zeros_of_pointer_fields_stay() {
        let document = filled(json!({"healthzPort": 0, "registryPullQPS": 0, "failSwapOn": false, "authentication": {"webhook": {}}}));
        assert_eq!(document.get("healthzPort"), Some(&json!(0)));
        assert_eq!(document.get("registryPullQPS"), Some(&json!(0)));
        assert_eq!(document.get("failSwapOn"), Some(&json!(false)));
        let webhook = document.get("authentication").and_then(|a| a.get("webhook"));
        assert_eq!(webhook, Some(&json!({"enabled": true, "cacheTTL": "2m0s"})));
    }
}
