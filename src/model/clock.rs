//! Wall-clock time that tests can pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tokio::time::Instant;

/// Where wall-clock time comes from. Timestamps in API objects and in the runtime's answers are wall-clock time, so decisions
/// about them need it; delays are measured with [`tokio::time::Instant`] instead.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clock, steps included.
    System,
    /// A start time that moves on with tokio's clock, which tests pause and advance.
    Tokio(Instant, i64),
}

impl Clock {
    /// A clock that shows `start` (nanoseconds since the epoch) now and follows tokio's.
    pub fn tokio(start: i64) -> Self {
        Self::Tokio(Instant::now(), start)
    }

    /// Nanoseconds since the epoch.
    pub fn now(&self) -> i64 {
        match self {
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)),
            Self::Tokio(base, start) => start.saturating_add(i64::try_from(base.elapsed().as_nanos()).unwrap_or(i64::MAX)),
        }
    }
}

/// How long until `then` (both in nanoseconds since the epoch); zero when it is past.
pub fn until(now: i64, then: i64) -> Duration {
    Duration::from_nanos(u64::try_from(then.saturating_sub(now)).unwrap_or(0))
}

/// API timestamp with the precision of a second, which is all that the API keeps.
pub fn api_time(nanos: i64) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    let second = Timestamp::from_second(nanos.div_euclid(1_000_000_000)).unwrap_or(Timestamp::UNIX_EPOCH);
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(second)
}

/// Nanoseconds since the epoch of an API timestamp.
pub fn nanos(time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time) -> i64 {
    i64::try_from(time.0.as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_the_paused_clock() {
        let clock = Clock::tokio(5_000_000_000);
        assert_eq!(clock.now(), 5_000_000_000);
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.now(), 6_500_000_000);
        assert_eq!(api_time(clock.now()).0.as_second(), 6, "the API keeps whole seconds");
    }

    #[test]
    fn time_left_is_never_negative() {
        assert_eq!(until(10, 4), Duration::ZERO);
        assert_eq!(until(4, 10), Duration::from_nanos(6));
    }
}
