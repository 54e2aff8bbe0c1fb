//! Responses: bodies, and headers that tell how the cache behaved and where the time went.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use axum::response::Response;
use serde::Serialize;

use crate::cache::Entry;
use crate::user::User;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Where a user came from.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    Redis { seconds_left: i64 },
    Table,
}

/// How long a request waited for the cache and for the table.
#[derive(Default)]
pub(crate) struct Timing {
    cache: Option<Duration>,
    table: Option<Duration>,
}

impl Timing {
    pub(crate) async fn cache<T>(&mut self, step: impl Future<Output = T>) -> T {
        measured(&mut self.cache, step).await
    }

    pub(crate) async fn table<T>(&mut self, step: impl Future<Output = T>) -> T {
        measured(&mut self.table, step).await
    }

    fn header(&self) -> String {
        let ms = |spent: Duration| spent.as_secs_f64() * 1000.0;
        match (self.cache, self.table) {
            (Some(cache), Some(table)) => {
                format!("cache;dur={:.3}, table;dur={:.3}", ms(cache), ms(table))
            }
            (Some(cache), None) => format!("cache;dur={:.3}", ms(cache)),
            (None, Some(table)) => format!("table;dur={:.3}", ms(table)),
            (None, None) => String::new(),
        }
    }
}

async fn measured<T>(total: &mut Option<Duration>, step: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let outcome = step.await;
    *total = Some(total.unwrap_or_default() + start.elapsed());
    outcome
}

/// `200`, or `304` if the client has this version.
pub(crate) fn read(
    entry: &Entry,
    origin: Origin,
    if_none_match: Option<&HeaderValue>,
    timing: Timing,
) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        source: &'static str,
        data: &'a User,
    }
    let (source, cache_status) = match origin {
        Origin::Redis { seconds_left } => {
            ("redis", format!("cache-aside; hit; ttl={seconds_left}"))
        }
        Origin::Table => ("table", "cache-aside; fwd=miss; stored".to_owned()),
    };
    let mut response = if if_none_match.is_some_and(|tags| matches(tags, &entry.etag)) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        json(StatusCode::OK, &Body { source, data: &entry.user })
    };
    set(&mut response, ETAG, &entry.etag);
    set(&mut response, CACHE_STATUS, &cache_status);
    with_timing(response, &timing)
}

/// Whether one of these entity tags is this one, compared weakly.
fn matches(tags: &HeaderValue, etag: &str) -> bool {
    let tags = tags.to_str().unwrap_or_default();
    tags.trim() == "*" || tags.split(',').any(|tag| opaque(tag.trim()) == opaque(etag))
}

fn opaque(etag: &str) -> &str {
    etag.trim_start_matches("W/")
}

pub(crate) fn created(user: &User, etag: &str, timing: Timing) -> Response {
    let mut response = json(StatusCode::CREATED, user);
    set(&mut response, LOCATION, &format!("/api/users/{}", user.id()));
    set(&mut response, ETAG, etag);
    with_timing(response, &timing)
}

pub(crate) fn updated(user: &User, etag: &str, timing: Timing) -> Response {
    let mut response = json(StatusCode::OK, user);
    set(&mut response, ETAG, etag);
    with_timing(response, &timing)
}

pub(crate) fn deleted(timing: Timing) -> Response {
    with_timing(empty(StatusCode::NO_CONTENT), &timing)
}

/// `404`, with the id as it was given.
pub(crate) fn not_found(given: &str) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        user_id: &'a str,
        status: &'static str,
    }
    json(StatusCode::NOT_FOUND, &Body { user_id: given, status: "Not found" })
}

/// `404` after the table was asked.
pub(crate) fn not_found_in_table(given: &str, timing: Timing) -> Response {
    let mut response = not_found(given);
    set(&mut response, CACHE_STATUS, "cache-aside; fwd=miss");
    with_timing(response, &timing)
}

pub(crate) fn alive() -> Response {
    #[derive(Serialize)]
    struct Body {
        status: &'static str,
    }
    json(StatusCode::OK, &Body { status: "alive" })
}

pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = empty(status);
    // The bodies have text only, which JSON can always express.
    *response.body_mut() = serde_json::to_vec(body).unwrap_or_default().into();
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn with_timing(mut response: Response, timing: &Timing) -> Response {
    set(&mut response, SERVER_TIMING, &timing.header());
    response
}
