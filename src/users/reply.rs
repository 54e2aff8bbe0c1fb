//! Every status, header and body that the API can answer with.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use warp::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use crate::cache_aside::{Because, ETag, LoadError, Timing, Via, WriteError};
use crate::functions::BodyError;

use super::User;
use super::health::Health;
use super::request::LARGEST_BODY;

/// Says how the cache behaved (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Says where the time went (W3C Server Timing); browsers' developer tools draw it.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Where an answer came from, as the body says it and the request's log line repeats it.
#[derive(Clone, Copy, Debug)]
pub struct Source(pub &'static str);

/// Every error that the API can answer with.
#[derive(Debug)]
pub enum ApiError {
    /// No such user, by the id as it was given.
    NoSuchUser(String),
    /// No such path.
    NoSuchPath,
    /// The path is there, with these methods only.
    MethodNotAllowed(Vec<Method>),
    /// The input is wrong, in this way.
    BadRequest(String),
    /// The body took too long to arrive.
    RequestTimeout,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// `If-Match` names no version that is there.
    PreconditionFailed,
    /// The table cannot be reached; nothing was written.
    Unavailable,
    /// The table cannot be reached; the write may have been applied, or may yet be.
    OutcomeUnknown,
    /// The table has a row that is no user, or the handler has a bug.
    Internal(&'static str),
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => ApiError::PayloadTooLarge,
            BodyError::TooSlow => ApiError::RequestTimeout,
            BodyError::Broken => {
                ApiError::BadRequest("the body ended before it was complete".to_owned())
            }
        }
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        log::error!("{error}");
        match error {
            LoadError::Unavailable(_) => ApiError::Unavailable,
            LoadError::Unreadable(_) => ApiError::Internal(
                "the stored row is not a user: it needs PartitionKey, RowKey and Name, all text; a PATCH of its name mends it",
            ),
        }
    }
}

