//! A cache on Redis: a plain `GET` for hits, a small Lua script for each other step.
//!
//! `SET … NX GET` could look and request the lease at once. Measured with that command in place of `GET`,
//! a miss was not noticeably faster (it cost 8 % less CPU), and a hit not slower. But it needs Redis 7, and it
//! is a write: hits would fail on a Redis that is full or does not reach its replicas.
//!
//! Redis executes a script atomically. (Garnet does so only with `--lua-transaction-mode`: a server
//! that says that it is Garnet causes a warning.) Each script uses one key, so it works in a cluster
//! too. The scripts are beside this file; `slot_bytes.rs` documents the bytes that they exchange.

mod connection;
mod connector;
mod sentinel;
mod server;
mod slot_bytes;
mod stackexchange;
#[cfg(test)]
mod tests;
mod url;

use std::fmt::{self, Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

pub use redis::auth::StreamingCredentialsProvider;
use redis::{FromRedisValue, Script, ScriptInvocation};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::{Cache, CacheError, Fill, Key, Release, Value};
use crate::slot::{Entry, Slot, Token};

use self::connection::{Failure, Link};
use self::slot_bytes::{entry_bytes, lease_bytes, parse_slot};
pub use self::url::{InvalidRedisUrl, RedisUrl};

/// How to reach Redis, and which keys to use there.
#[derive(Clone)]
pub struct RedisOptions {
    url: RedisUrl,
    key_prefix: String,
    timeout: Duration,
    credentials: Option<Arc<dyn StreamingCredentialsProvider>>,
}

impl RedisOptions {
    /// Redis at this address, keys without a prefix, and 100 ms for each step.
    pub fn new(url: RedisUrl) -> Self {
        let timeout = Duration::from_millis(100);
        Self { url, key_prefix: String::new(), timeout, credentials: None }
    }

    /// What all keys begin with. Processes that share a store must use the same prefix, and
    /// different stores must have different ones.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// The bound on each step, reconnecting included: the policy's
    /// [`cache_timeout`](crate::PolicyBuilder::cache_timeout).
    #[must_use]
    pub fn timeout(mut self, bound: Duration) -> Self {
        self.timeout = bound;
        self
    }

    /// Logs in with credentials that change over time, such as tokens, instead of a password in the
    /// URL. Not with sentinels.
    ///
    /// The trait belongs to the redis crate: a new major version of it is a breaking change of this
    /// crate.
    #[must_use]
    pub fn credentials(mut self, provider: Arc<dyn StreamingCredentialsProvider>) -> Self {
        self.credentials = Some(provider);
        self
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("url", &self.url)
            .field("key_prefix", &self.key_prefix)
            .field("timeout", &self.timeout)
            .field("has_credentials", &self.credentials.is_some())
            .finish()
    }
}

/// A cache on a Redis server or cluster, or on the master that sentinels name. Values are stored as
/// JSON.
pub struct RedisCache {
    link: Link,
    key_prefix: String,
    scripts: Scripts,
}

/// Space for a key, without the prefix, so that most keys need one allocation. Any length is allowed.
const LONGEST_USUAL_KEY: usize = 40;

/// Also the probe: it releases an unused key.
const RELEASE: &str = include_str!("release.lua");

struct Scripts {
    lease: Script,
    fill: Script,
    forfeit: Script,
    fence: Script,
    release: Script,
}

impl RedisCache {
    /// A cache with these options. Returns at once and connects in the background.
    ///
    /// # Errors
    /// The client library does not accept the address, or the options have credentials and the
    /// address is one of sentinels.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(options: RedisOptions) -> Result<Self, CacheError> {
        Ok(Self {
            link: Link::new(&options).map_err(Failure::Redis)?,
            key_prefix: options.key_prefix,
            scripts: Scripts {
                lease: Script::new(include_str!("lease.lua")),
                fill: Script::new(include_str!("fill.lua")),
                forfeit: Script::new(include_str!("forfeit.lua")),
                fence: Script::new(include_str!("fence.lua")),
                release: Script::new(RELEASE),
            },
        })
    }

    fn key(&self, key: &impl Display) -> String {
        // `format!` would allocate several times.
        let mut text = String::with_capacity(self.key_prefix.len() + LONGEST_USUAL_KEY);
        text.push_str(&self.key_prefix);
        let _ = write!(text, "{key}"); // a String takes any text
        text
    }

    /// A step of a reader, which is skipped while Redis is known to be failing.
    async fn reader_step<T: FromRedisValue>(
        &self,
        key: &str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Failure> {
        let step = |mut connection| async move { script.invoke_async(&mut connection).await };
        self.link.unless_failing(key, step).await
    }

    /// A step of a writer, which is always tried: without it an old entry may live on.
    async fn writer_step<T: FromRedisValue>(
        &self,
        key: &str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CacheError> {
        let step = |mut connection| async move { script.invoke_async(&mut connection).await };
        Ok(self.link.always(key, step).await?)
    }
}

/// The slot that a reply describes. A key of another type than a string is foreign.
fn slot<V: DeserializeOwned>(
    reply: Result<Option<Vec<u8>>, Failure>,
) -> Result<Slot<V>, CacheError> {
    match reply {
        Ok(None) => Ok(Slot::Nothing),
        Ok(Some(bytes)) => Ok(parse_slot(&bytes)),
        Err(Failure::Redis(error)) if error.code() == Some("WRONGTYPE") => Ok(Slot::Foreign),
        Err(failure) => Err(failure.into()),
    }
}

/// Redis does not accept a TTL of zero.
fn millis(ttl: Duration) -> u64 {
    (ttl.as_millis() as u64).max(1)
}

impl<K, V> Cache<K, V> for RedisCache
where
    K: Key,
    V: Value + Serialize + DeserializeOwned,
{
    async fn get(&self, key: &K) -> Result<Slot<V>, CacheError> {
        let key = self.key(key);
        slot(self.link.unless_failing(&key, |connection| connection.get(&key)).await)
    }

    async fn lease(&self, key: &K, token: Token, ttl: Duration) -> Result<Slot<V>, CacheError> {
        let key = self.key(key);
        let mut script = self.scripts.lease.key(&key);
        script.arg(lease_bytes(token)).arg(millis(ttl));
        slot(self.reader_step(&key, &script).await)
    }

    async fn fill(
        &self,
        key: &K,
        token: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> Result<Fill, CacheError> {
        let Some(entry) = entry_bytes(entry) else {
            return Ok(Fill::Refused);
        };
        let key = self.key(key);
        let mut script = self.scripts.fill.key(&key);
        script.arg(lease_bytes(token)).arg(entry).arg(millis(ttl));
        let accepted: bool = self.reader_step(&key, &script).await?;
        Ok(if accepted { Fill::Accepted } else { Fill::Refused })
    }

    async fn forfeit(&self, key: &K, token: Token) -> Result<(), CacheError> {
        let key = self.key(key);
        let mut script = self.scripts.forfeit.key(&key);
        script.arg(lease_bytes(token));
        Ok(self.reader_step(&key, &script).await?)
    }

    async fn fence(&self, key: &K, token: Token, ttl: Duration) -> Result<(), CacheError> {
        let key = self.key(key);
        let mut script = self.scripts.fence.key(&key);
        script.arg(token.to_string()).arg(millis(ttl));
        self.writer_step(&key, &script).await
    }

    async fn release(&self, key: &K, token: Token) -> Result<Release, CacheError> {
        let key = self.key(key);
        let mut script = self.scripts.release.key(&key);
        script.arg(token.to_string());
        let found: bool = self.writer_step(&key, &script).await?;
        Ok(if found { Release::Found } else { Release::NotFound })
    }

    /// Releases the key `{prefix}probe`, which shows that Redis answers, executes scripts and
    /// accepts writes.
    async fn probe(&self) -> Result<(), CacheError> {
        Ok(self.link.probe().await?)
    }
}
