//! A cache inside this process.

use std::time::Duration;

use moka::Expiry;
use moka::ops::compute::Op;
use tokio::time::Instant;

use crate::cache::{Cache, CacheError, Fill, Key, Release, Value};
use crate::slot::{Entry, Fence, Slot, Token};

/// How many keys it holds by default.
const CAPACITY: u64 = 100_000;

/// A cache inside this process, of bounded size. Its steps cannot fail.
pub struct MemoryCache<K, V> {
    slots: moka::sync::Cache<K, Held<V>>,
    /// Deadlines in fences are milliseconds from here.
    epoch: Instant,
}

/// A slot, and when it expires.
#[derive(Clone)]
struct Held<V> {
    slot: Slot<V>,
    until: Instant,
}

/// Frees the memory of slots that have expired. Whether a slot has expired is decided by
/// [`Held::until`], on tokio's clock, which tests can pause.
struct FreeWhenExpired;

impl<K, V> Expiry<K, Held<V>> for FreeWhenExpired {
    fn expire_after_create(
        &self,
        _: &K,
        held: &Held<V>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(held.until.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &K,
        held: &Held<V>,
        now: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, held, now)
    }
}

impl<K: Key, V: Value> Default for MemoryCache<K, V> {
    /// A cache of 100,000 keys.
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl<K: Key, V: Value> MemoryCache<K, V> {
    /// A cache that holds at most this many keys. The least recently used are removed first.
    pub fn with_capacity(keys: u64) -> Self {
        let slots = moka::sync::Cache::builder()
            .max_capacity(keys)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .expire_after(FreeWhenExpired)
            .build();
        Self { slots, epoch: Instant::now() }
    }

    /// Changes a slot atomically. `change` receives the slot and returns its new content (`None`:
    /// unchanged) and the result of the step.
    fn step<T>(&self, key: &K, change: impl FnOnce(Slot<V>) -> (Option<Held<V>>, T)) -> T {
        let mut result = None;
        self.slots.entry_by_ref(key).and_compute_with(|held| {
            let slot = held.map_or(Slot::Nothing, |held| held.into_value().current());
            let (next, step_result) = change(slot);
            result = Some(step_result);
            match next {
                None => Op::Nop,
                Some(Held { slot: Slot::Nothing, .. }) => Op::Remove,
                Some(held) => Op::Put(held),
            }
        });
        #[allow(clippy::expect_used)] // moka calls the closure exactly once
        result.expect("and_compute_with calls its closure")
    }

    /// Changes the fence in a slot; anything else in it counts as an empty fence.
    fn change_fence<T>(&self, key: &K, change: impl FnOnce(Fence, u64) -> (Fence, T)) -> T {
        self.step(key, |slot| {
            let now = self.epoch.elapsed().as_millis() as u64;
            let fence = match slot {
                Slot::Fence(fence) => fence.without_expired(now),
                _ => Fence::default(),
            };
            let (fence, result) = change(fence, now);
            let next = match fence.latest_deadline() {
                None => Held::nothing(),
                Some(latest) => Held::new(Slot::Fence(fence), Duration::from_millis(latest - now)),
            };
            (Some(next), result)
        })
    }
}

impl<V> Held<V> {
    fn new(slot: Slot<V>, ttl: Duration) -> Self {
        Self { slot, until: Instant::now() + ttl }
    }

    fn nothing() -> Self {
        Self::new(Slot::Nothing, Duration::ZERO)
    }

    fn current(self) -> Slot<V> {
        if self.until > Instant::now() { self.slot } else { Slot::Nothing }
    }
}

impl<K: Key, V: Value> Cache<K, V> for MemoryCache<K, V> {
    async fn get(&self, key: &K) -> Result<Slot<V>, CacheError> {
        Ok(self.slots.get(key).map_or(Slot::Nothing, Held::current))
    }

    async fn lease(&self, key: &K, token: Token, ttl: Duration) -> Result<Slot<V>, CacheError> {
        Ok(self.step(key, |slot| match slot {
            Slot::Nothing => (Some(Held::new(Slot::Lease(token), ttl)), Slot::Lease(token)),
            held => (None, held),
        }))
    }

    async fn fill(
        &self,
        key: &K,
        token: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> Result<Fill, CacheError> {
        Ok(self.step(key, |slot| match slot {
            Slot::Lease(holder) if holder == token => {
                (Some(Held::new(Slot::Entry(entry.clone()), ttl)), Fill::Accepted)
            }
            _ => (None, Fill::Refused),
        }))
    }

    async fn forfeit(&self, key: &K, token: Token) -> Result<(), CacheError> {
        self.step(key, |slot| match slot {
            Slot::Lease(holder) if holder == token => (Some(Held::nothing()), ()),
            _ => (None, ()),
        });
        Ok(())
    }

    async fn fence(&self, key: &K, token: Token, ttl: Duration) -> Result<(), CacheError> {
        self.change_fence(key, |fence, now| (fence.with(token, now + ttl.as_millis() as u64), ()));
        Ok(())
    }

    async fn release(&self, key: &K, token: Token) -> Result<Release, CacheError> {
        Ok(self.change_fence(key, |fence, _| {
            let is_in_it = fence.writers().any(|(writer, _)| writer == token);
            let release = if is_in_it { Release::Found } else { Release::NotFound };
            (fence.without(token), release)
        }))
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(())
    }
}

#[cfg(test)]
mod contract {
    async fn in_process() -> (super::MemoryCache<String, String>, ()) {
        (super::MemoryCache::default(), ())
    }

    crate::cache_contract!(in_process());
}
