//! What a request can fail with, and its response.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use redis::RedisError;
use serde::Serialize;

use crate::reply;

pub(crate) enum ApiError {
    /// The request is invalid in this way.
    BadRequest(&'static str),
    /// Redis or the table failed, or cannot be reached.
    Internal,
}

impl From<RedisError> for ApiError {
    fn from(error: RedisError) -> Self {
        eprintln!("Redis: {error}");
        ApiError::Internal
    }
}

impl From<azure_core::Error> for ApiError {
    fn from(error: azure_core::Error) -> Self {
        eprintln!("the table: {error}");
        ApiError::Internal
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            status: &'static str,
            detail: &'static str,
        }
        let (code, status, detail) = match self {
            ApiError::BadRequest(detail) => (StatusCode::BAD_REQUEST, "Bad request", detail),
            ApiError::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal server error",
                "Redis or the table cannot be used: see the log",
            ),
        };
        reply::json(code, &Body { status, detail })
    }
}
