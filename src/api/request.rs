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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// A `Content-Type` in the first line, and the body.
    const EXAMPLES: &[&str] = &[
        "application/json\n{\"name\":\"Ada Lovelace\"}",
        "Application/Merge-Patch+JSON ; charset=utf-8\n {}",
        "\n{\"name\":\"a\\u202eb\"}",
        "application/json\n[\"Ann\"]",
        "application/json\n{\"name\":\"Ann\",\"name\":\"Bea\"}",
        "application/json\n{\"name\":null,\"age\":7}",
        "text/plain\n",
        "application/jsonx\n{}",
    ];

    /// A name is what a JSON object with this one field has in it; all else is refused with a rule.
    #[test]
    fn fuzz_a_body_has_the_name_that_its_json_has() {
        fuzzing::check!(EXAMPLES, |bytes| {
            let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
            let (content_type, body) = (&bytes[..line], bytes.get(line + 1..).unwrap_or_default());
            let mut headers = HeaderMap::new();
            let Ok(value) = content_type.try_into() else { return };
            if !content_type.is_empty() {
                headers.insert(CONTENT_TYPE, value);
            }
            let essence = content_type.split(|byte| *byte == b';').next().unwrap().trim_ascii();
            let is_json = content_type.is_empty()
                || essence.eq_ignore_ascii_case(b"application/json")
                || essence.eq_ignore_ascii_case(b"application/merge-patch+json");
            let is_text = content_type.iter().all(|byte| byte.is_ascii());

            let json = serde_json::from_slice::<Value>(body);
            let fields = json.as_ref().ok().and_then(Value::as_object);
            match parse_name(&headers, body) {
                Ok(None) if body.is_empty() => {}
                Ok(_) if !is_json => panic!("it is not JSON"),
                Ok(None) => assert_eq!(fields.map(|fields| fields.len()), Some(0)),
                Ok(Some(name)) => {
                    let fields = fields.unwrap();
                    assert_eq!(fields.len(), 1);
                    let given = fields["name"].as_str().unwrap();
                    assert_eq!(serde_json::to_value(&name).unwrap(), given.trim());
                    let again = serde_json::json!({ "name": name }).to_string();
                    assert_eq!(parse_name(&headers, again.as_bytes()).unwrap(), Some(name));
                }
                Err(ApiError::UnsupportedMediaType) => assert!(!is_json || !is_text),
                Err(ApiError::BadRequest(detail)) => {
                    assert!(is_json);
                    let rules = ["the body must be a JSON object", "name must "];
                    assert!(rules.iter().any(|rule| detail.starts_with(rule)), "{detail}");
                    assert!(detail.len() < body.len() + 300);
                    // One field, once, with a valid name: it must not have been refused.
                    let is_once = body.iter().filter(|byte| **byte == b':').count() == 1;
                    let name =
                        fields.filter(|it| it.len() == 1 && is_once).and_then(|it| it.get("name"));
                    let name = name.and_then(Value::as_str).map(Name::parse);
                    assert!(name.is_none_or(|name| name.is_err()), "{detail}");
                }
                Err(other) => panic!("{other:?}"),
            }
        });
    }
}
