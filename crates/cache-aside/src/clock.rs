//! The wall clock, for times that other processes read, and moments that a suspended machine does not
//! prolong.

use std::time::Duration;

use tokio::time::Instant;

/// A moment in this process.
///
/// The monotonic clock stands still while the machine is suspended, and the wall clock can be set back.
/// The time since a moment is the longer of the two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    monotonic: Instant,
    unix_millis: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { monotonic: Instant::now(), unix_millis: unix_millis() }
    }

    pub(crate) fn is_before(&self, other: &Self) -> bool {
        self.monotonic < other.monotonic
    }

    pub(crate) fn elapsed(&self) -> Duration {
        let wall = Duration::from_millis(unix_millis().saturating_sub(self.unix_millis));
        self.monotonic.elapsed().max(wall)
    }
}

/// The current time in milliseconds since the Unix epoch.
#[cfg(not(test))]
pub(crate) fn unix_millis() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The same on tokio's clock, which tests can pause and advance.
#[cfg(test)]
pub(crate) fn unix_millis() -> u64 {
    use std::sync::LazyLock;
    use std::time::{SystemTime, UNIX_EPOCH};
    static START: LazyLock<(std::time::Instant, Duration)> = LazyLock::new(|| {
        (std::time::Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
    });
    let (start, unix) = *START;
    let now = Instant::now().into_std();
    // A clock that another test has paused may be behind the start.
    let before = start.saturating_duration_since(now);
    (unix + now.saturating_duration_since(start) - before).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_since_a_moment_is_the_longer_one_of_both_clocks() {
        let now = Moment::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        let second = 1000;
        let on_wall_clock = |unix_millis| Moment { unix_millis, ..now }.elapsed().as_secs();
        assert_eq!(on_wall_clock(now.unix_millis), 2);
        assert_eq!(on_wall_clock(now.unix_millis - 5 * second), 7, "the machine was suspended");
        assert_eq!(on_wall_clock(now.unix_millis + 5 * second), 2, "the clock was set back");
    }
}
