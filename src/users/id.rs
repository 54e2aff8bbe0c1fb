//! A user's id.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

/// A user's id: a ULID, displayed in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserId(Ulid);

impl UserId {
    /// A new id that nobody can guess: 80 of its bits are random.
    pub fn random() -> Self {
        Self(Ulid::generate())
    }
}

/// The text is not a ULID, so it cannot be a user's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID")]
pub struct NotAUlid;

impl FromStr for UserId {
    type Err = NotAUlid;

    /// Reads a ULID in upper or lower case.
    ///
    /// The `ulid` crate lets a first character above `7` overflow into another id: 26 characters of
    /// 5 bits are 130 bits, and a ULID has 128
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

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01KB584F3Y9AF31621Q7N62Q67";

    /// 26 digits of base 32, most significant first; 130 bits, of which the first two must be zero.
    fn number(text: &str) -> Option<u128> {
        let digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let number = text.chars().try_fold(0u128, |number, char| {
            let digit = digits.find(char.to_ascii_uppercase())?;
            number.checked_mul(32).map(|number| number + digit as u128)
        });
        number.filter(|_| text.len() == 26)
    }

    #[test]
    fn fuzz_an_id_is_a_number_of_128_bits_in_base_32() {
        let examples = [ID, "7zzzzzzzzzzzzzzzzzzzzzzzzz", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "x"];
        fuzzing::check!(text, examples, |text| {
            let id = text.parse::<UserId>().ok();
            assert_eq!(id.map(|id| u128::from(id.0)), number(text));
            if let Some(id) = id {
                assert_eq!(id.to_string(), text.to_ascii_uppercase());
                assert_eq!(id.to_string().parse(), Ok(id));
            }
        });
    }

    #[test]
    fn an_id_is_a_ulid_in_either_case() {
        let id: UserId = ID.parse().unwrap();
        assert_eq!(ID.to_lowercase().parse(), Ok(id));
        assert_eq!(id.to_string(), ID);
    }

    #[test]
    fn a_text_that_overflows_or_is_not_a_ulid_is_refused() {
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
}
