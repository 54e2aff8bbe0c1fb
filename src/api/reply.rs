//! Responses that are not errors, and the headers that describe how the cache behaved.

use std::fmt;
use std::time::Duration;

use cache_aside::{Because, Load, Source, Timing};
use custom_handler::Response;
use custom_handler::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use custom_handler::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::cache::{CacheKind, CachedUser};
use crate::store::ETag;
use crate::users::{User, UserDocument};

use super::health::Health;

/// How the cache behaved (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How long the parts took (W3C Server Timing). Browsers' developer tools display it.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The API as OpenAPI 3.1, as it is served.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// How many headers a response has, or fewer: space for them is allocated once.
const MOST_HEADERS: usize = 6;

/// A response, and what the log says of it besides.
pub(super) struct Reply {
    pub(super) response: Response,
    /// Where a user came from, if it was a read.
    pub(super) origin: Option<Origin>,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self { response, origin: None }
    }
}

/// Where a user came from, and how the cache behaved: named in the body, in `Cache-Status` and in the
/// request's log line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    source: Source,
    cache: CacheKind,
}

impl Origin {
    /// The origin of a read through a cache of this kind.
    pub(super) fn new(source: Source, cache: CacheKind) -> Self {
        Self { source, cache }
    }

    /// Where the user came from.
    pub(super) fn source(self) -> Source {
        self.source
    }

    /// The `source` in the body. Copies are `memory`, too; `Cache-Status` tells them apart.
    pub(super) fn name(self) -> &'static str {
        match (self.source, self.cache) {
            (Source::Cache { .. }, CacheKind::Redis) => "redis",
            (Source::Cache { .. }, CacheKind::Memory) => "memory",
            (Source::LocalCopy { .. } | Source::StaleCopy { .. }, _) => "memory",
            _ => "table",
        }
    }

    fn behaviour(self) -> Behaviour {
        let behaviour = |kind, outcome, detail| Behaviour { kind, outcome, detail };
        match self.source {
            Source::Cache { .. } => behaviour("hit", None, None),
            Source::LocalCopy { .. } => behaviour("hit", None, Some("local")),
            Source::StaleCopy { .. } => behaviour("stale", None, Some("table-unavailable")),
            Source::Store { because, load } => {
                let (kind, detail) = match because {
                    Because::Leased => ("miss", Some("lease")),
                    Because::Fenced => ("bypass", Some("fence")),
                    Because::CacheUnavailable => ("bypass", Some("cache-unavailable")),
                    _ => ("miss", None),
                };
                let outcome = match load {
                    Load::Stored => Some("stored"),
                    Load::Shared => Some("collapsed"),
                    _ => None,
                };
                behaviour(kind, outcome, detail)
            }
            _ => behaviour("unknown", None, None), // the library has no other source
        }
    }

    /// The value of `Cache-Status`. `hit` and `fwd` exclude each other (RFC 9211, sections 2.1 and
    /// 2.2); a negative `ttl` says that the entry has expired.
    fn cache_status(self) -> HeaderText {
        let Behaviour { kind, outcome, detail } = self.behaviour();
        let mut value = HeaderText::new();
        match self.source {
            Source::Cache { seconds_left }
            | Source::LocalCopy { seconds_left }
            | Source::StaleCopy { seconds_left } => {
                value.push("cache-aside; hit; ttl=");
                value.push_number(seconds_left);
            }
            _ => {
                value.push("cache-aside; fwd=");
                value.push(kind);
            }
        }
        for (before, word) in [("; ", outcome), ("; detail=", detail)] {
            if let Some(word) = word {
                value.push(before);
                value.push(word);
            }
        }
        value
    }
}

/// How the cache behaved, in the words of RFC 9211, except that it has none for a stale answer.
/// Displayed as in the log: `miss,stored`.
struct Behaviour {
    kind: &'static str,
    outcome: Option<&'static str>,
    detail: Option<&'static str>,
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        let mut rest = self.outcome.iter().chain(&self.detail);
        rest.try_for_each(|word| write!(f, ",{word}"))
    }
}

/// Displayed as in the log: `source=table cache=miss,stored`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source={} cache={}", self.name(), self.behaviour())
    }
}

/// A response with a JSON body. It is `private`, because users are personal data, and `no-cache`,
/// because revalidating with an entity tag is cheap.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // The bodies are types of this module: text, numbers and lists, which JSON can always express.
    let body = serde_json::to_vec(body).unwrap_or_default();
    as_json(status, Response::new(body.into()))
}

