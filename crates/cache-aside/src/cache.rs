//! The interface to a cache. Implementations are [`MemoryCache`](crate::MemoryCache) and, with the
//! feature `redis`, `RedisCache`.

use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::slot::{Entry, Slot, Token};

/// What a value is cached under. Implemented for every type with these properties.
///
/// Two keys that are equal must be displayed alike, and two that differ must be displayed
/// differently: a shared cache identifies keys by their text.
pub trait Key: Clone + Eq + Hash + Display + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Display + Send + Sync + 'static> Key for K {}

/// What is cached. Implemented for every type with these properties.
pub trait Value: Clone + Send + Sync + 'static {}

impl<V: Clone + Send + Sync + 'static> Value for V {}

/// Why a cache step failed.
///
/// No request fails because of it: reads use the store, and writes proceed without the cache. A
/// step that was sent may still execute later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(String);

impl CacheError {
    /// An error with this description, which goes to the log.
    pub fn new(description: impl Into<String>) -> Self {
        Self(description.into())
    }
}

/// Whether the cache accepted an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The entry replaced the lease.
    Accepted,
    /// The lease was no longer there: it had expired, or a write had removed it.
    Refused,
}

/// Whether a fence has stood until its writer released it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The writer was in the fence, and its deadline had not passed.
    Found,
    /// It was not: the fence had expired, or the cache had lost it.
    NotFound,
}

/// A cache: atomic steps on the slot of one key.
///
/// Each step executes at most once: an implementation must not resend a step whose outcome is
/// unknown. It must complete within the
/// [`PolicyBuilder::cache_timeout`](crate::PolicyBuilder::cache_timeout). The feature `testing` has
/// the contract as tests: run them on your implementation.
///
/// The cache may lose any key at any time; the guarantees that remain are on the crate's front page.
pub trait Cache<K, V>: Send + Sync + 'static {
    /// Returns what the slot holds.
    fn get(&self, key: &K) -> impl Future<Output = Result<Slot<V>, CacheError>> + Send;

    /// Places a lease if the slot holds nothing. Returns what the slot holds afterwards.
    fn lease(
        &self,
        key: &K,
        token: Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<Slot<V>, CacheError>> + Send;

    /// Replaces the lease with the entry, if the lease with this token is still there.
    fn fill(
        &self,
        key: &K,
        token: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> impl Future<Output = Result<Fill, CacheError>> + Send;

    /// Removes the lease with this token, if it is still there.
    fn forfeit(&self, key: &K, token: Token)
    -> impl Future<Output = Result<(), CacheError>> + Send;

    /// Adds a writer to the fence in the slot, or replaces whatever else the slot holds with a
    /// fence with this writer. The writer's deadline is `ttl` from now, by the cache's clock; the
    /// fence lasts until the last deadline or release.
    fn fence(
        &self,
        key: &K,
        token: Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), CacheError>> + Send;

    /// Removes a writer from the fence in the slot, and removes the fence if no writer is left.
    /// Removes anything else that the slot holds. Returns whether it found the writer.
    fn release(
        &self,
        key: &K,
        token: Token,
    ) -> impl Future<Output = Result<Release, CacheError>> + Send;

    /// Checks whether the cache works, regardless of earlier failures.
    fn probe(&self) -> impl Future<Output = Result<(), CacheError>> + Send;
}

impl<K, V, C: Cache<K, V>> Cache<K, V> for Arc<C>
where
    K: Sync,
    V: Sync,
{
    fn get(&self, key: &K) -> impl Future<Output = Result<Slot<V>, CacheError>> + Send {
        C::get(self, key)
    }

    fn lease(
        &self,
        key: &K,
        token: Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<Slot<V>, CacheError>> + Send {
        C::lease(self, key, token, ttl)
    }

    fn fill(
        &self,
        key: &K,
        token: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> impl Future<Output = Result<Fill, CacheError>> + Send {
        C::fill(self, key, token, entry, ttl)
    }

    fn forfeit(
        &self,
        key: &K,
        token: Token,
    ) -> impl Future<Output = Result<(), CacheError>> + Send {
        C::forfeit(self, key, token)
    }

    fn fence(
        &self,
        key: &K,
        token: Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), CacheError>> + Send {
        C::fence(self, key, token, ttl)
    }

    fn release(
        &self,
        key: &K,
        token: Token,
    ) -> impl Future<Output = Result<Release, CacheError>> + Send {
        C::release(self, key, token)
    }

    fn probe(&self) -> impl Future<Output = Result<(), CacheError>> + Send {
        C::probe(self)
    }
}
