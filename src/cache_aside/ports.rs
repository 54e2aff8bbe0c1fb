//! The two ports of the pattern, and the words they speak in. Adapters live in `crate::cache` and
//! `crate::store`.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::slot::{Entry, Slot, Token};

/// What a value is stored and cached under. Its id is a ULID by type, so that it is safe as it
/// stands in a cache key, a URL and a row key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What kind of thing it is: the prefix in the cache, the partition in a table.
    pub kind: &'static str,
    /// Which one it is.
    pub id: Ulid,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}

/// A version of a stored value, as the store names it; passed through untouched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// The entity tag as the store wrote it, quotes included.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The entity tag as the store wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored<V> {
    /// The version.
    pub etag: ETag,
    /// The value.
    pub value: V,
}

/// Which versions a write may replace.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Any version, but there must be one.
    Exists,
    /// One of these versions.
    OneOf(Vec<ETag>),
}

/// Why a cache step failed. Whatever it is, the request goes on without the cache; a step that was
/// sent may still execute.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(pub String);

/// Why a load failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The store could not be reached, or did not answer in time, or answered with a fault.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store has it, in a form that is not the value's.
    #[error("the stored value cannot be read: {0}")]
    Unreadable(String),
}

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// There is nothing to change. The write was not applied.
    #[error("not found")]
    NotFound,
    /// The version is not one that the condition allows. The write was not applied.
    #[error("the condition does not hold")]
    PreconditionFailed,
    /// The store refused it for good, or it never left this process. The write was not applied.
    #[error("not applied: {0}")]
    Refused(String),
    /// Nobody can tell whether the write was applied, or will be.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

impl WriteError {
    /// Whether it is certain that the write was not, and will not be, applied.
    pub fn is_definite(&self) -> bool {
        !matches!(self, WriteError::Unknown(_))
    }
}

/// The cache: six steps on one slot, each atomic, each bounded in time by the adapter.
#[async_trait]
pub trait Cache<V>: Send + Sync {
    /// What it is, as it is told to callers: `redis`, `memory`.
    fn kind(&self) -> &'static str;

    /// Reads the slot.
    async fn get(&self, key: Key) -> Result<Slot<V>, CacheError>;

    /// If nothing is there, puts a lease. Answers what is there now.
    async fn lease(&self, key: Key, token: Token, ttl: Duration) -> Result<Slot<V>, CacheError>;

    /// If this lease is still there, replaces it with the entry. Answers whether it did.
    async fn fill(
        &self,
        key: Key,
        token: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> Result<bool, CacheError>;

    /// If this lease is still there, removes it.
    async fn forfeit(&self, key: Key, token: Token) -> Result<(), CacheError>;

    /// Joins a standing fence, or replaces whatever is there with one. It stands until the latest
    /// deadline in it; this token's is `ttl` from now.
    async fn fence(&self, key: Key, token: Token, ttl: Duration) -> Result<(), CacheError>;

    /// Takes the token out of a fence and removes the fence once it is empty; removes anything else.
    async fn release(&self, key: Key, token: Token) -> Result<(), CacheError>;

    /// Asks the cache for a sign of life, whatever the failures before. Bounded.
    async fn probe(&self) -> Result<(), CacheError>;

    /// What [`Cache::probe`] does, in a word or two for a person.
    fn probe_name(&self) -> &'static str;
}

/// The store, which holds the truth. Each call is bounded in time by the adapter, all of its
/// attempts together.
#[async_trait]
pub trait Store<V>: Send + Sync {
    /// What it is, as it is told to callers: `table`, `memory`.
    fn kind(&self) -> &'static str;

    /// Reads a value; `None` only when the store is certain that there is none.
    async fn load(&self, key: Key) -> Result<Option<Stored<V>>, LoadError>;

    /// Adds a value that is not there. An attempt whose outcome is unknown may be repeated here: if
    /// the store then has this very value, it was added.
    async fn insert(&self, key: Key, value: &V) -> Result<ETag, WriteError>;

    /// Changes a value that is there. Never repeated after an unknown outcome.
    async fn update(&self, key: Key, value: &V, condition: &Condition) -> Result<ETag, WriteError>;

    /// Removes a value that is there. Never repeated after an unknown outcome.
    async fn delete(&self, key: Key, condition: &Condition) -> Result<(), WriteError>;

    /// Asks the store for a sign of life. Bounded.
    async fn probe(&self) -> Result<(), LoadError>;

    /// What [`Store::probe`] does, in a word or two for a person.
    fn probe_name(&self) -> &'static str;
}