impl ApiError {
    /// What became of a write to this user, whose id is told back.
    pub fn from_write(error: WriteError, id: impl ToString) -> Self {
        match error {
            WriteError::NotFound => ApiError::NoSuchUser(id.to_string()),
            WriteError::PreconditionFailed => ApiError::PreconditionFailed,
            WriteError::Refused(_) => {
                log::error!("the table refused a write: {error}");
                ApiError::Unavailable
            }
            WriteError::Unknown(_) => {
                log::error!("a write to the table: {error}");
                ApiError::OutcomeUnknown
            }
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            ApiError::NoSuchUser(_) | ApiError::NoSuchPath => StatusCode::NOT_FOUND,
            ApiError::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::BadRequest(_) => StatusCode::BAD_REQUEST,
            ApiError::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            ApiError::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            ApiError::Unavailable | ApiError::OutcomeUnknown => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What to do about it.
    fn detail(&self) -> String {
        match self {
            ApiError::NoSuchUser(_) => String::new(), // has a body of its own
            ApiError::NoSuchPath => "users are at /api/users and /api/users/{id}".to_owned(),
            ApiError::MethodNotAllowed(methods) => {
                format!("this path takes {}", list(methods))
            }
            ApiError::BadRequest(detail) => detail.clone(),
            ApiError::RequestTimeout => "send the body within ten seconds".to_owned(),
            ApiError::PayloadTooLarge => format!("the body must be at most {LARGEST_BODY} bytes"),
            ApiError::UnsupportedMediaType => {
                "send JSON, with Content-Type: application/json".to_owned()
            }
            ApiError::PreconditionFailed => {
                "the user has changed, or If-Match is not an entity tag: read it again and send the ETag as it is".to_owned()
            }
            ApiError::Unavailable => {
                "the table cannot be reached and nothing was changed: try again".to_owned()
            }
            ApiError::OutcomeUnknown => {
                "the table did not answer in time and the change may have been applied: read before trying again".to_owned()
            }
            ApiError::Internal(detail) => (*detail).to_owned(),
        }
    }

    /// The response; a user that does not exist has a body of its own.
    pub fn into_response(self) -> Response {
        let status = self.status();
        let mut response = match &self {
            ApiError::NoSuchUser(user_id) => {
                json(status, &NotFound { user_id, status: "Not found" })
            }
            _ => json(status, &Failed { status: sentence(status), detail: self.detail() }),
        };
        let headers = response.headers_mut();
        match self {
            ApiError::MethodNotAllowed(methods) => {
                insert(headers, ALLOW, &list(&methods));
            }
            ApiError::Unavailable | ApiError::OutcomeUnknown => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// The body that tells of a user who does not exist.
#[derive(Serialize)]
struct NotFound<'a> {
    user_id: &'a str,
    status: &'static str,
}

/// The body of every other error.
#[derive(Serialize)]
struct Failed {
    status: String,
    detail: String,
}

/// The standard reason phrase, written as a sentence: `Bad request`.
fn sentence(status: StatusCode) -> String {
    let phrase = status.canonical_reason().unwrap_or_default();
    let (first, rest) = phrase.split_at(phrase.len().min(1));
    format!("{first}{}", rest.to_lowercase())
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

/// A JSON body. Personal data is for no shared cache; the entity tag makes asking again cheap.
fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Our own types: text, numbers and lists, which JSON can always express.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// A header whose value was made of what headers may have; left out if it was not.
fn insert(headers: &mut warp::http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// `201`: the user was created.
pub fn created(user: &User, etag: &ETag) -> Response {
    let mut response = json(StatusCode::CREATED, user);
    insert(response.headers_mut(), LOCATION, &format!("/api/users/{}", user.id()));
    insert(response.headers_mut(), ETAG, etag.as_str());
    response
}

/// `200`: the user as it is now.
pub fn updated(user: &User, etag: &ETag) -> Response {
    let mut response = json(StatusCode::OK, user);
    insert(response.headers_mut(), ETAG, etag.as_str());
    response
}

/// `204`: the user is gone.
pub fn deleted() -> Response {
    empty(StatusCode::NO_CONTENT)
}

fn empty(status: StatusCode) -> Response {
    let mut response = json(status, &());
    *response.body_mut() = Default::default();
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// `200`: the user, and where it came from.
pub fn read(user: &User, etag: &ETag, source: Source) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        source: &'static str,
        data: &'a User,
    }
    let mut response = json(StatusCode::OK, &Body { source: source.0, data: user });
    insert(response.headers_mut(), ETAG, etag.as_str());
    response
}

/// `304`: the caller has this version.
pub fn not_modified(etag: &ETag) -> Response {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    insert(response.headers_mut(), ETAG, etag.as_str());
    response
}

/// `200` or `503`: how each part is.
pub fn health(health: &Health) -> Response {
    let status = if health.can_serve() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = json(status, health);
    if !health.can_serve() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// `200`: the handler is there.
pub fn alive() -> Response {
    json(StatusCode::OK, &json!({"status": "alive"}))
}

/// Adds how the cache behaved.
pub fn with_cache_status(mut response: Response, via: Via) -> Response {
    insert(response.headers_mut(), CACHE_STATUS, &cache_status(via));
    response
}

/// A `Cache-Status` value. `hit` and `fwd` exclude each other (RFC 9211, 2.1 and 2.2); an entry
/// past its expiry is told by a negative `ttl`.
fn cache_status(via: Via) -> String {
    match via {
        Via::Hit { seconds_left } => format!("cache-aside; hit; ttl={seconds_left}"),
        Via::Stale { seconds_left } => {
            format!("cache-aside; hit; ttl={seconds_left}; detail=table-unavailable")
        }
        Via::Store { because, filled, collapsed } => {
            let forward = match because {
                Because::Nothing | Because::Lease => "fwd=miss",
                Because::Fence | Because::Unreachable => "fwd=bypass",
            };
            let outcome = match (collapsed, filled) {
                (true, _) => "; collapsed",
                (false, true) => "; stored",
                (false, false) => "",
            };
            let detail = match because {
                Because::Nothing => "",
                Because::Lease => "; detail=lease",
                Because::Fence => "; detail=fence",
                Because::Unreachable => "; detail=cache-unavailable",
            };
            format!("cache-aside; {forward}{outcome}{detail}")
        }
    }
}

/// Adds where the time went, in milliseconds.
pub fn with_timing(mut response: Response, timing: Timing) -> Response {
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
    use super::*;

    #[test]
    fn cache_status_says_how_the_cache_behaved() {
        let store = |because, filled, collapsed| Via::Store { because, filled, collapsed };
        for (via, said) in [
            (Via::Hit { seconds_left: 7 }, "cache-aside; hit; ttl=7"),
            (store(Because::Nothing, true, false), "cache-aside; fwd=miss; stored"),
            (store(Because::Nothing, false, false), "cache-aside; fwd=miss"),
            (store(Because::Nothing, true, true), "cache-aside; fwd=miss; collapsed"),
            (store(Because::Fence, false, false), "cache-aside; fwd=bypass; detail=fence"),
            (
                store(Because::Unreachable, false, false),
                "cache-aside; fwd=bypass; detail=cache-unavailable",
            ),
            (
                Via::Stale { seconds_left: -30 },
                "cache-aside; hit; ttl=-30; detail=table-unavailable",
            ),
        ] {
            assert_eq!(cache_status(via), said);
        }
    }

    #[test]
    fn a_status_is_a_sentence() {
        assert_eq!(sentence(StatusCode::BAD_REQUEST), "Bad request");
        assert_eq!(sentence(StatusCode::UNSUPPORTED_MEDIA_TYPE), "Unsupported media type");
    }
}
