//! A user as a JSON document.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::{RawValue, to_raw_value};

use super::{Name, User, UserId};

/// A user as a JSON object with three fields, in this order:
///
/// ```json
/// {"PartitionKey":"user","RowKey":"01KB584F3Y9AF31621Q7N62Q67","Name":"Angelica Hill"}
/// ```
///
/// The API returns users in this form, and they are cached in it. The field names are part of the
/// API's contract; the table's columns are defined in `store/table/row.rs`.
///
/// It is kept as the text, because a hit needs nothing else: what the cache has is checked, and returned
/// as it is.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct UserDocument(Box<RawValue>);

#[derive(Serialize, Deserialize)]
struct Fields {
    #[serde(rename = "PartitionKey")]
    kind: Kind,
    #[serde(rename = "RowKey")]
    id: UserId,
    #[serde(rename = "Name")]
    name: Name,
}

/// A document with another value in this field is not a user.
#[derive(Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "user")]
    User,
}

impl From<User> for UserDocument {
    fn from(User { id, name }: User) -> Self {
        Self::from(Fields { kind: Kind::User, id, name })
    }
}

impl From<Fields> for UserDocument {
    fn from(fields: Fields) -> Self {
        #[allow(clippy::expect_used)] // texts can always be written as JSON
        Self(to_raw_value(&fields).expect("the fields are texts"))
    }
}

impl<'de> Deserialize<'de> for UserDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        if is_as_written(json.get()) {
            return Ok(Self(json));
        }
        // Somebody else has written it, or the name has quotes or escapes in it.
        let fields: Fields = serde_json::from_str(json.get()).map_err(de::Error::custom)?;
        Ok(fields.into())
    }
}

/// Whether this JSON is a document as this module writes it, found out without parsing the name: a
/// name without quotes ends where the document does. An escape may be one that no text has, `\ud800`, which
/// a [`RawValue`] lets pass.
fn is_as_written(json: &str) -> bool {
    let parts = || {
        let rest = json.strip_prefix(r#"{"PartitionKey":"user","RowKey":""#)?;
        let (id, rest) = rest.split_once('"')?;
        Some((id, rest.strip_prefix(r#","Name":""#)?.strip_suffix("\"}")?))
    };
    parts().is_some_and(|(id, name)| {
        !name.contains(['"', '\\'])
            && !id.contains(|letter: char| letter.is_ascii_lowercase())
            && id.parse::<UserId>().is_ok()
    })
}

impl PartialEq for UserDocument {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01KB584F3Y9AF31621Q7N62Q67";

    fn document(name: &str) -> UserDocument {
        let (id, name) = (ID.parse().unwrap(), Name::parse(name).unwrap());
        UserDocument::from(User { id, name })
    }

    fn parse(json: &str) -> serde_json::Result<UserDocument> {
        serde_json::from_str(json)
    }

    const EXAMPLES: &[&str] = &[
        r#"{"PartitionKey":"user","RowKey":"01KB584F3Y9AF31621Q7N62Q67","Name":"Ann \"Annie\" O'Hara"}"#,
        r#"{"PartitionKey":"user","RowKey":"01KB584F3Y9AF31621Q7N62Q67","Name":"Åsa \\ \u00d6berg"}"#,
        r#" {"Name":"Ann", "RowKey":"01kb584f3y9af31621q7n62q67","PartitionKey":"user","Age":7.0}"#,
        r#"{"PartitionKey":"user","RowKey":"01KB584F3Y9AF31621Q7N62Q67","Name":"\ud800"}"#,
        r#"{"PartitionKey":"other","RowKey":"01KB584F3Y9AF31621Q7N62Q67","Name":"Ann"}"#,
    ];

    /// Whether its text is looked at or parsed, a document is a user: in the order of the fields, and
    /// with nothing else in it.
    #[test]
    fn fuzz_a_document_is_what_parses_as_a_user() {
        fuzzing::check!(EXAMPLES, |bytes| {
            let document = serde_json::from_slice::<UserDocument>(bytes);
            let fields = serde_json::from_slice::<Fields>(bytes);
            // serde_json does not look into a text that nobody reads.
            let is_user = fields.is_ok() && std::str::from_utf8(bytes).is_ok();
            assert_eq!(document.is_ok(), is_user, "{:?}", fields.err());
            let (Ok(document), Ok(Fields { id, name, .. })) = (document, fields) else { return };
            let text = serde_json::to_string(&document).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let name = serde_json::to_value(&name).unwrap();
            let id = id.to_string();
            let expected = serde_json::json!({"PartitionKey": "user", "RowKey": id, "Name": name});
            assert_eq!(json, expected);
            assert!(
                text.starts_with(&format!(r#"{{"PartitionKey":"user","RowKey":"{id}","Name":""#))
            );
            assert_eq!(parse(&text).unwrap(), document);
        });
    }

    #[test]
    fn a_user_document_has_three_fields_in_order() {
        let json = serde_json::to_string(&document("Angelica Hill")).unwrap();
        let expected =
            format!(r#"{{"PartitionKey":"user","RowKey":"{ID}","Name":"Angelica Hill"}}"#);
        assert_eq!(json, expected);
    }

    #[test]
    fn a_document_is_read_back_as_it_was_written() {
        for name in ["Angelica Hill", "Ann \"Annie\" O'Hara", "Åsa \\ Öberg", "}", "\"}", "\\"] {
            let json = serde_json::to_string(&document(name)).unwrap();
            assert_eq!(is_as_written(&json), !name.contains(['"', '\\']), "{json}");
            assert_eq!(parse(&json).unwrap(), document(name));
        }
    }

    #[test]
    fn a_document_in_another_form_is_written_again() {
        for json in [
            format!(r#"{{"Name":"Ann","RowKey":"{ID}","PartitionKey":"user"}}"#),
            format!(r#"{{ "PartitionKey":"user", "RowKey":"{ID}", "Name":"Ann" }}"#),
            format!(r#"{{"PartitionKey":"user","RowKey":"{ID}","Name":"Ann","Age":"7"}}"#),
            format!(r#"{{"PartitionKey":"user","RowKey":"{}","Name":"Ann"}}"#, ID.to_lowercase()),
        ] {
            assert_eq!(parse(&json).unwrap(), document("Ann"), "{json}");
        }
    }

    #[test]
    fn what_is_not_a_user_is_refused() {
        for json in [
            format!(r#"{{"PartitionKey":"other","RowKey":"{ID}","Name":"Ann"}}"#),
            format!(r#"{{"PartitionKey":"user","RowKey":"{ID}","Name":7}}"#),
            format!(r#"{{"PartitionKey":"user","RowKey":"{ID}"}}"#),
            format!(r#"{{"PartitionKey":"user","RowKey":"{ID}","Name":"Ann","Name":"Bob"}}"#),
            format!(r#"{{"PartitionKey":"user","RowKey":"{ID}","Name":"\ud800"}}"#),
            r#"{"PartitionKey":"user","RowKey":"8","Name":"Ann"}"#.to_owned(),
        ] {
            assert!(parse(&json).is_err(), "{json}");
        }
    }
}
