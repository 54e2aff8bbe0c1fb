//! `If-Match` and `If-None-Match` (RFC 9110, section 13.1).

use custom_handler::http::HeaderMap;
use custom_handler::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::store::{Condition, ETag, PutCondition};

use super::error::{ApiError, Unmet};

/// The entity tags in a header.
#[derive(Debug, PartialEq)]
pub(super) enum EntityTags {
    /// `*`
    Any,
    /// One or more tags; none if the header could not be parsed, which then matches nothing.
    List(Vec<ETag>),
}

impl EntityTags {
    /// The tags in this header, or `None` if the request does not have it.
    pub(super) fn read(headers: &HeaderMap, name: HeaderName) -> Option<Self> {
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
                return Self::List(Vec::new()); // two tags without a separator
            }
            rest = next;
        }
        Self::List(tags)
    }

    /// Whether one of the tags is this version, in a weak comparison, which ignores `W/`.
    pub(super) fn match_weakly(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags.iter().any(|tag| opaque(tag) == opaque(etag)),
        }
    }

    /// Which versions a write may replace.
    pub(super) fn into_condition(self) -> Condition {
        match self {
            Self::Any => Condition::Exists,
            Self::List(tags) => Condition::OneOf(tags),
        }
    }
}

/// What must be stored for a PUT to be applied.
///
/// RFC 9110 (section 13.2.2) wants both headers to hold. `If-Match` needs a version and `If-None-Match: *`
/// allows none, so both together never hold, whatever is stored. Tags in `If-None-Match`, which would
/// replace every version but these, are refused instead of ignored.
///
/// # Errors
/// The headers contradict each other, or `If-None-Match` is not `*`.
pub(super) fn put_condition(headers: &HeaderMap) -> Result<PutCondition, ApiError> {
    let if_match = EntityTags::read(headers, IF_MATCH);
    match (if_match, EntityTags::read(headers, IF_NONE_MATCH)) {
        (None, None) => Ok(PutCondition::Always),
        (None, Some(EntityTags::Any)) => Ok(PutCondition::Absent),
        (Some(tags), None) => Ok(PutCondition::Present(tags.into_condition())),
        (Some(_), Some(EntityTags::Any)) => Err(ApiError::PreconditionFailed(Unmet::Both)),
        (_, Some(EntityTags::List(_))) => Err(ApiError::BadRequest(
            "If-None-Match must be * in a PUT: it then creates the user and never replaces it; to replace a version, send its ETag in If-Match".to_owned(),
        )),
    }
}

fn opaque(etag: &ETag) -> &str {
    etag.as_str().trim_start_matches("W/")
}

/// The first entity tag of a text, and the text after it.
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
    fn entity_tags_are_parsed_as_in_rfc_9110() {
        assert_eq!(EntityTags::parse(" * "), EntityTags::Any);
        assert_eq!(EntityTags::parse(r#""a""#), list(&[r#""a""#]));
        assert_eq!(
            EntityTags::parse(r#"W/"a", "b,c" ,,"d""#),
            list(&[r#"W/"a""#, r#""b,c""#, r#""d""#])
        );
        for invalid in ["a", "\"a", "W/a", r#""a""b""#, "\"a\", *"] {
            assert_eq!(EntityTags::parse(invalid), list(&[]), "{invalid}");
        }
    }

    #[test]
    fn a_put_needs_what_its_headers_say() {
        let condition = |headers: &[(HeaderName, &str)]| {
            let headers: HeaderMap =
                headers.iter().map(|(name, tags)| (name.clone(), tags.parse().unwrap())).collect();
            put_condition(&headers)
        };
        let one = Condition::OneOf(vec![ETag::new("W/\"a\"")]);
        for (headers, expected) in [
            (&[][..], PutCondition::Always),
            (&[(IF_NONE_MATCH, "*")], PutCondition::Absent),
            (&[(IF_MATCH, "*")], PutCondition::Present(Condition::Exists)),
            (&[(IF_MATCH, "W/\"a\"")], PutCondition::Present(one)),
        ] {
            assert_eq!(condition(headers).unwrap(), expected);
        }
        for tags in ["*", "W/\"a\"", "nonsense"] {
            let both = condition(&[(IF_MATCH, tags), (IF_NONE_MATCH, "*")]);
            assert!(matches!(both, Err(ApiError::PreconditionFailed(Unmet::Both))), "{both:?}");
        }
        for tags in ["\"a\"", "W/\"a\"", "nonsense", "", "*, \"a\""] {
            let refused = condition(&[(IF_NONE_MATCH, tags)]);
            assert!(matches!(refused, Err(ApiError::BadRequest(_))), "{refused:?}");
            let refused = condition(&[(IF_MATCH, "*"), (IF_NONE_MATCH, tags)]);
            assert!(matches!(refused, Err(ApiError::BadRequest(_))), "{refused:?}");
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
