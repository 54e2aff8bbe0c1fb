//! Users: what they are, and their HTTP face.
//!
//! A `UserId`, a `Name` and a `User` are parsed once, at the edge; no function further in sees an
//! unchecked string.

mod health;
mod reply;
mod request;
mod routes;

use std::fmt;
use std::str::FromStr;

use fake::Fake;
use fake::faker::name::en::Name as FakeName;
use serde::{Deserialize, Deserializer, Serialize, de};
use ulid::Ulid;

use crate::cache_aside::Key;

pub use self::routes::{Api, FUNCTIONS, routes};

/// The partition that all users are in, and the prefix of their keys in the cache.
const PARTITION: &str = "user";

/// The most characters that a name may have.
pub const LONGEST_NAME: usize = 256;

/// A user's id: a ULID, written in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserId(Ulid);

impl UserId {
    /// A new id, which nobody can guess: ULIDs here are random in all of their 80 bits.
    pub fn random() -> Self {
        Self(Ulid::generate())
    }

    /// Where the user is in the cache and in the table.
    pub fn key(self) -> Key {
        Key { kind: PARTITION, id: self.0 }
    }
}

/// Text that is not a ULID, and so the id of no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID")]
pub struct NotAUlid;

impl FromStr for UserId {
    type Err = NotAUlid;

    /// Reads a ULID in either case. The `ulid` crate would let a first character above `7` overflow
    /// into another id: 26 characters of 5 bits are 130, a ULID has 128
    /// (<https://github.com/ulid/spec#overflow-errors-when-parsing-base32-strings>).
    fn from_str(text: &str) -> Result<Self, NotAUlid> {
        match text.as_bytes() {
            [b'0'..=b'7', ..] => Ulid::from_string(text).map(Self).map_err(|_| NotAUlid),
            _ => Err(NotAUlid),
        }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// Read back as it is: a row that another program wrote is served, whatever its name.
#[serde(transparent)]
pub struct Name(String);

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty, but for white space, or too long.
    #[error("name must be 1 to {LONGEST_NAME} characters")]
    Length,
    /// With a character that controls terminals or lines.
    #[error("name must not have control characters")]
    Control,
}

impl Name {
    /// A random full name.
    pub fn random() -> Self {
        Self(FakeName().fake())
    }

    /// The name without white space around it.
    ///
    /// # Errors
    /// It has none, or more than [`LONGEST_NAME`], characters, or a control character.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let name = text.trim();
        if !(1..=LONGEST_NAME).contains(&name.chars().count()) {
            return Err(BadName::Length);
        }
        if name.chars().any(char::is_control) {
            return Err(BadName::Control);
        }
        Ok(Self(name.to_owned()))
    }
}

/// A user, as it is stored, cached and answered: these three fields, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    #[serde(rename = "PartitionKey")]
    partition: Partition,
    #[serde(rename = "RowKey", serialize_with = "as_text", deserialize_with = "from_text")]
    id: UserId,
    #[serde(rename = "Name")]
    name: Name,
}

/// The one partition, so that a row of another is not taken for a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Partition {
    #[serde(rename = "user")]
    User,
}

impl User {
    /// A user of this id and name.
    pub fn new(id: UserId, name: Name) -> Self {
        Self { partition: Partition::User, id, name }
    }

    /// The user's id.
    pub fn id(&self) -> UserId {
        self.id
    }
}

fn as_text<S: serde::Serializer>(id: &UserId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UserId, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01KB584F3Y9AF31621Q7N62Q67";

    #[test]
    fn an_id_is_a_ulid_in_either_case() {
        let id: UserId = ID.parse().unwrap();
        assert_eq!(ID.to_lowercase().parse(), Ok(id));
        assert_eq!(id.to_string(), ID);
        assert_eq!(id.key().to_string(), format!("user:{ID}"));
    }

    #[test]
    fn an_id_that_overflows_or_is_no_ulid_is_refused() {
        let overflowing = format!("8{}", &ID[1..]);
        let letters = ["I", "L", "O", "U", "Ä"].map(|letter| format!("{}{letter}", &ID[..25]));
        for text in
            ["", "1", "Z1KB584F3Y9AF31621Q7N62Q67", &overflowing, &format!("{ID}0"), "' or 1"]
        {
            assert_eq!(UserId::from_str(text), Err(NotAUlid), "{text}");
        }
        for text in letters {
            assert_eq!(UserId::from_str(&text), Err(NotAUlid), "{text}");
        }
    }

    #[test]
    fn a_name_is_trimmed_and_bounded() {
        assert_eq!(Name::parse("  Ann \n").unwrap(), Name("Ann".to_owned()));
        assert_eq!(Name::parse(&"é".repeat(256)).map(|name| name.0.len()), Ok(512));
        assert_eq!(Name::parse(&"é".repeat(257)), Err(BadName::Length));
        assert_eq!(Name::parse(" \t "), Err(BadName::Length));
        for control in ["a\u{0}b", "a\nb", "a\u{7f}b", "a\u{85}b"] {
            assert_eq!(Name::parse(control), Err(BadName::Control));
        }
    }

    #[test]
    fn a_random_name_is_a_valid_one() {
        for _ in 0..200 {
            let Name(name) = Name::random();
            assert_eq!(Name::parse(&name), Ok(Name(name)));
        }
    }

    #[test]
    fn a_user_is_three_fields_in_order() {
        let user = User::new(ID.parse().unwrap(), Name::parse("Angelica Hill").unwrap());
        let json = serde_json::to_string(&user).unwrap();
        assert_eq!(
            json,
            format!(r#"{{"PartitionKey":"user","RowKey":"{ID}","Name":"Angelica Hill"}}"#)
        );
        assert_eq!(serde_json::from_str::<User>(&json).unwrap(), user);
    }
}
