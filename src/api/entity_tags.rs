//! `If-Match` and `If-None-Match` (RFC 9110, section 13.1).

use custom_handler::http::HeaderMap;
use custom_handler::http::header::HeaderName;

use crate::store::{Condition, ETag};

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
    fn if_none_match_compares_weakly() {
        let etag = ETag::new(r#"W/"a""#);
        assert!(EntityTags::parse(r#""x", "a""#).match_weakly(&etag));
        assert!(EntityTags::parse(r#"W/"a""#).match_weakly(&etag));
        assert!(EntityTags::Any.match_weakly(&etag));
        assert!(!EntityTags::parse(r#""b""#).match_weakly(&etag));
    }
}
