//! The in-process cache of the embedded default: the same slots, in the same bytes, for one process.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::Expiry;
use moka::ops::compute::Op;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache_aside::{
    Cache, CacheError, Entry, Fence, Key, Slot, Token, fence_bytes, lease_bytes, unix_millis,
};

/// How many keys it holds; the least recently used go first, as Redis would evict them.
const MOST: u64 = 100_000;

/// A cache inside this process. Its steps cannot fail.
pub struct MemoryCache {
    slots: moka::sync::Cache<Key, Held>,
}

/// The bytes under a key, and how long they live from when they were put.
#[derive(Clone)]
struct Held {
    bytes: Vec<u8>,
    ttl: Duration,
}

/// Each key lives as long as it was put for.
struct ByTtl;

impl Expiry<Key, Held> for ByTtl {
    fn expire_after_create(&self, _: &Key, held: &Held, _: Instant) -> Option<Duration> {
        Some(held.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        held: &Held,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(held.ttl)
    }
}

impl Default for MemoryCache {
    fn default() -> Self {
        let slots = moka::sync::Cache::builder()
            .max_capacity(MOST)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .expire_after(ByTtl)
            .build();
        Self { slots }
    }
}

impl MemoryCache {
    /// Puts bytes under a key, whatever they are: how the tests bring in what is foreign.
    #[doc(hidden)]
    pub fn put(&self, key: Key, bytes: Vec<u8>, ttl: Duration) {
        self.slots.insert(key, Held { bytes, ttl });
    }

    /// Decides what a key holds next, with nobody in between; answers what `decide` answers.
    fn step<A>(&self, key: Key, decide: impl FnOnce(Option<&[u8]>) -> (Op<Held>, A)) -> A {
        let mut answer = None;
        self.slots.entry(key).and_compute_with(|held| {
            let held = held.map(moka::Entry::into_value);
            let (op, decided) = decide(held.as_ref().map(|held| &*held.bytes));
            answer = Some(decided);
            op
        });
        #[allow(clippy::expect_used)] // moka calls the closure exactly once
        answer.expect("and_compute_with calls its closure")
    }

    /// Changes the fence under a key; what is no fence is handed on as an empty one.
    fn fenced(&self, key: Key, change: impl FnOnce(Fence, u64) -> Fence) {
        self.step(key, |bytes| {
            let now = unix_millis();
            let fence = match bytes.map(Slot::<serde::de::IgnoredAny>::parse) {
                Some(Slot::Fence(fence)) => fence.standing(now),
                _ => Fence::default(),
            };
            let fence = change(fence, now);
            let op = match fence.latest_deadline() {
                None => Op::Remove,
                Some(latest) => Op::Put(Held {
                    bytes: fence_bytes(&fence),
                    ttl: Duration::from_millis(latest - now),
                }),
            };
            (op, ())
        });
    }
}

#[async_trait]
impl<V: Serialize + DeserializeOwned + Send + Sync> Cache<V> for MemoryCache {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, key: Key) -> Result<Slot<V>, CacheError> {
        Ok(self.slots.get(&key).map_or(Slot::Nothing, |held| Slot::parse(&held.bytes)))
    }

    async fn lease(&self, key: Key, token: Token, ttl: Duration) -> Result<Slot<V>, CacheError> {
        Ok(self.step(key, |bytes| match bytes {
            None => (Op::Put(Held { bytes: lease_bytes(token), ttl }), Slot::Lease(token)),
            Some(bytes) => (Op::Nop, Slot::parse(bytes)),
        }))
    }

    async fn fill(
        &self,
        key: Key,
        token: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> Result<bool, CacheError> {
        let Some(entry) = entry.to_bytes() else {
            return Ok(false);
        };
        Ok(self.step(key, |bytes| match bytes {
            Some(bytes) if bytes == lease_bytes(token) => {
                (Op::Put(Held { bytes: entry, ttl }), true)
            }
            _ => (Op::Nop, false),
        }))
    }

    async fn forfeit(&self, key: Key, token: Token) -> Result<(), CacheError> {
        self.step(key, |bytes| match bytes {
            Some(bytes) if bytes == lease_bytes(token) => (Op::Remove, ()),
            _ => (Op::Nop, ()),
        });
        Ok(())
    }

    async fn fence(&self, key: Key, token: Token, ttl: Duration) -> Result<(), CacheError> {
        self.fenced(key, |fence, now| fence.with(token, now + ttl.as_millis() as u64));
        Ok(())
    }

    async fn release(&self, key: Key, token: Token) -> Result<(), CacheError> {
        self.fenced(key, |fence, _| fence.without(token));
        Ok(())
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(())
    }

    fn probe_name(&self) -> &'static str {
        "in process"
    }
}
