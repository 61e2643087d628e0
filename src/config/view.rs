//! Reads single values of a complete configuration by their dotted paths, for rules that look at fields nobody else needs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::duration;

/// A complete, checked configuration. What isn't there reads as the type's zero.
pub(super) struct View<'a>(pub &'a Map<String, Value>);

impl<'a> View<'a> {
    pub fn value(&self, path: &str) -> Option<&'a Value> {
        let mut parts = path.split('.');
        let mut value = self.0.get(parts.next()?)?;
        for part in parts {
            value = value.get(part)?;
        }
        Some(value)
    }

    pub fn text(&self, path: &str) -> &'a str {
        self.value(path).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn int(&self, path: &str) -> i64 {
        self.value(path).and_then(Value::as_i64).unwrap_or_default()
    }

    pub fn is_on(&self, path: &str) -> bool {
        self.value(path).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn duration(&self, path: &str) -> Duration {
        duration::parse_signed(self.text(path)).map(|(_, length)| length).unwrap_or_default()
    }

    pub fn list(&self, path: &str) -> &'a [Value] {
        self.value(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub fn texts(&self, path: &str) -> Vec<&'a str> {
        self.list(path).iter().filter_map(Value::as_str).collect()
    }

    pub fn map(&self, path: &str) -> BTreeMap<String, String> {
        let entries = self.value(path).and_then(Value::as_object).into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }
}
