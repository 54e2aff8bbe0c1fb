//! Responses that are not errors, and the headers that describe how the cache behaved.

use std::time::Duration;

use cache_aside::{Because, Load, Timing};
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

/// Where a user came from, as the response's body and the request's log line name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The store.
    Table,
    /// Redis.
    Redis,
    /// The in-process cache.
    InProcessCache,
    /// A copy in this process, while the store cannot be reached.
    StaleCopy,
}

impl Source {
    /// The source of a read through a cache of this kind.
    pub(super) fn new(source: cache_aside::Source, cache: CacheKind) -> Self {
        match source {
            cache_aside::Source::Cache { .. } => match cache {
                CacheKind::Redis => Source::Redis,
                CacheKind::Memory => Source::InProcessCache,
            },
            cache_aside::Source::StaleCopy { .. } => Source::StaleCopy,
            _ => Source::Table,
        }
    }

    /// The name shown to clients. A stale copy is `memory` too; `Cache-Status` tells them apart.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Source::Table => "table",
            Source::Redis => "redis",
            Source::InProcessCache | Source::StaleCopy => "memory",
        }
    }
}

/// A response with a JSON body. It is `private`, because users are personal data, and `no-cache`,
/// because revalidating with an entity tag is cheap.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // The bodies are types of this module: text, numbers and lists, which JSON can always express.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
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
pub(super) fn found(user: &CachedUser, source: Source) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        source: &'static str,
        data: &'a UserDocument,
    }
    let body = Body { source: source.as_str(), data: &user.value };
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

/// Adds how the cache behaved.
pub(super) fn with_cache_status(mut response: Response, source: cache_aside::Source) -> Response {
    insert(response.headers_mut(), CACHE_STATUS, &cache_status(source));
    response
}

/// The value of `Cache-Status`. `hit` and `fwd` exclude each other (RFC 9211, sections 2.1 and 2.2);
/// a negative `ttl` says that the entry has expired.
fn cache_status(source: cache_aside::Source) -> String {
    match source {
        cache_aside::Source::Cache { seconds_left } => {
            format!("cache-aside; hit; ttl={seconds_left}")
        }
        cache_aside::Source::StaleCopy { seconds_left } => {
            format!("cache-aside; hit; ttl={seconds_left}; detail=table-unavailable")
        }
        cache_aside::Source::Store { because, load } => {
            let (forward, detail) = match because {
                Because::Leased => ("fwd=miss", "; detail=lease"),
                Because::Fenced => ("fwd=bypass", "; detail=fence"),
                Because::CacheUnavailable => ("fwd=bypass", "; detail=cache-unavailable"),
                _ => ("fwd=miss", ""),
            };
            let outcome = match load {
                Load::Stored => "; stored",
                Load::Shared => "; collapsed",
                _ => "",
            };
            format!("cache-aside; {forward}{outcome}{detail}")
        }
        _ => "cache-aside".to_owned(),
    }
}

/// Adds how long the parts took, in milliseconds.
pub(super) fn with_timing(mut response: Response, timing: Timing) -> Response {
    let metric = |name, spent: Option<Duration>| {
        spent.map(|spent| format!("{name};dur={:.3}", spent.as_secs_f64() * 1000.0))
    };
    let metrics: Vec<String> = [metric("cache", timing.cache), metric("table", timing.store)]
        .into_iter()
        .flatten()
        .collect();
    insert(response.headers_mut(), SERVER_TIMING, &metrics.join(", "));
    response
}

#[cfg(test)]
mod tests {
    use cache_aside::Source;

    use super::*;

    #[test]
    fn cache_status_describes_how_the_cache_behaved() {
        let store = |because, load| Source::Store { because, load };
        for (source, expected) in [
            (Source::Cache { seconds_left: 7 }, "cache-aside; hit; ttl=7"),
            (store(Because::NotCached, Load::Stored), "cache-aside; fwd=miss; stored"),
            (store(Because::NotCached, Load::NotStored), "cache-aside; fwd=miss"),
            (store(Because::NotCached, Load::Shared), "cache-aside; fwd=miss; collapsed"),
            (store(Because::Leased, Load::NotStored), "cache-aside; fwd=miss; detail=lease"),
            (store(Because::Fenced, Load::NotStored), "cache-aside; fwd=bypass; detail=fence"),
            (
                store(Because::CacheUnavailable, Load::NotStored),
                "cache-aside; fwd=bypass; detail=cache-unavailable",
            ),
            (
                Source::StaleCopy { seconds_left: -30 },
                "cache-aside; hit; ttl=-30; detail=table-unavailable",
            ),
        ] {
            assert_eq!(cache_status(source), expected);
        }
    }
}
