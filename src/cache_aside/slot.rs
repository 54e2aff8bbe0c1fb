//! What a cache key can hold, and the bytes that say it.
//!
//! One key holds one slot: nothing, an entry, a lease or a fence. Every adapter of the port `Cache`
//! stores the bytes written here, so that one process reads what another wrote, and so that a person
//! can read them in `redis-cli`:
//!
//! ```text
//! entry   {"loaded":1764018071123,"expires":1764018081123,"found":{"etag":"W/\"…\"","value":{…}}}
//! lease   lease 01KB584F3Y9AF31621Q7N62Q67
//! fence   fence 01KB584F3Y9AF31621Q7N62Q67=1764018081123 01KB…=1764018079456
//! ```
//!
//! Times are milliseconds since the Unix epoch. Anything else is foreign.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::ports::Stored;

/// Marks one use of a lease or of a fence. Unique, and sent once: a step whose answer was lost may
/// still execute later, and must not be taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(Ulid);

impl Token {
    /// A token that nobody has used.
    #[allow(clippy::new_without_default)] // a default should be a value, not a new one each time
    pub fn new() -> Self {
        Self(Ulid::generate())
    }

    fn parse(text: &str) -> Option<Self> {
        Ulid::from_string(text).ok().map(Self)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A cached answer of the store: a value, or that there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "V: Deserialize<'de>"))]
pub struct Entry<V> {
    /// When its load was sent to the store, in milliseconds since the Unix epoch.
    pub loaded: u64,
    /// When it expires, in milliseconds since the Unix epoch, by the clock of the process that
    /// filled it. The cache enforces the expiry with its own clock; this one is for telling.
    pub expires: u64,
    /// What the store had; `None` is a remembered "not found".
    #[serde(deserialize_with = "Option::deserialize")]
    // spelled out: a missing field is foreign
    pub found: Option<Stored<V>>,
}

impl<V> Entry<V> {
    /// How long this entry has left, in whole seconds; negative once it is past its expiry.
    pub fn seconds_left(&self) -> i64 {
        // Both are far below i64::MAX milliseconds unless foreign, and then any number will do.
        (self.expires as i64).wrapping_sub(unix_millis() as i64).div_euclid(1000)
    }

    /// How long ago its load was sent; zero if that lies in the future of this process's clock.
    pub fn age(&self) -> Duration {
        Duration::from_millis(unix_millis().saturating_sub(self.loaded))
    }
}

/// Now, in milliseconds since the Unix epoch.
pub fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The writers that are changing a user, each with its own deadline by the cache's clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fence(Vec<(Token, u64)>);

impl Fence {
    /// The fence without the writers that are past their deadline at `now`.
    pub fn standing(mut self, now: u64) -> Self {
        self.0.retain(|(_, deadline)| *deadline > now);
        self
    }

    /// The fence with this writer in it until `deadline`.
    pub fn with(mut self, token: Token, deadline: u64) -> Self {
        self = self.without(token);
        self.0.push((token, deadline));
        self
    }

    /// The fence without this writer.
    pub fn without(mut self, token: Token) -> Self {
        self.0.retain(|(held, _)| *held != token);
        self
    }

