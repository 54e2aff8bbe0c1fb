//! Every error that the API can return, and its response. Status codes of errors are chosen here
//! and nowhere else, except that of the health report.

use custom_handler::http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use custom_handler::http::{Method, StatusCode};
use custom_handler::{BodyError, Refusal, Response};
use serde::Serialize;

use crate::store::{Condition, LoadError, PutCondition, WriteError};

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
    /// What is stored is not what this header of the request needs.
    PreconditionFailed(Unmet),
    /// The table cannot be reached, and nothing was written.
    Unavailable,
    /// The table cannot be reached, and the write may have been applied, or may still be.
    OutcomeUnknown(NextStep),
    /// The table has a row that is not a user, or the handler has a bug.
    Internal(&'static str),
}

/// Which precondition does not hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unmet {
    /// `If-Match` does not name the current version.
    IfMatch,
    /// `If-None-Match: *`, and the user exists.
    IfNoneMatch,
    /// `If-Match` and `If-None-Match: *`, which exclude each other.
    Both,
}

/// What a client can do after a write whose outcome is unknown.
#[derive(Clone, Copy, Debug)]
pub(super) enum NextStep {
    /// The same request can be sent again: applied twice, it has the same effect.
    Repeat,
    /// If the write was applied, the same request is refused now, because its condition does not hold.
    Read,
    /// If the write was applied, the client does not know the id.
    PutInstead,
}

/// A write, as far as its errors depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Write<'a> {
    /// The creation of a user with a random id.
    Create,
    /// A put with this condition.
    Put(&'a PutCondition),
    /// A rename or a deletion with this condition.
    Change(&'a Condition),
}

impl Write<'_> {
    fn unmet(self) -> Unmet {
        match self {
            Write::Put(PutCondition::Absent) => Unmet::IfNoneMatch,
            Write::Create | Write::Put(_) | Write::Change(_) => Unmet::IfMatch,
        }
    }

    fn next_step(self) -> NextStep {
        match self {
            Write::Create => NextStep::PutInstead,
            Write::Put(PutCondition::Always) => NextStep::Repeat,
            Write::Put(PutCondition::Absent) => NextStep::Read,
            Write::Put(PutCondition::Present(condition)) | Write::Change(condition) => {
                match condition {
                    Condition::Exists => NextStep::Repeat,
                    Condition::OneOf(_) => NextStep::Read,
                }
            }
        }
    }
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
        // Logged at two places, because repetitions are folded by place: an outage must not hide a row
        // that cannot be read.
        match error {
            LoadError::Unavailable(_) => {
                log::error!("{error}");
                ApiError::Unavailable
            }
            LoadError::Unreadable(_) => {
                log::error!("{error}");
                ApiError::Internal(
                    "the stored row is not a user: it needs PartitionKey, RowKey and Name, all text; a PATCH of its name repairs it",
                )
            }
        }
    }
}