fn as_json(status: StatusCode, mut response: Response) -> Response {
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(MOST_HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// Sets a header. A value with characters that headers cannot have is left out.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// `201`: the user was created.
pub(super) fn created(user: User, etag: &ETag) -> Response {
    let location = format!("/api/users/{}", user.id);
    let mut response = json(StatusCode::CREATED, &UserDocument::from(user));
    insert(response.headers_mut(), LOCATION, &location);
    insert(response.headers_mut(), ETAG, etag.as_str());
    response
}

/// `200`: the user as it is now.
pub(super) fn updated(user: &UserDocument, etag: &ETag) -> Response {
    let mut response = json(StatusCode::OK, user);
    insert(response.headers_mut(), ETAG, etag.as_str());
    response
}

/// `204`: the user was deleted.
pub(super) fn deleted() -> Response {
    empty(StatusCode::NO_CONTENT)
}

/// A response without a body. It has a `Content-Type` all the same: in the payload mode the host would
/// add one of its own, and that of a 304 replaces the one that caches have stored.
fn empty(status: StatusCode) -> Response {
    let mut response = json(status, &());
    *response.body_mut() = Default::default();
    response
}

/// `200`: the user, and where it came from.
pub(super) fn found(user: &CachedUser, origin: Origin) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        source: &'static str,
        data: &'a UserDocument,
    }
    let body = Body { source: origin.name(), data: &user.value };
    let mut response = json(StatusCode::OK, &body);
    insert(response.headers_mut(), ETAG, user.etag.as_str());
    response
}

/// `304`: the client has this version.
pub(super) fn not_modified(etag: &ETag) -> Response {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    insert(response.headers_mut(), ETAG, etag.as_str());
    response
}

/// `200` or `503`: whether each part works.
pub(super) fn health(health: &Health) -> Response {
    let status = if health.can_serve() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = json(status, health);
    if !health.can_serve() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// `200`: the handler is running.
pub(super) fn alive() -> Response {
    json(StatusCode::OK, &json!({"status": "alive"}))
}

/// `200`: the API as OpenAPI 3.1.
pub(super) fn openapi() -> Response {
    as_json(StatusCode::OK, Response::new(OPENAPI.into()))
}

/// Adds how the cache behaved, to the headers and for the log.
pub(super) fn with_origin(mut response: Response, origin: Origin) -> Reply {
    insert(response.headers_mut(), CACHE_STATUS, origin.cache_status().as_str());
    Reply { response, origin: Some(origin) }
}

/// Adds how long the parts took, in milliseconds.
pub(super) fn with_timing(mut response: Response, timing: Timing) -> Response {
    let mut value = HeaderText::new();
    for (name, spent) in [("cache", timing.cache), ("table", timing.store)] {
        let Some(spent) = spent else { continue };
        if !value.is_empty() {
            value.push(", ");
        }
        value.push(name);
        value.push(";dur=");
        value.push_milliseconds(spent);
    }
    if !value.is_empty() {
        insert(response.headers_mut(), SERVER_TIMING, value.as_str());
    }
    response
}

/// The value of a header. `format!` takes ten times as long, a tenth of a hit's time in all.
struct HeaderText(String);

impl HeaderText {
    fn new() -> Self {
        Self(String::with_capacity(64))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn push(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn push_number(&mut self, number: impl itoa::Integer) {
        self.push(itoa::Buffer::new().format(number));
    }

    /// With three decimals.
    fn push_milliseconds(&mut self, duration: Duration) {
        let microseconds = duration.as_micros();
        self.push_number(microseconds / 1000);
        // The 1 in front keeps zeros in place.
        let decimals = 1000 + (microseconds % 1000) as u32;
        self.push(".");
        self.push(&itoa::Buffer::new().format(decimals)[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_decimals() {
        for (nanoseconds, expected) in [
            (0, "0.000"),
            (999, "0.000"),
            (7_000, "0.007"),
            (1_050_999, "1.050"),
            (3_600_000_000_000, "3600000.000"),
        ] {
            let mut text = HeaderText::new();
            text.push_milliseconds(Duration::from_nanos(nanoseconds));
            assert_eq!(text.as_str(), expected);
        }
    }

    #[test]
    fn the_header_and_the_log_describe_how_the_cache_behaved() {
        let store = |because, load| Source::Store { because, load };
        for (source, header, log) in [
            (Source::Cache { seconds_left: 7 }, "hit; ttl=7", "redis cache=hit"),
            (
                store(Because::NotCached, Load::Stored),
                "fwd=miss; stored",
                "table cache=miss,stored",
            ),
            (store(Because::NotCached, Load::NotStored), "fwd=miss", "table cache=miss"),
            (
                store(Because::NotCached, Load::Shared),
                "fwd=miss; collapsed",
                "table cache=miss,collapsed",
            ),
            (
                store(Because::Leased, Load::NotStored),
                "fwd=miss; detail=lease",
                "table cache=miss,lease",
            ),
            (
                store(Because::Fenced, Load::Shared),
                "fwd=bypass; collapsed; detail=fence",
                "table cache=bypass,collapsed,fence",
            ),
            (
                store(Because::CacheUnavailable, Load::NotStored),
                "fwd=bypass; detail=cache-unavailable",
                "table cache=bypass,cache-unavailable",
            ),
            (
                Source::LocalCopy { seconds_left: 7 },
                "hit; ttl=7; detail=local",
                "memory cache=hit,local",
            ),
            (
                Source::StaleCopy { seconds_left: -30 },
                "hit; ttl=-30; detail=table-unavailable",
                "memory cache=stale,table-unavailable",
            ),
        ] {
            let origin = Origin::new(source, CacheKind::Redis);
            assert_eq!(origin.cache_status().as_str(), format!("cache-aside; {header}"));
            assert_eq!(origin.to_string(), format!("source={log}"));
        }
    }
}
