//! What can go wrong with a request to the table service, and what it means for a load and for a
//! write.

use std::error::Error as _;

use azure_core::StatusCode;

use crate::store::{LoadError, WriteError};

/// Why a request did not succeed.
pub(super) enum Fault {
    /// `ResourceNotFound`: there is no such entity.
    NotFound,
    /// `TableNotFound`: there is no such table.
    NoTable,
    /// `EntityAlreadyExists`.
    Exists,
    /// `UpdateConditionNotSatisfied`.
    ConditionFailed,
    /// Any other refusal of the service, or a request that could not be made.
    Refused(String),
    /// The request was not sent, because there was no connection, or too many calls were in progress.
    NotSent(String),
    /// The entity is not a user.
    Unreadable(String),
    /// Anything else: the request may have been executed, or may still be.
    Unknown(String),
}

impl From<azure_core::Error> for Fault {
    fn from(error: azure_core::Error) -> Self {
        use azure_core::error::ErrorKind;

        if let Some(http) = error.as_http_error() {
            let code = http.error_code().filter(|code| is_code(code)).unwrap_or_default();
            let mut cause = format!("{} {code}", http.status());
            if matches!(http.status(), StatusCode::Unauthorized | StatusCode::Forbidden) {
                cause.push_str("; check the key, or that the identity has the role Storage Table Data Contributor");
            }
            return match (http.status(), code) {
                (StatusCode::NotFound, "ResourceNotFound") => Fault::NotFound,
                (StatusCode::NotFound, "TableNotFound") => Fault::NoTable,
                (StatusCode::Conflict, "EntityAlreadyExists") => Fault::Exists,
                (StatusCode::PreconditionFailed, _) => Fault::ConditionFailed,
                (StatusCode::RequestTimeout | StatusCode::TooManyRequests, _) => {
                    Fault::Unknown(cause)
                }
                (status, _) if status.is_client_error() => Fault::Refused(cause),
                _ => Fault::Unknown(cause),
            };
        }
        let cause = describe(&error);
        match error.kind() {
            _ if never_sent(&error) => Fault::NotSent(cause),
            ErrorKind::Credential => Fault::Refused(cause),
            // The cause is left out because it may quote the row.
            ErrorKind::DataConversion => Fault::Unreadable("not a user's row".to_owned()),
            _ => Fault::Unknown(cause),
        }
    }
}

/// Whether a code is a name, as those of the service are, and not any text from a header or a body: it is
/// logged and shown.
fn is_code(code: &str) -> bool {
    code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether no connection could be made.
fn never_sent(error: &azure_core::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error and its causes, in one line. reqwest's own messages are left out: they contain the URL,
/// and with it a shared access signature.
fn describe(error: &azure_core::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !error.is::<reqwest::Error>() {
            text.push_str(&format!(": {error}"));
        }
        cause = error.source();
    }
    text
}

impl Fault {
    /// The same fault, of a read that precedes a write: the write itself was not sent.
    pub(super) fn before_the_write(self) -> Self {
        match self {
            Fault::Unknown(cause) => Fault::NotSent(cause),
            other => other,
        }
    }

    /// The cause, if the table did not work, rather than answered.
    pub(super) fn outage(&self) -> Option<&str> {
        match self {
            Fault::Refused(cause) | Fault::NotSent(cause) | Fault::Unknown(cause) => Some(cause),
            Fault::NoTable => Some("there is no such table"),
            Fault::NotFound | Fault::Exists | Fault::ConditionFailed | Fault::Unreadable(_) => None,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Fault::Unknown(_) | Fault::NotSent(_))
    }
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreadable(cause) => LoadError::Unreadable(cause),
            Fault::Refused(cause) | Fault::NotSent(cause) | Fault::Unknown(cause) => {
                LoadError::Unavailable(cause)
            }
            Fault::NotFound | Fault::NoTable | Fault::Exists | Fault::ConditionFailed => {
                LoadError::Unavailable("an unexpected answer to a read".to_owned())
            }
        }
    }
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotFound => WriteError::NotFound,
            Fault::ConditionFailed => WriteError::PreconditionFailed,
            Fault::NoTable => WriteError::NotApplied("the table was deleted".to_owned()),
            Fault::Exists => WriteError::NotApplied("the user exists already".to_owned()),
            Fault::Refused(cause) | Fault::NotSent(cause) => WriteError::NotApplied(cause),
            // A 2xx whose headers or body cannot be read says nothing about the outcome.
            Fault::Unreadable(cause) | Fault::Unknown(cause) => WriteError::Unknown(cause),
        }
    }
}