impl ApiError {
    /// The error of a failed write to the user with this id, as it was given.
    pub(super) fn from_write(error: WriteError, id: impl ToString, write: Write) -> Self {
        match error {
            WriteError::NotFound => ApiError::NoSuchUser(id.to_string()),
            WriteError::PreconditionFailed => ApiError::PreconditionFailed(write.unmet()),
            WriteError::NotApplied(_) => {
                log::error!("a write was not applied: {error}");
                ApiError::Unavailable
            }
            WriteError::Unknown(_) => {
                log::error!("a write may have been applied: {error}");
                ApiError::OutcomeUnknown(write.next_step())
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
            ApiError::PreconditionFailed(_) => StatusCode::PRECONDITION_FAILED,
            ApiError::Unavailable | ApiError::OutcomeUnknown(_) => StatusCode::SERVICE_UNAVAILABLE,
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
            ApiError::PreconditionFailed(unmet) => match unmet {
                Unmet::IfMatch => {
                    "the user has changed or is gone, or If-Match is not an entity tag: read it again and send its ETag unchanged"
                }
                Unmet::IfNoneMatch => {
                    "the user exists, and If-None-Match: * never replaces it: read it, and send its ETag in If-Match to replace it"
                }
                Unmet::Both => {
                    "If-Match needs a user that exists and If-None-Match: * one that does not: send one of them"
                }
            }
            .to_owned(),
            ApiError::Unavailable => {
                "the table is unavailable and nothing was changed: try again".to_owned()
            }
            ApiError::OutcomeUnknown(next_step) => format!(
                "the table did not answer in time and the change may have been applied: {}",
                match next_step {
                    NextStep::Repeat => "the same request can be sent again",
                    NextStep::Read => "read before trying again",
                    NextStep::PutInstead => {
                        "trying again may create a second user; a PUT with an id of your own can be repeated"
                    }
                }
            ),
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
            ApiError::Unavailable | ApiError::OutcomeUnknown(_) => {
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
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::reply::OPENAPI;
    use super::*;

    /// Each error, with each of its details.
    fn all() -> Vec<ApiError> {
        let mut all = vec![
            ApiError::NoSuchUser("01KB584F3Y9AF31621Q7N62Q67".to_owned()),
            ApiError::NoSuchPath,
            ApiError::MethodNotAllowed(vec![Method::GET, Method::HEAD]),
            ApiError::BadRequest("name must be 1 to 256 characters".to_owned()),
            BodyError::TooSlow.into(),
            BodyError::Dropped.into(),
            BodyError::TooLarge.into(),
            ApiError::UnsupportedMediaType,
            ApiError::Unavailable,
            LoadError::Unreadable("no Name".into()).into(),
        ];
        all.extend(
            [Unmet::IfMatch, Unmet::IfNoneMatch, Unmet::Both].map(ApiError::PreconditionFailed),
        );
        all.extend(
            [NextStep::Repeat, NextStep::Read, NextStep::PutInstead].map(ApiError::OutcomeUnknown),
        );
        for error in &all {
            // Without a wildcard, so that the compiler asks for a new error, which belongs in this list.
            match error {
                ApiError::NoSuchUser(_)
                | ApiError::NoSuchPath
                | ApiError::MethodNotAllowed(_)
                | ApiError::BadRequest(_)
                | ApiError::RequestTimeout
                | ApiError::LengthRequired
                | ApiError::PayloadTooLarge(_)
                | ApiError::UnsupportedMediaType
                | ApiError::PreconditionFailed(_)
                | ApiError::Unavailable
                | ApiError::OutcomeUnknown(_)
                | ApiError::Internal(_) => {}
            }
        }
        all
    }

    /// The errors in the OpenAPI document have the statuses, the texts and the headers of these.
    #[test]
    fn the_document_describes_each_error() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let described = document["components"]["responses"].as_object().unwrap();
        let mut examples = BTreeSet::new();
        for response in described.values() {
            let headers = response["headers"].as_object().unwrap();
            let content = &response["content"]["application/json"]["examples"];
            for example in content.as_object().into_iter().flatten() {
                let body = &example.1["value"];
                if let (Some(status), Some(detail)) =
                    (body["status"].as_str(), body["detail"].as_str())
                {
                    let [allow, retry] =
                        ["Allow", "Retry-After"].map(|name| headers.contains_key(name));
                    examples.insert((status.to_owned(), detail.to_owned(), allow, retry));
                }
            }
        }
        let has_detail =
            |error: &ApiError| !matches!(error, ApiError::NoSuchUser(_) | ApiError::NoSuchPath);
        let errors: BTreeSet<_> = all()
            .into_iter()
            .filter(has_detail)
            .map(|error| {
                let (status, detail) = (sentence(error.status()), error.detail());
                let response = error.into_response();
                let [allow, retry] =
                    [ALLOW, RETRY_AFTER].map(|name| response.headers().contains_key(name));
                (status, detail, allow, retry)
            })
            .collect();
        assert_eq!(examples, errors);
    }

    /// A 405 is not the answer to a call of the document.
    #[test]
    fn the_statuses_of_the_document_are_those_of_the_errors() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|path| path.as_object().unwrap().values());
        let described: BTreeSet<String> = operations
            .filter_map(|operation| operation["responses"].as_object())
            .flat_map(|responses| {
                responses.keys().filter(|status| status.as_str() >= "400").cloned()
            })
            .chain(["405".to_owned()])
            .collect();
        let errors: BTreeSet<_> =
            all().iter().map(|error| error.status().as_str().to_owned()).collect();
        assert_eq!(described, errors);
    }

    #[test]
    fn a_status_is_a_sentence() {
        assert_eq!(sentence(StatusCode::BAD_REQUEST), "Bad request");
        assert_eq!(sentence(StatusCode::UNSUPPORTED_MEDIA_TYPE), "Unsupported media type");
    }
}
