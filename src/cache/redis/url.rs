//! Where Redis is: one server, or the seeds of a cluster.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// One or several addresses of Redis, credentials included. `Debug` shows none of them.
#[derive(Clone)]
pub struct RedisUrl {
    seeds: Vec<ConnectionInfo>,
}

impl RedisUrl {
    /// What is allowed.
    pub const ALLOWED: &str = "redis://[user:password@]host[:port][/database], or rediss:// for TLS; \
        several, separated by commas, are the seeds of a cluster";

    /// The addresses; several are the seeds of a cluster.
    pub fn seeds(&self) -> &[ConnectionInfo] {
        &self.seeds
    }

    /// Whether all of them are reached over TLS only.
    pub fn is_encrypted(&self) -> bool {
        self.seeds.iter().all(|seed| matches!(seed.addr(), ConnectionAddr::TcpTls { .. }))
    }
}

impl FromStr for RedisUrl {
    /// What is allowed; never what was given, which may hold a password.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',')
            .map(str::trim)
            .map(|url| match url.split_once("://") {
                Some(("redis" | "rediss", _)) => url.into_connection_info().ok(),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(|seeds| Self { seeds })
            .ok_or(Self::ALLOWED)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
