//! A user, and what a request may say about one.

use fake::Fake;
use fake::faker::name::en::Name;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::ApiError;

/// The partition that all users are in.
pub(crate) const PARTITION: &str = "user";

/// The largest number of characters in a name.
const MAX_NAME_LENGTH: usize = 256;

/// A user: a row of the table and, in the same form, the JSON that clients get.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct User {
    partition_key: String,
    row_key: String,
    name: String,
}

impl User {
    /// A user with a new id.
    pub(crate) fn new(name: String) -> Self {
        Self::with_id(Ulid::generate().to_string(), name)
    }

    pub(crate) fn with_id(id: String, name: String) -> Self {
        Self { partition_key: PARTITION.to_owned(), row_key: id, name }
    }

    pub(crate) fn id(&self) -> &str {
        &self.row_key
    }
}

/// The id in a path, in upper case, if it is a ULID. A first character above `7` overflows.
pub(crate) fn parse_id(text: &str) -> Option<String> {
    let id = Ulid::from_string(text).ok().filter(|_| text.as_bytes()[0] <= b'7');
    id.map(|id| id.to_string())
}

/// The name in a body, if there is one.
pub(crate) fn parse_name(body: &[u8]) -> Result<Option<String>, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        name: Option<String>,
    }
    if body.is_empty() {
        return Ok(None);
    }
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
        return Err(ApiError::BadRequest("the body must be a JSON object with a name"));
    };
    match body.name.as_deref().map(str::trim) {
        None => Ok(None),
        Some(name) if (1..=MAX_NAME_LENGTH).contains(&name.chars().count()) => {
            Ok(Some(name.to_owned()))
        }
        Some(_) => Err(ApiError::BadRequest("name must be 1 to 256 characters")),
    }
}

pub(crate) fn random_name() -> String {
    Name().fake()
}
