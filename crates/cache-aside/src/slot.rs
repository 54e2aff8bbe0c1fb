//! What a cache holds under one key: nothing, an entry, a lease or a fence.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ulid::Ulid;

use crate::clock::unix_millis;

/// Identifies one use of a lease or of a fence.
///
/// A token is unique. A lease is requested only once with each token: a request whose reply was
/// lost may execute later, and must not be mistaken for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(Ulid);

impl Token {
    /// A token that has not been used before.
    #[allow(clippy::new_without_default)] // a default would be the same value each time
    pub fn new() -> Self {
        Self(Ulid::generate())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token: a token is a ULID in upper case")]
pub struct InvalidToken;

impl FromStr for Token {
    type Err = InvalidToken;

    /// Reads what `Display` writes, and nothing else. The `ulid` crate would also read lower case, and
    /// more than 128 bits as another ULID; a cache that compares texts would not.
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let is_small = matches!(text.as_bytes(), [b'0'..=b'7', ..]);
        if !is_small || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(InvalidToken);
        }
        Ulid::from_string(text).map(Self).map_err(|_| InvalidToken)
    }
}

/// A cached answer of the store: a value, or that there is none.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "redis", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "redis", serde(bound(deserialize = "V: serde::Deserialize<'de>")))]
pub struct Entry<V> {
    /// When the load that produced it was sent, in milliseconds since the Unix epoch.
    pub loaded: u64,
    /// When it expires, in milliseconds since the Unix epoch, by the clock of the process that
    /// stored it. For reporting only: the cache enforces the expiry with its own clock.
    pub expires: u64,
    /// What the store had; `None` means that the store had no such value.
    // Spelled out because serde would otherwise accept an entry without this field.
    #[cfg_attr(feature = "redis", serde(deserialize_with = "serde::Deserialize::deserialize"))]
    pub found: Option<V>,
}

impl<V> Entry<V> {
    /// The time left until it expires, in whole seconds, rounded down; negative after that.
    pub fn seconds_left(&self) -> i64 {
        // Both are far below i64::MAX milliseconds, unless another program wrote them.
        (self.expires as i64).wrapping_sub(unix_millis() as i64).div_euclid(1000)
    }

    /// The time left until it expires; zero after that.
    pub(crate) fn time_left(&self) -> Duration {
        Duration::from_millis(self.expires.saturating_sub(unix_millis()))
    }
}

/// The writers that are changing a value, each with a deadline of its own in milliseconds by the
/// cache's clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fence(Vec<(Token, u64)>);

impl Fence {
    /// The writers and their deadlines.
    pub fn writers(&self) -> impl Iterator<Item = (Token, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The fence without the writers whose deadline has passed at `now`.
    #[must_use]
    pub fn without_expired(mut self, now: u64) -> Self {
        self.0.retain(|(_, deadline)| *deadline > now);
        self
    }

    /// The fence with this writer in it until `deadline`.
    #[must_use]
    pub fn with(mut self, token: Token, deadline: u64) -> Self {
        self = self.without(token);
        self.0.push((token, deadline));
        self
    }

    /// The fence without this writer.
    #[must_use]
    pub fn without(mut self, token: Token) -> Self {
        self.0.retain(|(writer, _)| *writer != token);
        self
    }

    /// The latest of its deadlines; `None` if it has no writer.
    pub fn latest_deadline(&self) -> Option<u64> {
        self.0.iter().map(|(_, deadline)| *deadline).max()
    }
}

/// The fence of these writers.
#[cfg(feature = "redis")]
impl FromIterator<(Token, u64)> for Fence {
    fn from_iter<T: IntoIterator<Item = (Token, u64)>>(writers: T) -> Self {
        Self(writers.into_iter().collect())
    }
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Slot<V> {
    /// Nothing is cached.
    Nothing,
    /// A cached answer.
    Entry(Entry<V>),
    /// One reader, in any process, is loading the value.
    Lease(Token),
    /// One or more writers, in any process, are changing the value.
    Fence(Fence),
    /// Something that this library did not write. It is removed and treated as nothing.
    Foreign,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_writer_leaves_a_fence_at_its_own_deadline() {
        let (early, late) = (Token::new(), Token::new());
        let fence = Fence::default().with(late, 20).with(early, 10);
        assert_eq!(fence.latest_deadline(), Some(20));
        assert_eq!(fence.clone().without_expired(10), Fence::default().with(late, 20));
        assert_eq!(fence.clone().without(late).latest_deadline(), Some(10));
        assert_eq!(fence.without_expired(20).latest_deadline(), None);
    }

    #[test]
    fn seconds_left_rounds_down_and_becomes_negative() {
        let now = unix_millis();
        let left = |expires| Entry::<()> { loaded: 0, expires, found: None }.seconds_left();
        assert_eq!(left(now + 7_500), 7);
        assert_eq!(left(now - 29_500), -30);
    }

    #[test]
    fn a_token_is_read_back_from_its_text() {
        let token = Token::new();
        assert_eq!(token.to_string().parse(), Ok(token));
        for text in ["x", &token.to_string().to_lowercase(), "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"] {
            assert_eq!(text.parse::<Token>(), Err(InvalidToken), "{text}");
        }
    }
}