    /// The latest deadline in it; `None` when no writer is left.
    pub fn latest_deadline(&self) -> Option<u64> {
        self.0.iter().map(|(_, deadline)| *deadline).max()
    }
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Slot<V> {
    /// Not cached.
    Nothing,
    /// A cached answer.
    Entry(Entry<V>),
    /// One reader, anywhere, is loading it.
    Lease(Token),
    /// One or more writers, anywhere, are changing it.
    Fence(Fence),
    /// Bytes that are none of ours, or a key of another type. Counts as nothing, once removed.
    Foreign,
}

/// The bytes of a lease.
pub fn lease_bytes(token: Token) -> Vec<u8> {
    format!("lease {token}").into_bytes()
}

/// The bytes of a fence.
pub fn fence_bytes(fence: &Fence) -> Vec<u8> {
    let mut text = String::from("fence");
    for (token, deadline) in &fence.0 {
        text.push_str(&format!(" {token}={deadline}"));
    }
    text.into_bytes()
}

impl<V: Serialize> Entry<V> {
    /// The bytes of an entry; `None` for a value that JSON cannot express (a map with keys that are
    /// not strings, say), which then is not cached.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }
}

impl<V: DeserializeOwned> Slot<V> {
    /// Reads what a key holds.
    pub fn parse(bytes: &[u8]) -> Self {
        if bytes.first() == Some(&b'{') {
            return serde_json::from_slice(bytes).map_or(Slot::Foreign, Slot::Entry);
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Slot::Foreign;
        };
        let mut words = text.split(' ');
        match words.next() {
            Some("lease") => match (words.next().and_then(Token::parse), words.next()) {
                (Some(token), None) => Slot::Lease(token),
                _ => Slot::Foreign,
            },
            Some("fence") => words
                .map(|writer| {
                    let (token, deadline) = writer.split_once('=')?;
                    Some((Token::parse(token)?, deadline.parse().ok()?))
                })
                .collect::<Option<Vec<_>>>()
                .filter(|writers| !writers.is_empty())
                .map_or(Slot::Foreign, |writers| Slot::Fence(Fence(writers))),
            _ => Slot::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_aside::ETag;

    fn entry(found: Option<Stored<String>>) -> Entry<String> {
        Entry { loaded: 1, expires: 2, found }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let token = Token::new();
        assert_eq!(Slot::<String>::parse(&lease_bytes(token)), Slot::Lease(token));

        let fence = Fence::default().with(token, 7).with(Token::new(), 9);
        assert_eq!(Slot::<String>::parse(&fence_bytes(&fence)), Slot::Fence(fence));

        let stored = Stored { etag: ETag::new("W/\"1\""), value: "Ann".to_owned() };
        for entry in [entry(Some(stored)), entry(None)] {
            let bytes = entry.to_bytes().unwrap();
            assert_eq!(Slot::parse(&bytes), Slot::Entry(entry));
        }
    }

    #[test]
    fn an_entry_reads_well_in_redis_cli() {
        let stored = Stored { etag: ETag::new("W/\"1\""), value: "Ann".to_owned() };
        assert_eq!(
            String::from_utf8(entry(Some(stored)).to_bytes().unwrap()).unwrap(),
            r#"{"loaded":1,"expires":2,"found":{"etag":"W/\"1\"","value":"Ann"}}"#
        );
    }

    #[test]
    fn bytes_that_are_none_of_ours_are_foreign() {
        for bytes in [
            &b""[..],
            b"{",
            b"{}",
            br#"{"loaded":1,"expires":2}"#,
            b"lease",
            b"lease x",
            b"fence",
            b"fence ",
            b"fence x=1",
            b"fence 01KB584F3Y9AF31621Q7N62Q67",
            b"fence 01KB584F3Y9AF31621Q7N62Q67=x",
            b"lease 01KB584F3Y9AF31621Q7N62Q67 more",
            b"\xff\xfe",
            b"hello",
        ] {
            assert_eq!(Slot::<String>::parse(bytes), Slot::Foreign, "{bytes:?}");
        }
    }

    #[test]
    fn each_writer_leaves_a_fence_at_its_own_deadline() {
        let (early, late) = (Token::new(), Token::new());
        let fence = Fence::default().with(late, 20).with(early, 10);
        assert_eq!(fence.latest_deadline(), Some(20));
        assert_eq!(fence.clone().standing(10), Fence::default().with(late, 20));
        assert_eq!(fence.clone().without(late).latest_deadline(), Some(10));
        assert_eq!(fence.standing(20).latest_deadline(), None);
    }

    #[test]
    fn seconds_left_rounds_down_and_goes_below_zero() {
        let now = unix_millis();
        let left = |expires| Entry::<String> { loaded: 0, expires, found: None }.seconds_left();
        assert_eq!(left(now + 7_500), 7);
        assert_eq!(left(now - 29_500), -30);
    }
}
