//! Lays flags over a configuration.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::check;
use super::super::schema::{self, Default, Kind};
use super::super::{Options, document};
use super::table::Target;
use super::{Given, values};

/// Sets everything that the flags say, in order. Adds one line for each value that doesn't fit, and one line a reason for those without
/// effect.
pub(in super::super) fn apply(
    given: &[Given],
    config: &mut Map<String, Value>,
    options: &mut Options,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let mut touched = BTreeSet::new();
    let mut deprecated = Vec::new();
    let mut ignored: Vec<(&str, Vec<String>)> = Vec::new();
    for Given { flag, value: text } in given {
        let (path, value) = match flag.target {
            Target::Option(set, _) => {
                if let Err(problem) = set(options, text) {
                    problems.push(format!("--{}: {problem}", flag.name));
                }
                continue;
            }
            Target::Ignored(reason) | Target::IgnoredBool(reason) => {
                match ignored.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, names)) => names.push(format!("--{}", flag.name)),
                    None => ignored.push((reason, vec![format!("--{}", flag.name)])),
                }
                continue;
            }
            Target::Field(path) => match schema::find(path) {
                Some(field) => (path, values::convert(&field.kind, text)),
                None => continue,
            },
            Target::Thresholds(path) => (path, values::thresholds(text)),
            Target::Taints(path) => (path, values::taints(text)),
            Target::VModule(path) => (path, values::vmodule(text)),
            Target::Headers(path) => (path, values::headers(text)),
            Target::Help | Target::Version | Target::ConfigFile | Target::ConfigDir => continue,
        };
        if !["v", "vmodule", "log-flush-frequency", "provider-id", "fail-cgroupv1", "seccomp-default"].contains(&flag.name) {
            deprecated.push(format!("--{}", flag.name));
        }
        match value {
            Err(problem) => problems.push(format!("--{}: {problem}", flag.name)),
            Ok(mut value) => {
                let Some(field) = schema::find(path) else { continue };
                let zero_is_default = matches!(field.default, Default::ForZero(_)) && !matches!(field.kind, Kind::Int(..));
                if !(zero_is_default && check::is_zero(&value)) {
                    check::check(&mut value, &field.kind, &format!("--{}", flag.name), problems);
                }
                // Lists and maps given several times add up; the first one replaces what the file says. Feature gates are merged
                // with the file's, as upstream does.
                let replace = touched.insert(path) && path != "featureGates" && path != "registerWithTaints";
                set(config, path, value, replace || path == "registerWithTaints");
            }
        }
    }
    if !deprecated.is_empty() {
        warnings.push(format!("flags that belong into the config file, where they have fields: {}", deprecated.join(", ")));
    }
    for (reason, names) in ignored {
        warnings.push(format!("flags without effect ({reason}): {}", names.join(", ")));
    }
}

/// Puts a value at a dotted path, or adds to the list or map that is there.
pub(in super::super) fn set(config: &mut Map<String, Value>, path: &str, value: Value, replace: bool) {
    let Some((head, tail)) = path.split_once('.') else {
        match (config.get_mut(path), value) {
            (Some(Value::Array(list)), Value::Array(more)) if !replace => list.extend(more),
            (Some(Value::Object(map)), Value::Object(more)) if !replace => document::merge(map, more),
            (_, value) => {
                config.insert(path.to_owned(), value);
            }
        }
        return;
    };
    let inner = config.entry(head).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        set(inner, tail, value, replace);
    }
}
