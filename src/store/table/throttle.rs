//! Keeps the table from being asked for more than it can answer: how many calls are in progress at
//! the same time, how many wait for their turn, and whether a call may be repeated.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::telemetry::TableLoad;

use super::fault::Fault;

/// After this many slow attempts in a row, calls are not repeated. A few of them can also be due to
/// connections that were cut off, where a repetition helps.
const SLOW_IN_A_ROW: u32 = 5;

/// How many calls the table gets at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency {
    /// The most calls in progress.
    pub calls: usize,
    /// The most calls that wait for their turn. Further ones fail at once.
    pub queue: usize,
}

/// The calls of one store.
pub(super) struct Throttle {
    limits: Concurrency,
    calls: Semaphore,
    queue: Semaphore,
    /// How long a call waits for its turn.
    patience: Duration,
    slow_in_a_row: AtomicU32,
    refused_by_queue: AtomicU64,
    refused_by_time: AtomicU64,
}

impl Throttle {
    pub(super) fn new(concurrency: Concurrency, patience: Duration) -> Self {
        Self {
            limits: concurrency,
            calls: Semaphore::new(concurrency.calls),
            queue: Semaphore::new(concurrency.queue),
            patience,
            slow_in_a_row: AtomicU32::new(0),
            refused_by_queue: AtomicU64::new(0),
            refused_by_time: AtomicU64::new(0),
        }
    }

    /// Waits for the call's turn. The call is in progress until the permit is dropped.
    pub(super) async fn admit(&self) -> Result<SemaphorePermit<'_>, Fault> {
        if let Ok(permit) = self.calls.try_acquire() {
            return Ok(permit);
        }
        let busy = |_| {
            self.refused_by_queue.fetch_add(1, Ordering::Relaxed);
            Fault::NotSent("too many calls are waiting for the table".to_owned())
        };
        let _place = self.queue.try_acquire().map_err(busy)?;
        match timeout(self.patience, self.calls.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The time is over: the semaphore is never closed.
            _ => {
                self.refused_by_time.fetch_add(1, Ordering::Relaxed);
                let cause = format!("other calls have occupied the table for {:?}", self.patience);
                Err(Fault::NotSent(cause))
            }
        }
    }

    /// How loaded the calls are.
    pub(super) fn load(&self) -> TableLoad {
        TableLoad {
            in_flight: self.limits.calls - self.calls.available_permits(),
            waiting: self.limits.queue - self.queue.available_permits(),
            refused_by_queue: self.refused_by_queue.load(Ordering::Relaxed),
            refused_by_time: self.refused_by_time.load(Ordering::Relaxed),
        }
    }

    /// Notes whether an attempt was slow.
    pub(super) fn record(&self, was_slow: bool) {
        if was_slow {
            self.slow_in_a_row.fetch_add(1, Ordering::Relaxed);
        } else {
            self.slow_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Whether attempts have been slow one after the other. Repeating them would give the table even
    /// more to do.
    pub(super) fn is_slow(&self) -> bool {
        self.slow_in_a_row.load(Ordering::Relaxed) >= SLOW_IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn throttle(calls: usize, queue: usize) -> Throttle {
        Throttle::new(Concurrency { calls, queue }, SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_its_turn_and_one_above_the_queue_fails_at_once() {
        let throttle = throttle(1, 1);
        let first = throttle.admit().await.ok().unwrap();
        let waiting = throttle.admit();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let begun = tokio::time::Instant::now();
        assert!(matches!(throttle.admit().await, Err(Fault::NotSent(_))));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let load = TableLoad { in_flight: 1, waiting: 1, refused_by_queue: 1, refused_by_time: 0 };
        assert_eq!(throttle.load(), load);
        drop(first);
        assert!(waiting.await.is_ok());
        assert!(throttle.admit().await.is_ok(), "the queue is empty again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_does_not_wait_for_longer_than_its_patience() {
        let throttle = throttle(1, 1);
        let _first = throttle.admit().await.ok().unwrap();
        let begun = tokio::time::Instant::now();
        assert!(matches!(throttle.admit().await, Err(Fault::NotSent(_))));
        assert_eq!(begun.elapsed(), SECOND);
        let load = TableLoad { in_flight: 1, waiting: 0, refused_by_queue: 0, refused_by_time: 1 };
        assert_eq!(throttle.load(), load);
    }

    #[test]
    fn the_table_is_slow_after_several_slow_attempts_until_one_is_not() {
        let throttle = throttle(1, 1);
        for attempt in 1..=SLOW_IN_A_ROW {
            assert!(!throttle.is_slow(), "before attempt {attempt}");
            throttle.record(true);
        }
        assert!(throttle.is_slow());
        throttle.record(false);
        assert!(!throttle.is_slow());
    }
}
