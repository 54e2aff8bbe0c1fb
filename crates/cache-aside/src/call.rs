//! One call of [`CacheAside::get`](crate::CacheAside::get) or
//! [`CacheAside::write`](crate::CacheAside::write): every wait for the cache or for the store goes
//! through here, which is where it is measured and observed, and where a failed step is logged.

use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::answer::Timing;
use crate::cache::{Cache, CacheError, Fill, Key, Release};
use crate::clock::Moment;
use crate::observer::{Event, Observer, Step};
use crate::shared_loads::Joiner;
use crate::slot::{Entry, Slot, Token};
#[cfg(test)]
use crate::tests::scheduled::Weakening;

/// A call in progress.
pub(crate) struct Call<'a, K, C> {
    cache: &'a C,
    observer: Option<&'a dyn Observer>,
    pub(crate) key: &'a K,
    pub(crate) timing: Timing,
    /// When the last request to the cache or to the store was sent.
    pub(crate) sent: Moment,
}

impl<'a, K: Key, C> Call<'a, K, C> {
    pub(crate) fn new(cache: &'a C, key: &'a K, observer: Option<&'a dyn Observer>) -> Self {
        Self { cache, observer, key, timing: Timing::default(), sent: Moment::now() }
    }

    pub(crate) fn tell(&self, event: Event<'_>) {
        if let Some(observer) = self.observer {
            observer.observe(event);
        }
    }

    pub(crate) async fn get<V>(&mut self) -> Result<Slot<V>, CacheError>
    where
        C: Cache<K, V>,
    {
        let step = pin!(self.cache.get(self.key));
        self.step(Step::Get, step).await
    }

    pub(crate) async fn lease<V>(
        &mut self,
        token: Token,
        ttl: Duration,
    ) -> Result<Slot<V>, CacheError>
    where
        C: Cache<K, V>,
    {
        let step = pin!(self.cache.lease(self.key, token, ttl));
        self.step(Step::Lease, step).await
    }

    pub(crate) async fn fill<V>(
        &mut self,
        token: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> Result<Fill, CacheError>
    where
        C: Cache<K, V>,
    {
        let step = pin!(self.cache.fill(self.key, token, entry, ttl));
        self.step(Step::Fill, step).await
    }

    pub(crate) async fn forfeit<V>(&mut self, token: Token) -> Result<(), CacheError>
    where
        C: Cache<K, V>,
    {
        let step = pin!(self.cache.forfeit(self.key, token));
        self.step(Step::Forfeit, step).await
    }

    pub(crate) async fn fence<V>(&mut self, token: Token, ttl: Duration) -> Result<(), CacheError>
    where
        C: Cache<K, V>,
    {
        let step = pin!(self.cache.fence(self.key, token, ttl));
        self.step(Step::Fence, step).await
    }

    pub(crate) async fn release<V>(&mut self, token: Token) -> Result<Release, CacheError>
    where
        C: Cache<K, V>,
    {
        let step = pin!(self.cache.release(self.key, token));
        self.step(Step::Release, step).await
    }

    /// Waits before looking again for a lease that another reader holds, or until local copies have
    /// ended.
    pub(crate) async fn pause(&mut self, pause: Duration) {
        measured(&mut self.timing.cache, tokio::time::sleep(pause)).await;
    }

    /// Waits for another reader's load, at most until `end`.
    pub(crate) async fn join<T: Clone>(
        &mut self,
        joiner: Joiner<T>,
        end: Instant,
    ) -> Result<Option<T>, Elapsed> {
        measured(&mut self.timing.store, timeout_at(end, joiner.result())).await.0
    }

    /// Waits for the caller's load or write.
    pub(crate) async fn wait_for_store<T>(&mut self, request: impl Future<Output = T>) -> T {
        self.sent = Moment::now();
        measured(&mut self.timing.store, request).await.0
    }

    /// The step is pinned by its caller: as an argument by value it would be stored twice, here and in
    /// the future of this function.
    async fn step<T>(
        &mut self,
        step: Step,
        work: Pin<&mut impl Future<Output = Result<T, CacheError>>>,
    ) -> Result<T, CacheError> {
        self.sent = Moment::now();
        let (result, took) = measured(&mut self.timing.cache, work).await;
        #[cfg(test)]
        if Weakening::CopyFromReply.is_on() {
            self.sent = Moment::now();
        }
        if let Err(error) = &result {
            log::debug!("cache step {} failed: {error}", step.name());
        }
        self.tell(Event::Step { step, took, error: result.as_ref().err() });
        result
    }
}

/// Adds how long the work takes, and returns that, too.
async fn measured<T>(total: &mut Option<Duration>, work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = work.await;
    let took = start.elapsed();
    *total = Some(total.unwrap_or_default() + took);
    (result, took)
}
