//! Values that a config file writes as quantities: reserved resources and hard eviction thresholds.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::model::quantity::Quantity;

/// What is kept back from pods, from `systemReserved` or `kubeReserved`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes on the root directory's file system.
    pub ephemeral_storage: i64,
    /// Process ids.
    pub pids: i64,
}

/// How little of something may be left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// That many bytes, inodes or process ids.
    Amount(i64),
    /// That share of the capacity, from 0 to 1. No more exact than upstream has it, or the sums would differ by a byte.
    Share(f32),
}

impl Threshold {
    /// The threshold in absolute terms for a given capacity.
    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Amount(amount) => amount,
            // pkg/kubelet/eviction/api/types.go, GetThresholdQuantity: a float32 taken for a float64, and the rest cut off.
            Self::Share(share) => (capacity as f64 * f64::from(share)) as i64,
        }
    }
}

/// Signals that a threshold may be set for (pkg/kubelet/eviction/api/types.go).
pub(super) const SIGNALS: [&str; 8] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
];

/// Reads a map of reserved resources; errors name the key.
pub(super) fn parse_reserved(map: &BTreeMap<String, String>) -> Result<Reserved, Vec<(String, String)>> {
    let mut reserved = Reserved::default();
    let mut errors = Vec::new();
    for (name, text) in map {
        let quantity = match text.parse::<Quantity>() {
            Ok(quantity) if quantity.is_negative() => {
                errors.push((name.clone(), format!("must not be negative, got {text:?}")));
                continue;
            }
            Ok(quantity) => quantity,
            Err(error) => {
                errors.push((name.clone(), error.to_string()));
                continue;
            }
        };
        match name.as_str() {
            "cpu" => reserved.milli_cpu = quantity.milli_value(),
            "memory" => reserved.memory = quantity.value(),
            "ephemeral-storage" => reserved.ephemeral_storage = quantity.value(),
            "pid" => reserved.pids = quantity.value(),
            _ => errors.push((name.clone(), "can't be reserved; what can be: cpu, memory, ephemeral-storage, pid".to_owned())),
        }
    }
    if errors.is_empty() { Ok(reserved) } else { Err(errors) }
}

/// Reads one threshold; `Ok(None)` for `0%` and `100%`, which switch a signal off.
pub(super) fn parse_threshold(text: &str) -> Result<Option<Threshold>, String> {
    if let Some(number) = text.strip_suffix('%') {
        return match number.parse::<f32>() {
            Ok(0.0 | 100.0) => Ok(None),
            Ok(percent) if percent > 0.0 && percent < 100.0 => Ok(Some(Threshold::Share(percent / 100.0))),
            _ => Err(format!("{text:?} is not a percentage from 0% to 100%")),
        };
    }
    let quantity: Quantity =
        text.parse().map_err(|_| format!("{text:?} is neither a quantity such as 100Mi nor a percentage such as 10%"))?;
    if quantity.value() <= 0 {
        return Err(format!("must be more than zero, got {text:?}"));
    }
    Ok(Some(Threshold::Amount(quantity.value())))
}

/// Reads how much an eviction frees at least.
pub(super) fn parse_reclaim(text: &str) -> Result<Threshold, String> {
    if let Some(number) = text.strip_suffix('%') {
        return match number.parse::<f32>() {
            Ok(percent) if percent > 0.0 => Ok(Threshold::Share(percent / 100.0)),
            _ => Err(format!("{text:?} is not a percentage above 0%")),
        };
    }
    match text.parse::<Quantity>() {
        Ok(quantity) if quantity.is_negative() => Err(format!("must not be negative, got {text:?}")),
        Ok(quantity) => Ok(Threshold::Amount(quantity.value())),
        Err(_) => Err(format!("{text:?} is neither a quantity such as 100Mi nor a percentage such as 10%")),
    }
}

pub(super) fn deserialize_reserved<'de, D: Deserializer<'de>>(input: D) -> Result<Reserved, D::Error> {
    let map = BTreeMap::<String, String>::deserialize(input)?;
    parse_reserved(&map).map_err(|errors| serde::de::Error::custom(format_args!("{errors:?}")))
}

pub(super) fn deserialize_thresholds<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, Threshold>, D::Error> {
    let mut thresholds = BTreeMap::new();
    for (signal, text) in BTreeMap::<String, String>::deserialize(input)? {
        if let Some(threshold) = parse_threshold(&text).map_err(serde::de::Error::custom)? {
            thresholds.insert(signal, threshold);
        }
    }
    Ok(thresholds)
}

pub(super) fn deserialize_reclaims<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, Threshold>, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(input)?;
    let parsed = texts.into_iter().map(|(signal, text)| Ok((signal, parse_reclaim(&text).map_err(serde::de::Error::custom)?)));
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        assert_eq!(parse_threshold("100Mi"), Ok(Some(Threshold::Amount(104_857_600))));
        assert_eq!(parse_threshold("12.5%"), Ok(Some(Threshold::Share(0.125))));
        assert_eq!(parse_threshold("0%"), Ok(None));
        assert_eq!(parse_threshold("100%"), Ok(None));
        for bad in ["", "%", "101%", "-1%", "0", "-5Mi", "NaN%", "ten"] {
            assert!(parse_threshold(bad).is_err(), "{bad}");
        }
        let of = |text: &str, capacity| parse_threshold(text).ok().flatten().map(|threshold| threshold.of(capacity));
        assert_eq!(of("10%", 1000), Some(100));
        assert_eq!(of("10%", 100 << 30), Some(10_737_418_400));
        assert_eq!(of("15%", 100 << 30), Some(16_106_128_000));
        assert_eq!(of("5%", 100 << 30), Some(5_368_709_200));
        assert_eq!(Threshold::Amount(7).of(1000), 7);
    }

    #[test]
    fn reserved_names_every_bad_key() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let good = parse_reserved(&map(&[("cpu", "500m"), ("memory", "1Gi"), ("pid", "1k")]));
        assert_eq!(good, Ok(Reserved { milli_cpu: 500, memory: 1 << 30, ephemeral_storage: 0, pids: 1000 }));
        let bad = parse_reserved(&map(&[("cpu", "-1"), ("memory", "lots"), ("gpu", "1")])).expect_err("three errors");
        assert_eq!(bad.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), ["cpu", "gpu", "memory"]);
    }
}
