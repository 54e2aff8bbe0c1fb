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
        // A tag may have bytes that are not ASCII. Those of a store have none.
        let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        Some(Self::parse(&lines.join(",")))
    }

    fn parse(text: &str) -> Self {
        match text.trim_matches(OWS) {
            "*" => Self::Any,
            list => Self::List(parse_list(list).unwrap_or_default()),
        }
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
    etag.as_str().strip_prefix("W/").unwrap_or(etag.as_str())
}

/// The white space that is optional around the elements of a list.
const OWS: [char; 2] = [' ', '\t'];

/// The tags of a list, whose elements may be empty (RFC 9110, section 5.6.1.2).
fn parse_list(list: &str) -> Option<Vec<ETag>> {
    let mut tags = Vec::new();
    let mut rest = list;
    loop {
        if !rest.is_empty() && !rest.starts_with(',') {
            let (tag, after) = split_tag(rest)?;
            tags.push(ETag::new(tag));
            rest = after.trim_start_matches(OWS);
        }
        if rest.is_empty() {
            return Some(tags);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(OWS);
    }
}

/// The first entity tag of a text, and the text after it.
fn split_tag(text: &str) -> Option<(&str, &str)> {
    let quoted = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?;
    let (opaque, after) = quoted.split_once('"')?;
    let is_allowed = |char: char| !char.is_ascii_control() && char != ' ';
    opaque.chars().all(is_allowed).then(|| text.split_at(text.len() - after.len()))
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
        assert_eq!(EntityTags::parse(r#", "é", "a","#), list(&[r#""é""#, r#""a""#]));
        for invalid in
            ["a", "\"a", "W/a", r#""a""b""#, r#""a" "b""#, r#""a b""#, r#"w/"a""#, "\"a\", *"]
        {
            assert_eq!(EntityTags::parse(invalid), list(&[]), "{invalid}");
        }
    }

    /// The current tag in the first line, and the lines of the header.
    const EXAMPLES: &[&str] = &[
        "W/\"a\"\nW/\"a\", \"b,c\" ,,\"d\"",
        "\"b\"\n\"a\"\n,W/\"b\"",
        "W/\"a\"\n * ",
        "W/\"a\"\n\"a\" W/\"a\"",
        "\"a\"\n\"é\",\t\"a\"",
        "\"a b\"\n\"a b\"",
        "\"\"\n",
    ];

    /// The grammar of RFC 9110 (sections 5.6.1.2 and 8.8.3), as regular expressions.
    struct Grammar {
        tag: regex::bytes::Regex,
        list: regex::bytes::Regex,
    }

    impl Grammar {
        fn new() -> Self {
            let regex = |text: &str| regex::bytes::Regex::new(text).unwrap();
            let tag = r#"(?:W/)?"[\x21\x23-\x7E\x80-\xFF]*""#;
            let list = format!(r"(?-u)^(?:{tag})?(?:[ \t]*,[ \t]*(?:{tag})?)*$");
            Self { tag: regex(&format!("(?-u){tag}")), list: regex(&list) }
        }

        fn tags<'a>(&self, header: &'a [u8]) -> Vec<&'a [u8]> {
            if !self.list.is_match(header) {
                return Vec::new();
            }
            self.tag.find_iter(header).map(|tag| tag.as_bytes()).collect()
        }
    }

    #[test]
    fn fuzz_a_tag_matches_if_the_grammar_finds_it() {
        let grammar = Grammar::new();
        fuzzing::check!(EXAMPLES, |bytes| {
            let mut lines = bytes.split(|byte| *byte == b'\n');
            let current = std::str::from_utf8(lines.next().unwrap());
            let is_a_tag =
                |text: &&str| text.is_ascii() && grammar.tags(text.as_bytes()) == [text.as_bytes()];
            let Some(current) = current.ok().filter(is_a_tag) else { return };
            let lines: Vec<&[u8]> = lines.collect();
            let mut headers = HeaderMap::new();
            for line in &lines {
                let Ok(value) = (*line).try_into() else { return };
                headers.append(IF_MATCH, value);
            }
            let header = lines.join(&b',');
            let header = header.trim_ascii();
            let tags = grammar.tags(header);

            let Some(read) = EntityTags::read(&headers, IF_MATCH) else {
                return assert!(lines.is_empty());
            };
            let is_any = header == b"*";
            let weak = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
            let matches = tags.iter().any(|tag| weak(tag) == weak(current.as_bytes()));
            assert_eq!(read.match_weakly(&ETag::new(current)), is_any || matches);
            match read.into_condition() {
                Condition::Exists => assert!(is_any),
                Condition::OneOf(read) => {
                    assert!(!is_any);
                    let has = tags.contains(&current.as_bytes());
                    assert_eq!(read.contains(&ETag::new(current)), has);
                    assert_eq!(read.len(), tags.len());
                    let written: Vec<_> = read.iter().map(ETag::as_str).collect();
                    let again = EntityTags::parse(&written.join(", "));
                    assert_eq!(again, EntityTags::List(read.clone()));
                }
            }
        });
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
