//! The address of Redis: one server, or the seeds of a cluster.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// One or several addresses of Redis, including credentials. `Display` shows the hosts and ports only,
/// and `Debug` nothing.
#[derive(Clone)]
pub struct RedisUrl {
    seeds: Vec<ConnectionInfo>,
}

impl RedisUrl {
    /// The accepted forms, for messages to the user.
    pub const FORMS: &str = "redis://[user:password@]host[:port][/database], or rediss:// for TLS; \
        several, separated by commas, are the seeds of a cluster";

    /// How many addresses it has. Several are the seeds of a cluster.
    #[allow(clippy::len_without_is_empty)] // there is always one
    pub fn len(&self) -> usize {
        self.seeds.len()
    }

    /// Whether all connections use TLS.
    pub fn is_encrypted(&self) -> bool {
        self.seeds.iter().all(|seed| matches!(seed.addr(), ConnectionAddr::TcpTls { .. }))
    }

    /// Whether all addresses are on this machine.
    pub fn is_loopback(&self) -> bool {
        self.hosts().all(|host| {
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        })
    }

    fn hosts(&self) -> impl Iterator<Item = &str> {
        self.seeds.iter().map(|seed| match seed.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.as_str(),
            _ => "",
        })
    }

    pub(super) fn seeds(&self) -> &[ConnectionInfo] {
        &self.seeds
    }
}

/// The text is not a Redis address. It is not repeated in the message because it may hold a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Redis address: expected {}", RedisUrl::FORMS)]
pub struct InvalidRedisUrl;

impl FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRedisUrl> {
        text.split(',')
            .map(str::trim)
            .map(|url| match url.split_once("://") {
                Some(("redis" | "rediss", _)) => url.into_connection_info().ok(),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(|seeds| Self { seeds })
            .ok_or(InvalidRedisUrl)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, seed) in self.seeds.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{}", seed.addr())?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_a_server_and_several_are_seeds_of_a_cluster() {
        let url: RedisUrl = " redis://a:1/2 , rediss://user:secret@b ".parse().unwrap();
        assert_eq!((url.len(), url.is_encrypted()), (2, false));
        let url: RedisUrl = "rediss://a".parse().unwrap();
        assert_eq!((url.len(), url.is_encrypted()), (1, true));
    }

    #[test]
    fn loopback_addresses_are_recognised() {
        let is_loopback = |text: &str| text.parse::<RedisUrl>().unwrap().is_loopback();
        for text in
            ["redis://localhost", "redis://127.0.0.1:1", "rediss://[::1]", "redis://127.9.9.9"]
        {
            assert!(is_loopback(text), "{text}");
        }
        for text in ["redis://redis", "redis://10.0.0.1", "redis://localhost,redis://b"] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: RedisUrl = "redis://user:hunter2@host:7,redis://b".parse().unwrap();
        assert_eq!(url.to_string(), "host:7, b:6379");
        assert!(!format!("{url:?}").contains("hunter2"));
        for text in ["", "hunter2", "http://user:hunter2@host", "redis://a,hunter2"] {
            assert!(!text.parse::<RedisUrl>().unwrap_err().to_string().contains("hunter2"));
        }
    }
}
