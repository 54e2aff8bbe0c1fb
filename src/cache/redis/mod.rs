//! Redis as the cache: a plain `GET` for hits, a small Lua script for each other step.
//!
//! Redis runs a script as one step, on every version and in a cluster, where all of a step's keys
//! (there is one) are on the same node. The scripts are beside this file.

mod identity;
mod link;
mod url;

use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue, Script, ScriptInvocation};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache_aside::{Cache, CacheError, Entry, Key, Slot, Token, lease_bytes};
use crate::identity::Identity;

use self::link::{Failure, Link};
pub use self::url::RedisUrl;

/// Where Redis is, and how to be let in.
#[derive(Clone, Debug)]
pub struct RedisAccess {
    /// The addresses, with a user and a password if they have one.
    pub url: RedisUrl,
    /// The identity that logs in, instead of a password.
    pub identity: Option<Identity>,
}

/// A cache on a Redis server or cluster.
pub struct RedisCache {
    link: Link,
    prefix: String,
    scripts: Scripts,
}

/// Releasing a key that nobody uses is also how Redis is asked for a sign of life.
const RELEASE: &str = include_str!("release.lua");

struct Scripts {
    lease: Script,
    fill: Script,
    forfeit: Script,
    fence: Script,
    release: Script,
}

impl RedisCache {
    /// A cache under `{prefix}{key}`. Returns at once and connects in the background; `timeout` bounds
    /// each step, reconnecting included. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The address is one that the client library does not take.
    pub fn new(access: &RedisAccess, prefix: &str, timeout: Duration) -> Result<Self, CacheError> {
        let link = Link::new(access, format!("{prefix}probe"), timeout).map_err(Failure::Redis)?;
        Ok(Self {
            link,
            prefix: prefix.to_owned(),
            scripts: Scripts {
                lease: Script::new(include_str!("lease.lua")),
                fill: Script::new(include_str!("fill.lua")),
                forfeit: Script::new(include_str!("forfeit.lua")),
                fence: Script::new(include_str!("fence.lua")),
                release: Script::new(RELEASE),
            },
        })
    }

    fn key(&self, key: Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A reader's step: left out while Redis is known to be failing.
    async fn read<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Failure> {
        let step = |mut connection| async move { script.invoke_async(&mut connection).await };
        self.link.when_up(step).await
    }

    /// A writer's step: always tried, for without it an old entry may live on.
    async fn write(&self, script: &ScriptInvocation<'_>) -> Result<(), CacheError> {
        let step = |mut connection| async move { script.invoke_async(&mut connection).await };
        Ok(self.link.always(step).await?)
    }
}

/// What a slot's bytes say; a key of another type is foreign.
fn slot<V: DeserializeOwned>(
    answer: Result<Option<Vec<u8>>, Failure>,
) -> Result<Slot<V>, CacheError> {
    match answer {
        Ok(None) => Ok(Slot::Nothing),
        Ok(Some(bytes)) => Ok(Slot::parse(&bytes)),
        Err(Failure::Redis(error)) if error.code() == Some("WRONGTYPE") => Ok(Slot::Foreign),
        Err(failure) => Err(failure.into()),
    }
}

fn millis(ttl: Duration) -> u64 {
    // Redis refuses a time to live of zero.
    (ttl.as_millis() as u64).max(1)
}

#[async_trait]
impl<V: Serialize + DeserializeOwned + Send + Sync> Cache<V> for RedisCache {
    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn get(&self, key: Key) -> Result<Slot<V>, CacheError> {
        let get = Cmd::get(self.key(key));
        let step = |mut connection| async move { get.query_async(&mut connection).await };
        slot(self.link.when_up(step).await)
    }

    async fn lease(&self, key: Key, token: Token, ttl: Duration) -> Result<Slot<V>, CacheError> {
        let mut script = self.scripts.lease.key(self.key(key));
        script.arg(lease_bytes(token)).arg(millis(ttl));
        slot(self.read(&script).await)
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
        let mut script = self.scripts.fill.key(self.key(key));
        script.arg(lease_bytes(token)).arg(entry).arg(millis(ttl));
        Ok(self.read(&script).await?)
    }

    async fn forfeit(&self, key: Key, token: Token) -> Result<(), CacheError> {
        let mut script = self.scripts.forfeit.key(self.key(key));
        script.arg(lease_bytes(token));
        Ok(self.read(&script).await?)
    }

    async fn fence(&self, key: Key, token: Token, ttl: Duration) -> Result<(), CacheError> {
        let mut script = self.scripts.fence.key(self.key(key));
        script.arg(token.to_string()).arg(millis(ttl));
        self.write(&script).await
    }

    async fn release(&self, key: Key, token: Token) -> Result<(), CacheError> {
        let mut script = self.scripts.release.key(self.key(key));
        script.arg(token.to_string());
        self.write(&script).await
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(self.link.probe().await?)
    }

    fn probe_name(&self) -> &'static str {
        "release of an unused key"
    }
}
