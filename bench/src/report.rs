//! Figures and how they are printed.

use std::time::Duration;

/// This machine, by its cores and memory.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory.split_whitespace().nth(1).and_then(|text| text.parse().ok());
    let gigabytes = kilobytes.map_or(0.0, |kilobytes: f64| kilobytes / 1024.0 / 1024.0);
    format!("{cores} cores and {gigabytes:.0} GB of memory")
}

/// The median of these values.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("comparable values"));
    sorted[sorted.len() / 2]
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// `1.03 (limit 1.05)`, marked if the limit is exceeded.
pub(crate) fn against(value: f64, limit: f64) -> String {
    let mark = if value > limit { "  EXCEEDED" } else { "" };
    format!("{value:.2} (limit {limit}){mark}")
}
