//! A user as a JSON document.

use serde::{Deserialize, Serialize};

use super::{Name, User, UserId};

/// A user as a JSON object with three fields, in this order:
///
/// ```json
/// {"PartitionKey":"user","RowKey":"01KB584F3Y9AF31621Q7N62Q67","Name":"Angelica Hill"}
/// ```
///
/// The API returns users in this form, and they are cached in it. The field names are part of the
/// API's contract; the table's columns are defined in `store/table/row.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDocument {
    #[serde(rename = "PartitionKey")]
    kind: Kind,
    #[serde(rename = "RowKey")]
    id: UserId,
    #[serde(rename = "Name")]
    name: Name,
}

/// A document with another value in this field is not a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "user")]
    User,
}

impl From<User> for UserDocument {
    fn from(User { id, name }: User) -> Self {
        Self { kind: Kind::User, id, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_document_has_three_fields_in_order() {
        let id = "01KB584F3Y9AF31621Q7N62Q67";
        let name = Name::parse("Angelica Hill").unwrap();
        let document = UserDocument::from(User { id: id.parse().unwrap(), name });
        let json = serde_json::to_string(&document).unwrap();
        let expected =
            format!(r#"{{"PartitionKey":"user","RowKey":"{id}","Name":"Angelica Hill"}}"#);
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<UserDocument>(&json).unwrap(), document);
        let other = json.replace("\"user\"", "\"other\"");
        assert!(serde_json::from_str::<UserDocument>(&other).is_err());
    }
}
