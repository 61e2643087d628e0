//! Text of a flag → JSON value of the field that it sets. Ranges and words are checked afterwards by the schema's walker.

use serde_json::{Map, Number, Value, json};

use super::super::labels;
use super::super::schema::Kind;

/// Reads a value of the given kind. A text that doesn't fit stays a text: the walker says what was expected.
pub(in super::super) fn convert(kind: &Kind, text: &str) -> Result<Value, String> {
    let as_text = || Value::String(text.to_owned());
    Ok(match kind {
        // The words of Go's strconv.ParseBool.
        Kind::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => json!(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => json!(false),
            other => return Err(format!("expected true or false, got {other:?}")),
        },
        Kind::Int(..) => text.parse::<i64>().map_or_else(|_| as_text(), |number| json!(number)),
        Kind::Float => text.parse::<f64>().ok().and_then(Number::from_f64).map_or_else(as_text, Value::Number),
        Kind::List(item) => Value::Array(parts(text).map(|part| convert(item, part)).collect::<Result<_, _>>()?),
        Kind::Map(item) => pairs(text, '=', |value| convert(item, value))?,
        _ => as_text(),
    })
}

/// `signal<amount,…`.
pub(super) fn thresholds(text: &str) -> Result<Value, String> {
    pairs(text, '<', |value| Ok(json!(value)))
}

/// `name:value,…` with repeated names.
pub(super) fn headers(text: &str) -> Result<Value, String> {
    let mut lists = Map::new();
    for part in parts(text) {
        let (name, value) = part.split_once(':').ok_or_else(|| format!("expected name:value, got {part:?}"))?;
        if let Value::Array(list) = lists.entry(name.trim()).or_insert_with(|| json!([])) {
            list.push(json!(value.trim()));
        }
    }
    Ok(Value::Object(lists))
}

/// `pattern=level,…`.
pub(super) fn vmodule(text: &str) -> Result<Value, String> {
    let item = |part: &str| {
        let level = part.split_once('=').and_then(|(pattern, level)| Some((pattern, level.parse::<u32>().ok()?)));
        let (pattern, level) = level.ok_or_else(|| format!("expected pattern=level, got {part:?}"))?;
        Ok(json!({"filePattern": pattern, "verbosity": level}))
    };
    parts(text).map(item).collect::<Result<_, String>>().map(Value::Array)
}

/// `key=value:effect,…` or `key:effect,…` (pkg/util/taints).
pub(super) fn taints(text: &str) -> Result<Value, String> {
    let mut taints: Vec<Value> = Vec::new();
    for part in parts(text) {
        let (pair, effect) = part.split_once(':').ok_or_else(|| format!("expected key=value:effect, got {part:?}"))?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        labels::check_key(key)?;
        labels::check_value(value)?;
        if taints.iter().any(|other| other.get("key") == Some(&json!(key)) && other.get("effect") == Some(&json!(effect))) {
            return Err(format!("taint {key}:{effect} is given twice"));
        }
        let mut taint = json!({"key": key, "effect": effect});
        if let (false, Value::Object(taint)) = (value.is_empty(), &mut taint) {
            taint.insert("value".to_owned(), json!(value));
        }
        taints.push(taint);
    }
    Ok(Value::Array(taints))
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn pairs(text: &str, separator: char, read: impl Fn(&str) -> Result<Value, String>) -> Result<Value, String> {
    let mut map = Map::new();
    for part in parts(text) {
        let (key, value) = part.split_once(separator).ok_or_else(|| format!("expected key{separator}value, got {part:?}"))?;
        map.insert(key.trim().to_owned(), read(value.trim())?);
    }
    Ok(Value::Object(map))
}
