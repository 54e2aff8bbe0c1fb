//! The body of a request.

use custom_handler::http::HeaderMap;
use custom_handler::http::header::CONTENT_TYPE;
use serde::{Deserialize, Deserializer};

use crate::users::Name;

use super::error::ApiError;

/// The largest body that is accepted, in bytes.
pub(super) const MAX_BODY_LENGTH: usize = 16 * 1024;

/// The body of a create, a put and a rename.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    // A null is not a missing name but an invalid one.
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// The name in a body, if there is one.
///
/// # Errors
/// The body is not JSON according to its `Content-Type`, is not a JSON object, has another field, or
/// its name is not valid.
pub(super) fn parse_name(headers: &HeaderMap, body: &[u8]) -> Result<Option<Name>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    if !is_json(headers) {
        return Err(ApiError::UnsupportedMediaType);
    }
    // serde would accept an array of the fields in order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(bad_request(
            "the body must be a JSON object, such as {\"name\":\"Ada Lovelace\"}",
        ));
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        // `name` is the only field, so a wrong type is the name's.
        let what = if error.is_data() && error.to_string().starts_with("invalid type") {
            "name must be a string"
        } else {
            "the body must be a JSON object whose only field is name"
        };
        bad_request(format!("{what}: {error}"))
    })?;
    body.name.map(|name| Name::parse(&name).map_err(bad_request)).transpose()
}

fn bad_request(detail: impl ToString) -> ApiError {
    ApiError::BadRequest(detail.to_string())
}

/// Whether the body is JSON: its `Content-Type` says so, or there is none.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    ["application/json", "application/merge-patch+json"]
        .iter()
        .any(|json| essence.trim().eq_ignore_ascii_case(json))
}
