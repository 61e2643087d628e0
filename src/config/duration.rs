//! Durations the way Go writes them (`1h30m`, `2m0s`, `100ms`), as the config file and the flags hold them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Units by suffix, in nanoseconds. Both signs for micro are in use.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration. Returns whether it is negative, and its length; `None` when the text is no duration.
/// Rules: Go's `time.ParseDuration`, which keeps 63 bits of nanoseconds.
pub fn parse_signed(text: &str) -> Option<(bool, Duration)> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some((false, Duration::ZERO));
    }
    let mut total: u64 = 0;
    loop {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(scaled(number, scale)?).filter(|nanos| *nanos <= i64::MAX as u64)?;
        rest = tail;
        if rest.is_empty() {
            return Some((negative && total > 0, Duration::from_nanos(total)));
        }
    }
}

/// `number × scale`, where the number may have a fraction; what is finer than a nanosecond is cut off.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let mut nanos = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(scale)? };
    let mut step = scale;
    for digit in fraction.bytes() {
        // Each digit is worth a tenth of the one before it; below a nanosecond it is worth nothing.
        step /= 10;
        nanos = nanos.checked_add(u64::from(digit.checked_sub(b'0')?) * step)?;
    }
    Some(nanos)
}

/// Writes a duration as Go does: `1h0m0s`, `2m0s`, `1.5s`, `100ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{}µs", decimal(nanos, 1_000));
    }
    if nanos < 1_000_000_000 {
        return format!("{}ms", decimal(nanos, 1_000_000));
    }
    let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn decimal(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{rest:0digits$}").trim_end_matches('0').to_owned()
}

/// For `#[serde(deserialize_with)]` on fields whose text was checked before.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    read(&String::deserialize(input)?)
}

/// The same for maps.
pub(super) fn deserialize_map<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, Duration>, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(input)?;
    texts.into_iter().map(|(key, text)| Ok((key, read(&text)?))).collect()
}

fn read<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    match parse_signed(text) {
        Some((false, duration)) => Ok(duration),
        _ => Err(E::custom(format_args!("{text:?} is not a duration such as \"2m0s\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read_and_written() {
        let table = [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1ns", 1, "1ns"),
            ("1.5us", 1_500, "1.5µs"),
            ("2µs", 2_000, "2µs"),
            ("100ms", 100_000_000, "100ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("120s", 120_000_000_000, "2m0s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("4h0m0s", 14_400_000_000_000, "4h0m0s"),
            (".5m", 30_000_000_000, "30s"),
            ("0.25h", 900_000_000_000, "15m0s"),
            ("+3s", 3_000_000_000, "3s"),
        ];
        for (text, nanos, printed) in table {
            let parsed = parse_signed(text);
            assert_eq!(parsed, Some((false, Duration::from_nanos(nanos))), "{text}");
            assert_eq!(format(Duration::from_nanos(nanos)), printed, "{text}");
        }
        assert_eq!(parse_signed("-1m"), Some((true, Duration::from_secs(60))));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "5", "s", "1 s", "1d", "1.2.3s", ".s", "1s2", "--1s", "99999999999h", "1m-5s", "∞"] {
            assert_eq!(parse_signed(text), None, "{text}");
        }
    }
}
