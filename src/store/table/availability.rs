//! Whether the table works, for the log: it tells when that changes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fault::Fault;

/// The time without a failure after which the table is said to work again. While it is failing, some
/// calls may succeed.
const RECOVERY: Duration = Duration::from_secs(5);

pub(super) struct Availability {
    endpoint: String,
    outage: Mutex<Option<Outage>>,
}

#[derive(Clone, Copy)]
struct Outage {
    began: Instant,
    last_failure: Instant,
}

/// What the log is told.
#[derive(Debug, PartialEq)]
enum Change {
    Fails,
    WorksAgain(Duration),
}

impl Availability {
    pub(super) fn new(endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), outage: Mutex::new(None) }
    }

    /// Notes how a call ended.
    pub(super) fn note(&self, fault: Option<&Fault>) {
        let cause = fault.and_then(Fault::outage);
        match (self.change(cause.is_some()), cause) {
            (Some(Change::Fails), Some(cause)) => {
                log::error!("the table at {} is failing: {cause}", self.endpoint);
            }
            (Some(Change::WorksAgain(after)), _) => {
                let seconds = after.as_secs();
                log::info!("the table at {} works again, after {seconds} s", self.endpoint);
            }
            _ => {}
        }
    }

    fn change(&self, failed: bool) -> Option<Change> {
        let now = Instant::now();
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match (*outage, failed) {
            (None, false) => None,
            (None, true) => {
                *outage = Some(Outage { began: now, last_failure: now });
                Some(Change::Fails)
            }
            (Some(before), true) => {
                *outage = Some(Outage { last_failure: now, ..before });
                None
            }
            (Some(before), false) if now - before.last_failure < RECOVERY => None,
            (Some(before), false) => {
                *outage = None;
                Some(Change::WorksAgain(now - before.began))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_begins_with_a_failure_and_ends_with_a_success_some_time_after_the_last() {
        let table = Availability::new("http://localhost");
        let mut changes = Vec::new();
        // Every 1250 ms: whether a call failed.
        for failed in [false, true, true, false, true, false, false, false, false, false, true] {
            changes.push(table.change(failed));
            tokio::time::advance(Duration::from_millis(1250)).await;
        }
        let after = Duration::from_millis(8750);
        let mut expected: Vec<_> = std::iter::repeat_with(|| None).take(11).collect();
        expected[1] = Some(Change::Fails);
        expected[8] = Some(Change::WorksAgain(after));
        expected[10] = Some(Change::Fails);
        assert_eq!(changes, expected);
    }
}
