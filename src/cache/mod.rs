//! Adapters of the port [`Cache`](crate::cache_aside::Cache).

mod memory;
mod redis;

pub use self::memory::MemoryCache;
pub use self::redis::{RedisAccess, RedisCache, RedisUrl};
