//! Files: reading them, telling their documents apart by kind, finding drop-ins.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::check;
use super::proxy::PROXY;
use super::schema::{Field, KUBELET, Kind};

const KUBELET_GROUP: &str = "kubelet.config.k8s.io/v1beta1";
const PROXY_GROUP: &str = "kubeproxy.config.k8s.io/v1alpha1";

/// Reads `--config`: one `KubeletConfiguration` and, optionally, one `KubeProxyConfiguration`. Returns the fields of both,
/// checked, with absolute paths. Whatever is wrong is added to `problems`, prefixed with the file's name.
pub(super) fn read_config_file(path: &Path, problems: &mut Vec<String>) -> (Map<String, Value>, Map<String, Value>) {
    let Some(documents) = read_documents(path, problems) else { return (Map::new(), Map::new()) };
    let (mut kubelet, mut proxy) = (None, None);
    for (index, document) in documents.into_iter().enumerate() {
        match header(&document).as_ref().map(|(version, kind)| (version.as_str(), kind.as_str())) {
            Ok((KUBELET_GROUP, "KubeletConfiguration")) if kubelet.is_none() => kubelet = Some(checked(document, KUBELET, path, problems)),
            Ok((PROXY_GROUP, "KubeProxyConfiguration")) if proxy.is_none() => proxy = Some(checked(document, PROXY, path, problems)),
            Ok((KUBELET_GROUP, kind @ "KubeletConfiguration") | (PROXY_GROUP, kind @ "KubeProxyConfiguration")) => {
                problems.push(format!("{}: document {}: there is a {kind} already; keep one", path.display(), index + 1));
            }
            Ok((version, kind)) => problems.push(format!(
                "{}: document {}: can't read kind {kind} of apiVersion {version}; expected kind KubeletConfiguration of apiVersion {KUBELET_GROUP} or kind \
                 KubeProxyConfiguration of apiVersion {PROXY_GROUP}",
                path.display(),
                index + 1
            )),
            Err(reason) => problems.push(format!("{}: document {}: {reason}", path.display(), index + 1)),
        }
    }
    if kubelet.is_none() && problems.is_empty() {
        problems.push(format!("{}: holds no KubeletConfiguration; add one with apiVersion: {KUBELET_GROUP}", path.display()));
    }
    (kubelet.unwrap_or_default(), proxy.unwrap_or_default())
}

/// Reads a file for the Service proxy alone: its `KubeProxyConfiguration`, checked, with absolute paths. Other documents of the agent are
/// none of its business.
pub(super) fn read_proxy_file(path: &Path, problems: &mut Vec<String>) -> Map<String, Value> {
    let of_proxy = |document: &Value| {
        matches!(
            header(document).as_ref().map(|(version, kind)| (version.as_str(), kind.as_str())),
            Ok((PROXY_GROUP, "KubeProxyConfiguration"))
        )
    };
    let Some(documents) = read_documents(path, problems) else { return Map::new() };
    let mut found = documents.into_iter().filter(of_proxy);
    match (found.next(), found.next()) {
        (Some(document), None) => return checked(document, PROXY, path, problems),
        (None, _) => problems.push(format!("{}: holds no KubeProxyConfiguration; add one with apiVersion: {PROXY_GROUP}", path.display())),
        (Some(_), Some(_)) => problems.push(format!("{}: holds two documents of kind KubeProxyConfiguration; keep one", path.display())),
    }
    Map::new()
}

