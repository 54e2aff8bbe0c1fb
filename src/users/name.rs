//! A user's name.

use fake::Fake;
use fake::faker::name::en::Name as FakeName;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
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
    /// It contains a character that reorders the text around it.
    #[error(
        "name must not contain characters that change the direction of text (U+202A to U+202E, U+2066 to U+2069)"
    )]
    Direction,
    /// Nothing of it can be seen.
    #[error("name must have at least one visible character")]
    Invisible,
}

impl Name {
    /// A random full name.
    pub fn random() -> Self {
        Self(FakeName().fake())
    }

    /// The name without leading and trailing white space.
    ///
    /// # Errors
    /// It has no characters or more than [`MAX_NAME_LENGTH`]; it has a control character, or one that
    /// changes the direction of text; or none of its characters is visible.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let name = text.trim();
        if !(1..=MAX_NAME_LENGTH).contains(&name.chars().count()) {
            return Err(InvalidName::Length);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidName::Control);
        }
        if name.chars().any(changes_direction) {
            return Err(InvalidName::Direction);
        }
        if !name.chars().any(is_visible) {
            return Err(InvalidName::Invisible);
        }
        Ok(Self(name.to_owned()))
    }
}

/// Whether a character opens or closes an embedding, an override or an isolate of the bidirectional
/// algorithm, which reorders text, also that around the name. The marks U+061C, U+200E and U+200F are not
/// among them: they act as a letter of their direction does, and some names need them
/// (<https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters>).
fn changes_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character can be seen: it is not white space, a control or a format character (general
/// category Cc or Cf), has not the property `Default_Ignorable_Code_Point` (joiners, variation
/// selectors, fillers), and is not U+2800, the braille pattern without dots, which Unicode classifies as
/// a symbol. Characters that this version of Unicode does not assign count as visible, so that a name
/// in a script that is added later is not refused.
fn is_visible(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    !c.is_whitespace()
        && !matches!(category, GeneralCategory::Control | GeneralCategory::Format)
        && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        && c != '\u{2800}'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/integration/bad_input.rs` states which names are valid, independently, and asks the API.
    #[test]
    fn fuzz_a_valid_name_is_valid_as_it_is_stored() {
        let long = "é".repeat(256);
        let examples =
            ["Ada Lovelace", "  Ann \n", &long, "a\u{202e}b", "\u{200b}", "❤\u{fe0f}", ""];
        fuzzing::check!(text, examples, |text| {
            let parsed = Name::parse(text);
            assert_eq!(Name::parse(text.trim()), parsed);
            match &parsed {
                Ok(name) => {
                    assert_eq!(name.0, text.trim());
                    assert!(name.0.len() <= 4 * MAX_NAME_LENGTH);
                    assert_eq!(
                        Name::parse(&format!("{}a", name.0)).is_ok(),
                        name.0.chars().count() < 256
                    );
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.starts_with("name must ") && message.len() < 120, "{message}");
                }
            }
        });
    }

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
    fn a_name_does_not_change_the_direction_of_text() {
        for c in ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            assert_eq!(Name::parse(&format!("a{c}b")), Err(InvalidName::Direction), "{c:?}");
        }
        for name in ["نور\u{200f}", "דנה\u{200e} 2", "a\u{61c}b", "a\u{2065}b", "a\u{202f}b"]
        {
            assert_eq!(Name::parse(name), Ok(Name(name.to_owned())), "{name:?}");
        }
    }

    #[test]
    fn a_name_has_a_visible_character() {
        // A zero-width space, joiners, a soft hyphen, fillers, a variation selector, a byte order mark,
        // an annotation, tags, the empty braille pattern, and white space between them.
        for invisible in [
            "\u{200b}",
            "\u{200c}\u{200d}\u{2060}",
            "\u{ad}",
            "\u{115f}\u{1160}\u{3164}\u{ffa0}",
            "\u{fe0f}\u{e0100}",
            "\u{feff}",
            "\u{fff9}\u{fffb}",
            "\u{e0020}\u{e007f}",
            "\u{2800}",
            "\u{200b} \u{200b}",
        ] {
            assert_eq!(Name::parse(invisible), Err(InvalidName::Invisible), "{invisible:?}");
            let visible = format!("{invisible}a");
            assert_eq!(Name::parse(&visible), Ok(Name(visible.clone())));
        }
        // A joiner inside a name, an emoji with a selector, a mark, a symbol, a private and an unassigned
        // character.
        for visible in
            ["علی\u{200c}رضا", "❤\u{fe0f}", "\u{301}", "\u{2801}", "+", "\u{e000}", "\u{40000}"]
        {
            assert_eq!(Name::parse(visible), Ok(Name(visible.to_owned())), "{visible:?}");
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
