//! The wall clock, for times that other processes read.

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
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
    static START: LazyLock<(Instant, Duration)> =
        LazyLock::new(|| (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap()));
    let (start, unix) = *START;
    let now = tokio::time::Instant::now().into_std();
    (unix + now.saturating_duration_since(start)).as_millis() as u64
}
