//! Figures as people read them.

/// How a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, as megabytes of 10^6.
    Bytes,
    /// Seconds, as what suits.
    Seconds,
}

impl Unit {
    /// The value with three digits that count and its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Bytes => format!("{} MB", digits(value / 1e6)),
            Self::Seconds if value.abs() >= 1.0 => format!("{} s", digits(value)),
            Self::Seconds if value.abs() >= 1e-3 => format!("{} ms", digits(value * 1e3)),
            Self::Seconds => format!("{} µs", digits(value * 1e6)),
        }
    }
}

/// A ratio: `7.1 ×`.
pub fn ratio(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0} ×")
    } else if value >= 10.0 {
        format!("{value:.1} ×")
    } else {
        format!("{value:.2} ×")
    }
}

fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_unit_that_suits() {
        for (unit, value, expected) in [
            (Unit::Bytes, 19_340_000.0, "19.3 MB"),
            (Unit::Bytes, 207_100_000.0, "207 MB"),
            (Unit::Seconds, 0.000_021, "21.0 µs"),
            (Unit::Seconds, 0.264, "264 ms"),
            (Unit::Seconds, 6.3, "6.30 s"),
            (Unit::Seconds, -0.0021, "-2.10 ms"),
        ] {
            assert_eq!(unit.show(value), expected);
        }
        assert_eq!(ratio(7.125), "7.12 ×");
        assert_eq!(ratio(2100.4), "2100 ×");
    }
}