/// Reads one drop-in: a `KubeletConfiguration` with only the fields to change, checked, with absolute paths. Nulls delete.
pub(super) fn read_drop_in(path: &Path, problems: &mut Vec<String>) -> Map<String, Value> {
    let Some(documents) = read_documents(path, problems) else { return Map::new() };
    let count = documents.len();
    let mut documents = documents.into_iter();
    match (documents.next(), count) {
        (Some(document), 1) => match header(&document) {
            Ok((version, kind)) if version == KUBELET_GROUP && kind == "KubeletConfiguration" => {
                return checked(document, KUBELET, path, problems);
            }
            Ok((version, kind)) => problems.push(format!(
                "{}: expected kind KubeletConfiguration of apiVersion {KUBELET_GROUP}, got kind {kind} of apiVersion {version}",
                path.display()
            )),
            Err(reason) => problems.push(format!("{}: {reason}", path.display())),
        },
        _ => problems.push(format!("{}: expected one KubeletConfiguration, got {count} documents", path.display())),
    }
    Map::new()
}

/// All `*.conf` files below a directory in lexical order of their paths.
pub(super) fn drop_ins(directory: &Path, problems: &mut Vec<String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Err(error) = walk(directory, &mut found) {
        problems.push(format!("--config-dir {}: {error}", directory.display()));
    }
    found
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "conf") {
            found.push(path);
        }
    }
    Ok(())
}

/// JSON merge patch (RFC 7396).
pub(super) fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(&name);
            }
            Value::Object(inner) => {
                let slot = target.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            other => {
                target.insert(name, other);
            }
        }
    }
}

fn read_documents(path: &Path, problems: &mut Vec<String>) -> Option<Vec<Value>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("{}: can't read the config file: {error}", path.display()));
            return None;
        }
    };
    // JSON is YAML; a repeated key is an error in both.
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::Error;
    match serde_saphyr::from_multiple_with_options::<Value>(&text, options) {
        Ok(documents) => Some(documents),
        Err(error) => {
            let reason = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            problems.push(format!("{}: not valid YAML or JSON: {reason}", path.display()));
            None
        }
    }
}

/// apiVersion and kind.
fn header(document: &Value) -> Result<(String, String), String> {
    let text = |name: &str| document.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    match (document.is_object(), text("apiVersion"), text("kind")) {
        (false, ..) => Err("expected a block of fields that starts with apiVersion and kind".to_owned()),
        (_, Some(version), Some(kind)) => Ok((version, kind)),
        (_, None, _) => Err(format!("apiVersion is missing; add apiVersion: {KUBELET_GROUP}")),
        (_, _, None) => Err("kind is missing; add kind: KubeletConfiguration".to_owned()),
    }
}

fn without_header(document: Value) -> Map<String, Value> {
    let Value::Object(mut object) = document else { return Map::new() };
    object.remove("apiVersion");
    object.remove("kind");
    object
}

fn checked(document: Value, schema: &[Field], path: &Path, problems: &mut Vec<String>) -> Map<String, Value> {
    let mut object = without_header(document);
    let mut found = Vec::new();
    check::fields(&mut object, schema, "", &mut found);
    problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", path.display())));
    resolve_paths(&mut object, schema, path.parent().unwrap_or(Path::new("")));
    object
}

/// Makes relative paths absolute, seen from the file's directory.
fn resolve_paths(object: &mut Map<String, Value>, schema: &[Field], base: &Path) {
    for field in schema {
        match (&field.kind, object.get_mut(field.name)) {
            (Kind::Path, Some(Value::String(text))) if !text.is_empty() && !text.starts_with('/') => {
                let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
                *text = clean(&base.join(&*text)).display().to_string();
            }
            (Kind::Struct(inner), Some(Value::Object(value))) => resolve_paths(value, inner, base),
            _ => {}
        }
    }
}

/// Takes `.` and `..` out of an absolute path without looking at the disk.
fn clean(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                result.pop();
            }
            std::path::Component::CurDir => {}
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patch_as_in_the_rfc() {
        let table = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": ["c"]}), json!({"a": ["c"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": "foo"}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (target, patch, expected) in table {
            let (Value::Object(mut target), Value::Object(patch)) = (target, patch) else { panic!("objects") };
            merge(&mut target, patch);
            assert_eq!(Value::Object(target), expected);
        }
    }
}
