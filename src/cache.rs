//! The cache of users: Redis, or a cache inside this process if no Redis is configured.

use std::sync::Arc;
use std::time::Duration;

use cache_aside::redis::{RedisCache, RedisOptions, RedisUrl};
use cache_aside::{Cache, CacheError, Entry, Fill, MemoryCache, Release, Slot, Token};
use serde::Serialize;

use crate::identity::{Identity, RedisCredentials};
use crate::store::Versioned;
use crate::users::{UserDocument, UserId};

/// What is cached under a user's id.
pub type CachedUser = Versioned<UserDocument>;

/// The address of Redis, and how to log in.
#[derive(Clone, Debug)]
pub struct RedisAccess {
    /// The addresses, with a user name and a password if they have one.
    pub url: RedisUrl,
    /// The identity to log in with, instead of a password.
    pub identity: Option<Identity>,
}

/// Which cache it is, as the health report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheKind {
    /// Redis: a server, a cluster, or the master that sentinels name.
    Redis,
    /// Inside this process.
    Memory,
}

/// The cache of users.
#[allow(clippy::large_enum_variant)] // a process has one
pub enum UserCache {
    /// Redis: a server, a cluster, or the master that sentinels name.
    Redis(RedisCache),
    /// Inside this process.
    Memory(MemoryCache<UserId, CachedUser>),
}

impl UserCache {
    /// A cache inside this process.
    pub fn in_process() -> Self {
        Self::Memory(MemoryCache::default())
    }

    /// A cache on Redis, in the keys `{prefix}user:{ULID}`. Connects in the background; `timeout` is
    /// the bound on each step.
    ///
    /// # Errors
    /// The client library does not accept the address.
    pub fn on_redis(
        access: &RedisAccess,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Self, CacheError> {
        let options = RedisOptions::new(access.url.clone());
        let mut options = options.key_prefix(format!("{prefix}user:")).timeout(timeout);
        if let Some(identity) = &access.identity {
            options = options.credentials(Arc::new(RedisCredentials(identity.clone())));
        }
        RedisCache::connect(options).map(Self::Redis)
    }

    /// Which cache it is.
    pub fn kind(&self) -> CacheKind {
        match self {
            Self::Redis(_) => CacheKind::Redis,
            Self::Memory(_) => CacheKind::Memory,
        }
    }
}

impl CacheKind {
    /// What a probe of it does, for the health report.
    pub fn probe_description(self) -> &'static str {
        match self {
            Self::Redis => "release of an unused key",
            Self::Memory => "in process",
        }
    }
}

/// Calls a step of whichever cache it is.
macro_rules! on_either {
    ($cache:expr, $step:ident($($argument:expr),*)) => {
        match $cache {
            UserCache::Redis(cache) => Cache::<UserId, CachedUser>::$step(cache, $($argument),*).await,
            UserCache::Memory(cache) => cache.$step($($argument),*).await,
        }
    };
}

impl Cache<UserId, CachedUser> for UserCache {
    async fn get(&self, key: &UserId) -> Result<Slot<CachedUser>, CacheError> {
        on_either!(self, get(key))
    }

    async fn lease(
        &self,
        key: &UserId,
        token: Token,
        ttl: Duration,
    ) -> Result<Slot<CachedUser>, CacheError> {
        on_either!(self, lease(key, token, ttl))
    }

    async fn fill(
        &self,
        key: &UserId,
        token: Token,
        entry: &Entry<CachedUser>,
        ttl: Duration,
    ) -> Result<Fill, CacheError> {
        on_either!(self, fill(key, token, entry, ttl))
    }

    async fn forfeit(&self, key: &UserId, token: Token) -> Result<(), CacheError> {
        on_either!(self, forfeit(key, token))
    }

    async fn fence(&self, key: &UserId, token: Token, ttl: Duration) -> Result<(), CacheError> {
        on_either!(self, fence(key, token, ttl))
    }

    async fn release(&self, key: &UserId, token: Token) -> Result<Release, CacheError> {
        on_either!(self, release(key, token))
    }

    async fn probe(&self) -> Result<(), CacheError> {
        on_either!(self, probe())
    }
}
