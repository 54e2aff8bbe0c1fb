//! What the table service says when a call goes wrong, and what that means for a load and for a write.

use std::error::Error as _;

use azure_core::StatusCode;

use crate::cache_aside::{LoadError, WriteError};

/// What the service said, or what came instead.
pub(super) enum Fault {
    /// `ResourceNotFound`: there is no such entity.
    NotFound,
    /// `TableNotFound`: there is no such table.
    NoTable,
    /// `EntityAlreadyExists`.
    Exists,
    /// `UpdateConditionNotSatisfied`.
    ConditionFailed,
    /// Any other answer that will not change, or a request that never left.
    Refused(String),
    /// A request that never left this process, for want of a connection.
    NotSent(String),
    /// An entity that is not the value's.
    Unreadable(String),
    /// Anything else: whether the request was carried out, or will be, nobody can tell.
    Unknown(String),
}

impl From<azure_core::Error> for Fault {
    fn from(error: azure_core::Error) -> Self {
        use azure_core::error::ErrorKind;

        if let Some(http) = error.as_http_error() {
            let code = http.error_code().unwrap_or_default();
            let mut said = format!("{} {code}", http.status());
            if matches!(http.status(), StatusCode::Unauthorized | StatusCode::Forbidden) {
                said.push_str("; check the key, or that the identity has the role Storage Table Data Contributor");
            }
            return match (http.status(), code) {
                (StatusCode::NotFound, "ResourceNotFound") => Fault::NotFound,
                (StatusCode::NotFound, "TableNotFound") => Fault::NoTable,
                (StatusCode::Conflict, "EntityAlreadyExists") => Fault::Exists,
                (StatusCode::PreconditionFailed, _) => Fault::ConditionFailed,
                (StatusCode::RequestTimeout | StatusCode::TooManyRequests, _) => {
                    Fault::Unknown(said)
                }
                (status, _) if status.is_client_error() => Fault::Refused(said),
                _ => Fault::Unknown(said),
            };
        }
        let said = chain(&error);
        match error.kind() {
            _ if never_sent(&error) => Fault::NotSent(said),
            ErrorKind::Credential => Fault::Refused(said),
            // The cause may quote the row, and is left out.
            ErrorKind::DataConversion => Fault::Unreadable("not what was expected".to_owned()),
            _ => Fault::Unknown(said),
        }
    }
}

/// Whether the connection itself could not be made.
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

/// An error and its causes, in one line. reqwest's own words are left out: they have the URL in them,
/// and with it a shared access signature.
pub(super) fn chain(error: &azure_core::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !error.is::<reqwest::Error>() {
            said.push_str(&format!(": {error}"));
        }
        cause = error.source();
    }
    said
}

impl Fault {
    /// The same, of a read that comes before a write: whatever became of it, the write never left.
    pub(super) fn before_the_write(self) -> Self {
        match self {
            Fault::Unknown(said) => Fault::NotSent(said),
            other => other,
        }
    }

    /// Whether the same request may go better in a moment.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Fault::Unknown(_) | Fault::NotSent(_))
    }
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreadable(said) => LoadError::Unreadable(said),
            Fault::Refused(said) | Fault::NotSent(said) | Fault::Unknown(said) => {
                LoadError::Unavailable(said)
            }
            Fault::NotFound | Fault::NoTable | Fault::Exists | Fault::ConditionFailed => {
                LoadError::Unavailable("an answer that does not belong to a read".to_owned())
            }
        }
    }
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotFound => WriteError::NotFound,
            Fault::ConditionFailed => WriteError::PreconditionFailed,
            Fault::NoTable => WriteError::Refused("the table is gone".to_owned()),
            Fault::Exists => WriteError::Refused("it exists".to_owned()),
            Fault::Refused(said) | Fault::NotSent(said) => WriteError::Refused(said),
            // A 2xx whose headers or body cannot be read says nothing about the outcome.
            Fault::Unreadable(said) | Fault::Unknown(said) => WriteError::Unknown(said),
        }
    }
}
