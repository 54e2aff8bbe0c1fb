//! What is read from a request: its body, and the entity tags that it names.

use serde::{Deserialize, Deserializer};
use warp::http::HeaderMap;
use warp::http::header::{CONTENT_TYPE, HeaderName};

use crate::cache_aside::{Condition, ETag};

use super::Name;
use super::reply::ApiError;

/// The largest body that is taken, in bytes.
pub const LARGEST_BODY: usize = 16 * 1024;

/// What a create and a rename have in common.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    // A null is not a missing name: it is a wrong one.
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// The name in a body, if it has one.
///
/// # Errors
/// The body is not JSON by its `Content-Type`, is not a JSON object, has another field, or a name
/// that is not one.
pub fn parse_name(headers: &HeaderMap, body: &[u8]) -> Result<Option<Name>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    if !is_json(headers) {
        return Err(ApiError::UnsupportedMediaType);
    }
    // serde would take an array for the fields in order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(bad_request(
            "the body must be a JSON object, such as {\"name\":\"Ada Lovelace\"}",
        ));
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        // A wrong type is the name's: there is no other field.
        let what = if error.is_data() && error.to_string().starts_with("invalid type") {
            "name must be a string"
        } else {
            "the body must be JSON with no field but name"
        };
        bad_request(format!("{what}: {error}"))
    })?;
    body.name.map(|name| Name::parse(&name).map_err(bad_request)).transpose()
}

fn bad_request(detail: impl ToString) -> ApiError {
    ApiError::BadRequest(detail.to_string())
}

/// Whether a body is JSON: said so, or not said at all.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    ["application/json", "application/merge-patch+json"]
        .iter()
        .any(|json| essence.trim().eq_ignore_ascii_case(json))
}

/// What `If-Match` or `If-None-Match` names (RFC 9110, 13.1).
#[derive(Debug, PartialEq)]
pub enum EntityTags {
    /// `*`
    Any,
    /// One or more tags; none if the header could not be read, which then matches nothing.
    List(Vec<ETag>),
}

impl EntityTags {
    /// Reads a header, or `None` if there is none.
    pub fn read(headers: &HeaderMap, name: HeaderName) -> Option<Self> {
        let mut lines = headers.get_all(name).iter().peekable();
        lines.peek()?;
        let lines: Option<Vec<&str>> = lines.map(|line| line.to_str().ok()).collect();
        Some(lines.map_or(Self::List(Vec::new()), |lines| Self::parse(&lines.join(","))))
    }

    fn parse(text: &str) -> Self {
        if text.trim() == "*" {
            return Self::Any;
        }
        let mut tags = Vec::new();
        let mut rest = text.trim_start_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let Some((tag, after)) = split_tag(rest) else {
                return Self::List(Vec::new());
            };
            tags.push(ETag::new(tag));
            let next = after.trim_start_matches([' ', '\t', ',']);
            if next.len() == after.len() && !next.is_empty() {
                return Self::List(Vec::new()); // two tags without a comma or space between
            }
            rest = next;
        }
        Self::List(tags)
    }

    /// Whether one of them is this version, compared weakly: `W/` makes no difference.
    pub fn match_weakly(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags.iter().any(|tag| opaque(tag) == opaque(etag)),
        }
    }

    /// Which versions a write may replace.
    pub fn into_condition(self) -> Condition {
        match self {
            Self::Any => Condition::Exists,
            Self::List(tags) => Condition::OneOf(tags),
        }
    }
}

fn opaque(etag: &ETag) -> &str {
    etag.as_str().trim_start_matches("W/")
}

/// The first entity tag of a text, and what comes after it.
fn split_tag(text: &str) -> Option<(&str, &str)> {
    let quoted = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?;
    let end = text.len() - quoted.len() + quoted.find('"')? + 1;
    Some(text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(tags: &[&str]) -> EntityTags {
        EntityTags::List(tags.iter().map(|tag| ETag::new(*tag)).collect())
    }

    #[test]
    fn entity_tags_are_read_as_rfc_9110_writes_them() {
        assert_eq!(EntityTags::parse(" * "), EntityTags::Any);
        assert_eq!(EntityTags::parse(r#""a""#), list(&[r#""a""#]));
        assert_eq!(
            EntityTags::parse(r#"W/"a", "b,c" ,,"d""#),
            list(&[r#"W/"a""#, r#""b,c""#, r#""d""#])
        );
        for bad in ["a", "\"a", "W/a", r#""a""b""#, "\"a\", *"] {
            assert_eq!(EntityTags::parse(bad), list(&[]), "{bad}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let etag = ETag::new(r#"W/"a""#);
        assert!(EntityTags::parse(r#""x", "a""#).match_weakly(&etag));
        assert!(EntityTags::parse(r#"W/"a""#).match_weakly(&etag));
        assert!(EntityTags::Any.match_weakly(&etag));
        assert!(!EntityTags::parse(r#""b""#).match_weakly(&etag));
    }
}
