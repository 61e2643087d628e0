//! Strategic merge patches, as far as a node sends them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Lists that are merged by a key of their elements; all others are replaced (`patchMergeKey` in `k8s.io/api/core/v1`).
const MERGED: [(&str, &str); 5] =
    [("conditions", "type"), ("addresses", "type"), ("podIPs", "ip"), ("hostIPs", "ip"), ("ownerReferences", "uid")];

/// The object after a patch, of which only the given top-level parts count (all, when none are given).
pub fn patched<T: Serialize + DeserializeOwned>(object: &T, patch: &Value, parts: &[&str]) -> Result<T, String> {
    let mut value = serde_json::to_value(object).map_err(|e| e.to_string())?;
    let entries = patch.as_object().into_iter().flatten();
    for (name, part) in entries.filter(|(name, _)| parts.is_empty() || parts.contains(&name.as_str())) {
        merge_field(&mut value, name, part);
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn merge_field(object: &mut Value, name: &str, patch: &Value) {
    let Some(fields) = object.as_object_mut() else { return };
    if patch.is_null() {
        fields.remove(name);
        return;
    }
    if name.starts_with('$') {
        return; // order of elements: of no meaning to tests
    }
    let old = fields.entry(name).or_insert(Value::Null);
    match (patch, MERGED.iter().find(|(list, _)| *list == name)) {
        (Value::Object(entries), _) => {
            if !old.is_object() {
                *old = Value::Object(serde_json::Map::new());
            }
            entries.iter().for_each(|(name, part)| merge_field(old, name, part));
        }
        (Value::Array(elements), Some((_, key))) => merge_list(old, elements, key),
        _ => *old = patch.clone(),
    }
}

fn merge_list(old: &mut Value, patch: &[Value], key: &str) {
    let replace = patch.iter().any(|e| e.get("$patch").is_some_and(|d| d == "replace"));
    let mut list = if replace { Vec::new() } else { old.as_array().cloned().unwrap_or_default() };
    for element in patch.iter().filter(|e| e.get("$patch").is_none_or(|d| d == "delete")) {
        let place = list.iter().position(|known| known.get(key) == element.get(key));
        match (place, element.get("$patch").is_some()) {
            (Some(i), true) => drop(list.remove(i)),
            (Some(i), false) => {
                for (name, part) in element.as_object().into_iter().flatten() {
                    list.get_mut(i).into_iter().for_each(|known| merge_field(known, name, part));
                }
            }
            (None, true) => {}
            (None, false) => list.push(element.clone()),
        }
    }
    *old = Value::Array(list);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merges_as_the_server_does() {
        let table = [
            (json!({"a": 1, "b": 2}), json!({"b": null, "c": 3}), json!({"a": 1, "c": 3})),
            (json!({"m": {"x": 1}}), json!({"m": {"y": 2}}), json!({"m": {"x": 1, "y": 2}})),
            (json!({"list": [1, 2]}), json!({"list": [3]}), json!({"list": [3]})),
            (
                json!({"conditions": [{"type": "A", "status": "True", "reason": "r"}, {"type": "B"}]}),
                json!({"conditions": [{"type": "A", "status": "False"}, {"type": "C"}], "$setElementOrder/conditions": []}),
                json!({"conditions": [{"type": "A", "status": "False", "reason": "r"}, {"type": "B"}, {"type": "C"}]}),
            ),
            (
                json!({"addresses": [{"type": "InternalIP", "address": "1"}, {"type": "Old"}]}),
                json!({"addresses": [{"type": "InternalIP", "address": "2"}, {"$patch": "replace"}]}),
                json!({"addresses": [{"type": "InternalIP", "address": "2"}]}),
            ),
            (json!({"podIPs": [{"ip": "1"}]}), json!({"podIPs": [{"$patch": "delete", "ip": "1"}]}), json!({"podIPs": []})),
        ];
        for (old, patch, want) in table {
            assert_eq!(patched(&old, &patch, &[]), Ok(want), "{patch}");
        }
    }

    #[test]
    fn only_the_subresource_counts() {
        let old = json!({"spec": 1, "status": 1});
        assert_eq!(patched(&old, &json!({"spec": 2, "status": 2}), &["status"]), Ok(json!({"spec": 1, "status": 2})));
    }
}
