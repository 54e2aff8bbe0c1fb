//! A user's name.

use fake::Fake;
use fake::faker::name::en::Name as FakeName;
use serde::{Deserialize, Serialize};

/// The largest number of characters in a name.
pub const MAX_NAME_LENGTH: usize = 256;

/// A user's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// Not checked when it is read back: a row that another program wrote is served, whatever its name.
#[serde(transparent)]
pub struct Name(String);

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It is empty or consists of white space, or it is too long.
    #[error("name must be 1 to {MAX_NAME_LENGTH} characters")]
    Length,
    /// It contains a control character, such as a line break.
    #[error("name must not contain control characters")]
    Control,
}

impl Name {
    /// A random full name.
    pub fn random() -> Self {
        Self(FakeName().fake())
    }

    /// The name without leading and trailing white space.
    ///
    /// # Errors
    /// It has no characters or more than [`MAX_NAME_LENGTH`], or a control character.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let name = text.trim();
        if !(1..=MAX_NAME_LENGTH).contains(&name.chars().count()) {
            return Err(InvalidName::Length);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidName::Control);
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_and_has_a_maximum_length() {
        assert_eq!(Name::parse("  Ann \n").unwrap(), Name("Ann".to_owned()));
        assert_eq!(Name::parse(&"é".repeat(256)).map(|name| name.0.len()), Ok(512));
        assert_eq!(Name::parse(&"é".repeat(257)), Err(InvalidName::Length));
        assert_eq!(Name::parse(" \t "), Err(InvalidName::Length));
        for control in ["a\u{0}b", "a\nb", "a\u{7f}b", "a\u{85}b"] {
            assert_eq!(Name::parse(control), Err(InvalidName::Control));
        }
    }

    #[test]
    fn a_random_name_is_valid() {
        for _ in 0..200 {
            let Name(name) = Name::random();
            assert_eq!(Name::parse(&name), Ok(Name(name)));
        }
    }
}
