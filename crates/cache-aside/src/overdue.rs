//! Releases that have not reached the cache yet.
//!
//! Until they do, the cache may still hold an entry from before the write. Other processes cannot
//! know that and may return it, for as long as the guarantees allow. This process knows, and
//! bypasses the cache for that key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::timeout;

use crate::cache::{Cache, Key};
use crate::observer::{Event, Observer};
use crate::slot::Token;

/// The pauses between attempts: 50 ms, doubled up to 1 s, for as long as it takes.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(1))
    .without_max_times();

/// The releases of this process that have not reached the cache.
pub(crate) struct OverdueReleases<K>(Arc<Pending<K>>);

struct Pending<K> {
    // Counted separately, so that a read takes no lock when nothing is pending, which is nearly always.
    count: AtomicUsize,
    by_key: Mutex<HashMap<K, usize>>,
}

impl<K: Key> OverdueReleases<K> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Pending { count: AtomicUsize::new(0), by_key: Mutex::default() }))
    }

    /// Whether a release of this key has not reached the cache yet.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.count.load(Ordering::SeqCst) > 0 && self.0.by_key().contains_key(key)
    }

    /// Tries the release again in the background, until it succeeds or `longest_stale` has passed:
    /// after that time the cache cannot hold an entry from before the write.
    ///
    /// Only releases are retried: a fence that is placed late would outlast its write.
    pub(crate) fn retry<V: 'static, C: Cache<K, V>>(
        &self,
        cache: Arc<C>,
        key: K,
        token: Token,
        longest_stale: Duration,
        observer: Option<Arc<dyn Observer>>,
    ) {
        let pending = Arc::clone(&self.0);
        pending.add(&key);
        let tell = move |event| {
            if let Some(observer) = &observer {
                observer.observe(event);
            }
        };
        tell(Event::ReleaseOverdue);
        tokio::spawn(async move {
            let retries = (|| cache.release(&key, token)).retry(PAUSES);
            // Either it succeeded, or there is nothing left to release.
            let _ = timeout(longest_stale, retries).await;
            pending.remove(&key);
            tell(Event::OverdueReleaseEnded);
        });
    }
}

impl<K: Key> Pending<K> {
    fn by_key(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Nothing panics while the lock is held, and the map is valid after each operation.
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: &K) {
        *self.by_key().entry(key.clone()).or_default() += 1;
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self, key: &K) {
        let mut by_key = self.by_key();
        if let Some(pending) = by_key.get_mut(key) {
            *pending -= 1;
            if *pending == 0 {
                by_key.remove(key);
            }
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
