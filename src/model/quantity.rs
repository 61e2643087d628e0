//! Kubernetes quantities (`500m`, `1.5Gi`, `12e6`), read exactly.
//!
//! Rules from k8s.io/apimachinery/pkg/api/resource/quantity.go: the finest step is one billionth and anything finer rounds away
//! from zero; magnitudes are capped at 2^63−1.

use std::ops::{Add, Sub};
use std::str::FromStr;

/// Billionths in one unit.
const NANO: i128 = 1_000_000_000;
const CAP: i128 = i64::MAX as i128 * NANO;

/// An amount of something, exact to one billionth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity; write a number with an optional suffix, such as 500m, 2, 10k, 1.5Gi or 12e6")]
pub struct NotAQuantity(pub String);

impl Quantity {
    /// Whole units (cores, bytes, pods), rounded away from zero.
    pub fn value(self) -> i64 {
        self.in_steps_of(NANO)
    }

    /// Thousandths (of a core), rounded away from zero and capped at 2^63−1.
    pub fn milli_value(self) -> i64 {
        self.in_steps_of(NANO / 1000)
    }

    /// Whether the amount is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount is more than nothing.
    pub fn is_positive(self) -> bool {
        self.nanos > 0
    }

    fn in_steps_of(self, nanos: i128) -> i64 {
        let away = self.nanos.signum() * (nanos - 1);
        let steps = (self.nanos + away) / nanos;
        i64::try_from(steps).unwrap_or(if steps < 0 { i64::MIN } else { i64::MAX })
    }
}

impl Add for Quantity {
    type Output = Self;

    /// Capped like everything else.
    fn add(self, other: Self) -> Self {
        Self { nanos: (self.nanos + other.nanos).clamp(-CAP, CAP) }
    }
}

impl Sub for Quantity {
    type Output = Self;

    /// Capped like everything else.
    fn sub(self, other: Self) -> Self {
        Self { nanos: (self.nanos - other.nanos).clamp(-CAP, CAP) }
    }
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        parse(text).ok_or_else(|| NotAQuantity(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let (binary, exponent) = scale(suffix)?;
    let nanos = nanos(whole, fraction, binary, exponent);
    Some(Quantity { nanos: if negative { -nanos } else { nanos } })
}

/// A suffix as (power of 1024, power of ten).
fn scale(suffix: &str) -> Option<(u32, i64)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (1, 0),
        "Mi" => (2, 0),
        "Gi" => (3, 0),
        "Ti" => (4, 0),
        "Pi" => (5, 0),
        "Ei" => (6, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

/// `whole.fraction × 1024^binary × 10^exponent` in billionths, rounded up, capped.
fn nanos(whole: &str, fraction: &str, binary: u32, exponent: i64) -> i128 {
    let digits = || whole.bytes().chain(fraction.bytes()).map(|b| i128::from(b - b'0'));
    // How often the number made of all digits must still be multiplied by ten.
    let mut tens = exponent.saturating_add(9).saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX));
    let mut value: i128 = 0;
    let mut rest = false;
    // Digits beyond what i128 holds lie either above the cap or below one billionth.
    let mut dropped = 0i64;
    for digit in digits() {
        if value > i128::MAX / 1024i128.pow(binary) / 100 {
            dropped += 1;
            rest |= digit != 0;
        } else {
            value = value * 10 + digit;
        }
    }
    tens = tens.saturating_add(dropped);
    value = value.saturating_mul(1024i128.pow(binary));
    while tens > 0 && value != 0 && value <= CAP {
        value *= 10;
        tens -= 1;
    }
    while tens < 0 && value != 0 {
        rest |= value % 10 != 0;
        value /= 10;
        tens += 1;
    }
    value.saturating_add(i128::from(rest)).min(CAP)
}

/// Bytes with the largest suffix that leaves no remainder: "4Gi".
pub fn binary(bytes: i64) -> String {
    suffixed(bytes, 1024, ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

/// A number with the largest suffix that leaves no remainder: "5k".
pub fn decimal(number: i64) -> String {
    suffixed(number, 1000, ["k", "M", "G", "T", "P", "E"])
}

fn suffixed(mut value: i64, base: i64, suffixes: [&str; 6]) -> String {
    let mut suffix = "";
    for next in suffixes {
        if value == 0 || value % base != 0 {
            break;
        }
        (value, suffix) = (value / base, next);
    }
    format!("{value}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_exact_and_round_up() {
        let table = [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("1500m", 2, 1500),
            ("0.5", 1, 500),
            (".5", 1, 500),
            ("5.", 5, 5000),
            ("1u", 1, 1),
            ("1n", 1, 1),
            ("0.0000000001", 1, 1),
            ("1k", 1000, 1_000_000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("128974848", 128_974_848, 128_974_848_000),
            ("129e6", 129_000_000, 129_000_000_000),
            ("129E6", 129_000_000, 129_000_000_000),
            ("129M", 129_000_000, 129_000_000_000),
            ("123Mi", 128_974_848, 128_974_848_000),
            ("1E", 1_000_000_000_000_000_000, i64::MAX),
            ("1e-3", 1, 1),
            ("+2", 2, 2000),
            ("-1500m", -2, -1500),
            ("9223372036854775807", i64::MAX, i64::MAX),
            ("100Ei", i64::MAX, i64::MAX),
            ("1e400", i64::MAX, i64::MAX),
            ("1e-400", 1, 1),
            ("0e400", 0, 0),
            ("0.00000000000000000000000000000000000000000000000001Ei", 1, 1),
        ];
        for (text, value, milli) in table {
            let q: Quantity = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((q.value(), q.milli_value()), (value, milli), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "-", ".", "1.2.3", "1 Gi", "Gi", "1gi", "1KI", "1e", "1e1.5", "0x10", "1mm", "٣", "--1", "1Gi "] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_have_the_largest_exact_suffix() {
        for (bytes, want) in [(0, "0"), (1023, "1023"), (1024, "1Ki"), (1 << 30, "1Gi"), (3 << 20, "3Mi"), (1025, "1025")] {
            assert_eq!(binary(bytes), want);
        }
    }
}
