//! Users in Redis.

use std::time::{SystemTime, UNIX_EPOCH};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands as _, RedisResult, SetExpiry, SetOptions};
use serde::{Deserialize, Serialize};

use crate::user::User;

/// What is cached under a user's id.
#[derive(Serialize, Deserialize)]
pub(crate) struct Entry {
    /// In milliseconds since the Unix epoch.
    expires: i64,
    pub(crate) etag: String,
    pub(crate) user: User,
}

impl Entry {
    /// An entry that expires after `ttl` seconds.
    pub(crate) fn new(user: User, etag: String, ttl: u32) -> Self {
        Self { expires: unix_millis() + i64::from(ttl) * 1000, etag, user }
    }

    /// The time left until it expires, in whole seconds, rounded down.
    pub(crate) fn seconds_left(&self) -> i64 {
        (self.expires - unix_millis()).div_euclid(1000)
    }
}

fn unix_millis() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    elapsed.as_millis() as i64
}

/// One connection for all requests, which pipelines them.
pub(crate) struct Cache {
    connection: ConnectionManager,
    ttl: u32,
}

impl Cache {
    /// Connects when it is first used. `ttl` is in seconds.
    pub(crate) fn open(url: &str, ttl: u32) -> RedisResult<Self> {
        let client = redis::Client::open(url)?;
        let connection = client.get_connection_manager_lazy(ConnectionManagerConfig::new())?;
        Ok(Self { connection, ttl })
    }

    pub(crate) fn ttl(&self) -> u32 {
        self.ttl
    }

    /// An entry that cannot be read counts as none.
    pub(crate) async fn get(&self, id: &str) -> RedisResult<Option<Entry>> {
        let bytes: Option<Vec<u8>> = self.connection.clone().get(key(id)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(crate) async fn set(&self, id: &str, entry: &Entry) -> RedisResult<()> {
        // JSON can always express an entry: it has text and numbers.
        let bytes = serde_json::to_vec(entry).unwrap_or_default();
        let expiry = SetOptions::default().with_expiration(SetExpiry::EX(self.ttl.into()));
        self.connection.clone().set_options(key(id), bytes, expiry).await
    }

    pub(crate) async fn delete(&self, id: &str) -> RedisResult<()> {
        self.connection.clone().del(key(id)).await
    }
}

fn key(id: &str) -> String {
    format!("user:{id}")
}
