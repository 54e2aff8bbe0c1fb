//! What the pattern needs to know about errors of the store.

use std::convert::Infallible;

/// An error of a load.
pub trait LoadError: Clone + std::fmt::Display + Send + Sync + 'static {
    /// Whether the store could not be reached or did not work. If so, a stale copy may be returned
    /// instead of the error, see [`Source::StaleCopy`](crate::Source::StaleCopy).
    fn is_outage(&self) -> bool;
}

/// An error of a write.
pub trait WriteError {
    /// Whether the write may have been applied, or may still be.
    fn outcome(&self) -> Outcome;
}

/// What is known about a write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not applied and will not be: the store refused it, or it was never sent.
    NotApplied,
    /// It may have been applied, or may still be: a timeout, a lost connection, an error of the
    /// store or of a gateway in front of it.
    Unknown,
}

impl LoadError for Infallible {
    fn is_outage(&self) -> bool {
        match *self {}
    }
}

impl WriteError for Infallible {
    fn outcome(&self) -> Outcome {
        match *self {}
    }
}
