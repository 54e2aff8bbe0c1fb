//! Real servers for tests: each on a free port, in a temporary folder of its own, and stopped when
//! it is dropped.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on fails

mod azurite;
mod process;
mod redis_cluster;
mod redis_sentinels;
mod redis_server;

use std::time::{Duration, Instant};

pub use azurite::{Azurite, connection_string};
pub use process::{Process, free_port};
pub use redis_cluster::RedisCluster;
pub use redis_sentinels::RedisSentinels;
pub use redis_server::Redis;

/// Waits until a condition holds, and fails the test if it does not within `bound`.
pub async fn eventually<F>(bound: Duration, what: &str, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
