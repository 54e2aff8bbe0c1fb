//! How a call to the table is made: when it is its turn, within its time, and with as many attempts as
//! it may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::{Instant, timeout_at};

use crate::telemetry::TableLoad;

use super::availability::Availability;
use super::fault::Fault;
use super::throttle::{Concurrency, Throttle};

/// How many attempts a call has that may be repeated. Each gets an equal part of the call's time.
const ATTEMPTS: u32 = 3;

/// The pauses between attempts, jittered. They count towards the call's time.
const RETRY_PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(25))
    .with_max_delay(Duration::from_millis(250))
    .with_max_times(ATTEMPTS as usize - 1)
    .with_jitter();

/// The calls to one table.
pub(super) struct Calls {
    /// The bound on each call: the wait for its turn and all of its attempts together.
    timeout: Duration,
    throttle: Arc<Throttle>,
    availability: Availability,
}

impl Calls {
    pub(super) fn new(endpoint: &str, timeout: Duration, concurrency: Concurrency) -> Self {
        Self {
            timeout,
            throttle: Arc::new(Throttle::new(concurrency, timeout / ATTEMPTS)),
            availability: Availability::new(endpoint),
        }
    }

    /// What returns how loaded the calls are.
    pub(super) fn load(&self) -> impl Fn() -> TableLoad + Send + Sync + 'static {
        let throttle = Arc::clone(&self.throttle);
        move || throttle.load()
    }

    /// Makes a call that is sent once.
    pub(super) async fn once<T>(
        &self,
        request: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.in_turn(|deadline| self.attempt(deadline, request)).await
    }

    /// Makes a call that may be repeated. While the table is slow it has only one attempt, which may take
    /// all of the time. Once the outcome of an attempt is unknown, the refusal of a later attempt does
    /// not make it known.
    pub(super) async fn with_retries<T, F>(&self, request: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.in_turn(|deadline| self.attempts(deadline, request)).await
    }

    /// Makes a call that does not wait for its turn, and says nothing about the table's speed.
    pub(super) async fn aside<T>(
        &self,
        request: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        within(Instant::now() + self.timeout, request).await
    }

    /// Makes a request that precedes a write within the same call, and leaves half of the time for the
    /// write.
    pub(super) async fn before_a_write<T>(
        &self,
        request: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let outcome = within(Instant::now() + self.timeout / 2, request).await;
        outcome.map_err(Fault::before_the_write)
    }

    async fn in_turn<T, F>(&self, call: impl FnOnce(Instant) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let deadline = Instant::now() + self.timeout;
        let _permit = self.throttle.admit().await?;
        // Boxed, so that a call does not occupy all of its memory while it waits for its turn.
        let outcome = Box::pin(call(deadline)).await;
        self.availability.note(outcome.as_ref().err());
        outcome
    }

    async fn attempt<T>(
        &self,
        deadline: Instant,
        request: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let begun = Instant::now();
        let answer = timeout_at(deadline, request).await;
        // One that is given up early, because the call's time ends, says nothing good either.
        self.throttle.record(answer.is_err() || begun.elapsed() >= self.timeout / ATTEMPTS);
        answer.unwrap_or_else(|_| Err(no_answer(deadline - begun)))
    }

    async fn attempts<T, F>(&self, deadline: Instant, request: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let any_unknown = AtomicBool::new(false);
        let attempt = || async {
            let share = Instant::now() + self.timeout / ATTEMPTS;
            let end = if self.throttle.is_slow() { deadline } else { deadline.min(share) };
            let outcome = self.attempt(end, request()).await;
            if let Err(Fault::Unknown(_)) = outcome {
                any_unknown.store(true, Ordering::Relaxed);
            }
            outcome
        };
        let may_repeat = |fault: &Fault| fault.is_transient() && !self.throttle.is_slow();
        match within(deadline, attempt.retry(RETRY_PAUSES).when(may_repeat)).await {
            Err(Fault::Refused(cause) | Fault::NotSent(cause))
                if any_unknown.load(Ordering::Relaxed) =>
            {
                Err(Fault::Unknown(cause))
            }
            outcome => outcome,
        }
    }
}

async fn within<T>(
    deadline: Instant,
    request: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let begun = Instant::now();
    let answer = timeout_at(deadline, request).await;
    answer.unwrap_or_else(|_| Err(no_answer(deadline - begun)))
}

fn no_answer(time: Duration) -> Fault {
    Fault::Unknown(format!("no answer within {} ms", time.as_millis()))
}
