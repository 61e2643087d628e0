//! The strict decoder's one walker: compares a document with the schema and reports everything that is wrong with it.

use serde_json::{Map, Value};

use super::duration;
use super::nearest::nearest;
use super::schema::{Default, Field, Kind};
use crate::model::quantity::Quantity;

/// Compares all fields of a document. Adds one line for each mistake. Nulls are left alone: a merge turns them into absent fields.
pub(super) fn fields(object: &mut Map<String, Value>, schema: &[Field], path: &str, problems: &mut Vec<String>) {
    for (name, value) in object.iter_mut().filter(|(_, value)| !value.is_null()) {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match schema.iter().find(|field| field.name == name) {
            Some(field) if matches!(field.default, Default::ForZero(_)) && is_zero(value) => {}
            Some(field) => check(value, &field.kind, &at, problems),
            None => problems.push(match nearest(name, schema.iter().map(|f| f.name)) {
                Some(close) => format!("{at}: unknown field; did you mean {close:?}?"),
                None => format!("{at}: unknown field"),
            }),
        }
    }
}

/// Compares one value.
pub(super) fn check(value: &mut Value, kind: &Kind, path: &str, problems: &mut Vec<String>) {
    let mut wrong = |expected: &str, value: &Value| problems.push(format!("{path}: expected {expected}, got {}", shown(value)));
    match (kind, &mut *value) {
        (Kind::Bool, Value::Bool(_)) | (Kind::Float, Value::Number(_)) | (Kind::Text | Kind::Path, Value::String(_)) => {}
        (Kind::Bool, Value::String(text)) => match yaml_1_1_bool(text) {
            Some(truth) => *value = Value::Bool(truth),
            None => wrong("true or false", value),
        },
        (Kind::Bool, other) => wrong("true or false", other),
        (Kind::Int(min, max), other) => match other.as_i64() {
            Some(number) if (*min..=*max).contains(&number) => {}
            _ if *min == i64::MIN => wrong("a whole number", other),
            _ if *max >= i64::from(i32::MAX) => wrong(&format!("a whole number, {min} or more"), other),
            _ => wrong(&format!("a whole number from {min} to {max}"), other),
        },
        (Kind::Float, other) => wrong("a number", other),
        (Kind::Text | Kind::Path, other @ (Value::Number(_) | Value::Bool(_))) => wrong("text (put it in quotes)", other),
        (Kind::Text | Kind::Path, other) => wrong("text", other),
        (Kind::OneOf(words), Value::String(text)) if words.contains(&text.as_str()) => {}
        (Kind::OneOf(words), other) => wrong(&format!("one of {}", alternatives(words)), other),
        (Kind::Ip, Value::String(text)) if text.parse::<std::net::IpAddr>().is_ok() => {}
        (Kind::Ip, other) => wrong("an IP address such as \"10.96.0.10\"", other),
        (Kind::Quantity, Value::String(text)) if text.parse::<Quantity>().is_ok() => {}
        // Upstream's type reads numbers too; from here on it is a text.
        (Kind::Quantity, Value::Number(number)) if number.to_string().parse::<Quantity>().is_ok() => {
            *value = Value::String(number.to_string())
        }
        (Kind::Quantity, other) => wrong("a quantity in quotes such as \"10Mi\"", other),
        (Kind::Duration, Value::String(text)) if matches!(duration::parse_signed(text), Some((false, _))) => {}
        (Kind::SignedDuration, Value::String(text)) if duration::parse_signed(text).is_some() => {}
        (Kind::DurationOrNanos, Value::String(text)) if matches!(duration::parse_signed(text), Some((false, _))) => {}
        (Kind::DurationOrNanos, Value::Number(nanos)) if nanos.is_u64() => {}
        (Kind::Duration | Kind::DurationOrNanos | Kind::SignedDuration, other) => wrong("a duration such as \"2m0s\"", other),
        (Kind::List(inner), Value::Array(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                check(item, inner, &format!("{path}[{index}]"), problems);
            }
        }
        (Kind::List(_), other) => wrong("a list", other),
        (Kind::Map(inner), Value::Object(entries)) => {
            for (key, item) in entries.iter_mut().filter(|(_, item)| !item.is_null()) {
                check(item, inner, &format!("{path}[{key:?}]"), problems);
            }
        }
        (Kind::Struct(schema), Value::Object(object)) => fields(object, schema, path, problems),
        (Kind::Map(_) | Kind::Struct(_), other) => wrong("a block of fields", other),
    }
}

/// Whether a value is Go's zero of its type, which for most fields means that the default is wanted.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || matches!(duration::parse_signed(text), Some((_, length)) if length.is_zero()),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.values().all(is_zero),
    }
}

/// What upstream's YAML library takes for a boolean beyond `true` and `false`, and ours for text.
fn yaml_1_1_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn alternatives(words: &[&str]) -> String {
    words.iter().filter(|word| !word.is_empty()).map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a block of fields".to_owned(),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema::KUBELET;
    use super::*;

    fn problems(mut document: Value) -> Vec<String> {
        let mut problems = Vec::new();
        if let Value::Object(object) = &mut document {
            fields(object, KUBELET, "", &mut problems);
        }
        problems
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_its_path() {
        let found = problems(json!({
            "authentication": {"webhook": {"cacheTTL": 5, "enabeld": true}},
            "clusterDNS": ["10.96.0.10", "ten"],
            "cgroupDriver": "systemctl",
            "clusterDomain": 7,
            "evictionHard": {"memory.available": 100},
            "maxPods": -1,
            "port": "10250",
            "registerWithTaints": [{"key": "a", "effect": "Never"}],
            "syncFrequency": "-1m",
            "containerLogMaxSize": "ten",
            "kubeletIsGreat": true,
            "logging": [],
        }));
        assert_eq!(
            found,
            [
                "authentication.webhook.cacheTTL: expected a duration such as \"2m0s\", got 5",
                "authentication.webhook.enabeld: unknown field; did you mean \"enabled\"?",
                "cgroupDriver: expected one of \"cgroupfs\", \"systemd\", got \"systemctl\"",
                "clusterDNS[1]: expected an IP address such as \"10.96.0.10\", got \"ten\"",
                "clusterDomain: expected text (put it in quotes), got 7",
                "containerLogMaxSize: expected a quantity in quotes such as \"10Mi\", got \"ten\"",
                "evictionHard[\"memory.available\"]: expected text (put it in quotes), got 100",
                "kubeletIsGreat: unknown field",
                "logging: expected a block of fields, got a list",
                "maxPods: expected a whole number, 0 or more, got -1",
                "port: expected a whole number from 1 to 65535, got \"10250\"",
                "registerWithTaints[0].effect: expected one of \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\", got \"Never\"",
                "syncFrequency: expected a duration such as \"2m0s\", got \"-1m\"",
            ]
        );
    }

    #[test]
    fn zeros_nulls_and_old_booleans_are_fine() {
        let found = problems(json!({
            "syncFrequency": "0s", "port": 0, "address": "", "cgroupDriver": "", "authentication": null,
            "reservedMemory": [{"numaNode": 0, "limits": {"memory": 1073741824}}], "containerLogMaxSize": 1024,
            "failSwapOn": "no", "volumeStatsAggPeriod": "-1s", "logging": {"flushFrequency": 0, "verbosity": 0},
        }));
        assert_eq!(found, Vec::<String>::new());
    }
}
