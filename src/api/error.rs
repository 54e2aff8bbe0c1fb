//! Every error that the API can return, and its response. Status codes of errors are chosen here
//! and nowhere else, except that of the health report.

use custom_handler::http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use custom_handler::http::{Method, StatusCode};
use custom_handler::{BodyError, Refusal, Response};
use serde::Serialize;

use crate::store::{LoadError, WriteError};

use super::reply::{insert, json};
use super::request::MAX_BODY_LENGTH;

/// An error of the API.
#[derive(Debug)]
pub(super) enum ApiError {
    /// There is no user with this id, which is repeated as it was given.
    NoSuchUser(String),
    /// There is no such path.
    NoSuchPath,
    /// The path exists, but only with these methods.
    MethodNotAllowed(Vec<Method>),
    /// The request is invalid in this way.
    BadRequest(String),
    /// The body took too long to arrive.
    RequestTimeout,
    /// The body's length was not announced, and the host did not pass the body on.
    LengthRequired,
    /// The body is larger than this number of bytes.
    PayloadTooLarge(usize),
    /// The `Content-Type` is not JSON.
    UnsupportedMediaType,
    /// `If-Match` does not name the current version.
    PreconditionFailed,
    /// The table cannot be reached, and nothing was written.
    Unavailable,
    /// The table cannot be reached, and the write may have been applied, or may still be.
    OutcomeUnknown,
    /// The table has a row that is not a user, or the handler has a bug.
    Internal(&'static str),
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => ApiError::PayloadTooLarge(MAX_BODY_LENGTH),
            BodyError::TooSlow => ApiError::RequestTimeout,
            BodyError::Dropped => ApiError::LengthRequired,
            _ => ApiError::BadRequest("the body ended before it was complete".to_owned()),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchPath => ApiError::NoSuchPath,
            Refusal::MethodNotAllowed(methods) => ApiError::MethodNotAllowed(methods),
            Refusal::PayloadTooLarge { limit } => ApiError::PayloadTooLarge(limit),
            _ => ApiError::Internal("internal error: see the handler's log"),
        }
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        log::error!("{error}");
        match error {
            LoadError::Unavailable(_) => ApiError::Unavailable,
            LoadError::Unreadable(_) => ApiError::Internal(
                "the stored row is not a user: it needs PartitionKey, RowKey and Name, all text; a PATCH of its name repairs it",
            ),
        }
    }
}

impl ApiError {
    /// The error of a failed write to the user with this id, as it was given.
    pub(super) fn from_write(error: WriteError, id: impl ToString) -> Self {
        match error {
            WriteError::NotFound => ApiError::NoSuchUser(id.to_string()),
            WriteError::PreconditionFailed => ApiError::PreconditionFailed,
            WriteError::NotApplied(_) => {
                log::error!("a write was not applied: {error}");
                ApiError::Unavailable
            }
            WriteError::Unknown(_) => {
                log::error!("a write may have been applied: {error}");
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
            ApiError::LengthRequired => StatusCode::LENGTH_REQUIRED,
            ApiError::PayloadTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            ApiError::Unavailable | ApiError::OutcomeUnknown => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client can do about it.
    fn detail(&self) -> String {
        match self {
            ApiError::NoSuchUser(_) => String::new(), // has a body of its own
            ApiError::NoSuchPath => "users are at /api/users and /api/users/{id}".to_owned(),
            ApiError::MethodNotAllowed(methods) => {
                format!("this path accepts {}", list(methods))
            }
            ApiError::BadRequest(detail) => detail.clone(),
            ApiError::RequestTimeout => "send the body within ten seconds".to_owned(),
            ApiError::LengthRequired => {
                "the Functions host drops chunked bodies here: send the body with a Content-Length"
                    .to_owned()
            }
            ApiError::PayloadTooLarge(limit) => format!("the body must be at most {limit} bytes"),
            ApiError::UnsupportedMediaType => {
                "send JSON, with Content-Type: application/json".to_owned()
            }
            ApiError::PreconditionFailed => {
                "the user has changed, or If-Match is not an entity tag: read it again and send its ETag unchanged".to_owned()
            }
            ApiError::Unavailable => {
                "the table is unavailable and nothing was changed: try again".to_owned()
            }
            ApiError::OutcomeUnknown => {
                "the table did not answer in time and the change may have been applied: read before trying again".to_owned()
            }
            ApiError::Internal(detail) => (*detail).to_owned(),
        }
    }

    /// The response.
    pub(super) fn into_response(self) -> Response {
        let status = self.status();
        let mut response = match &self {
            ApiError::NoSuchUser(user_id) => {
                json(status, &NotFound { user_id, status: "Not found" })
            }
            _ => json(status, &Failure { status: sentence(status), detail: self.detail() }),
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

/// The body for a user that does not exist.
#[derive(Serialize)]
struct NotFound<'a> {
    user_id: &'a str,
    status: &'static str,
}

/// The body of every other error.
#[derive(Serialize)]
struct Failure {
    status: String,
    detail: String,
}

/// The standard reason phrase as a sentence: `Bad request`.
fn sentence(status: StatusCode) -> String {
    let phrase = status.canonical_reason().unwrap_or_default();
    let (first, rest) = phrase.split_at(phrase.len().min(1));
    format!("{first}{}", rest.to_lowercase())
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_sentence() {
        assert_eq!(sentence(StatusCode::BAD_REQUEST), "Bad request");
        assert_eq!(sentence(StatusCode::UNSUPPORTED_MEDIA_TYPE), "Unsupported media type");
    }
}
