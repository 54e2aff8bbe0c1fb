//! What clients saw of one user: each operation with its start, its end and its effect.
//!
//! A user is a register. Each name is written at most once, so that a read tells which write it saw.
//! "No such user" is a value like any other: it is either what the register begins with, or what one
//! `DELETE` writes, and never both.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// A moment, in nanoseconds since the run began. One clock, that of the process with the clients, shows
/// all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

/// The value of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// There is no such user.
    None,
    /// The user has the name that this number makes.
    Number(u64),
}

/// What an operation did, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// It saw this value.
    Read(Value),
    /// It saw that the value was not this one: `412`.
    ReadOther(Value),
    /// It wrote this value.
    Write(Value),
    /// It wrote a value while another was there: a write on a condition, or a creation.
    Replace {
        /// The value that was there.
        old: Value,
        /// The value that it wrote.
        new: Value,
    },
    /// It was refused, and so wrote nothing.
    Nothing,
}

/// A request, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Before it was sent.
    pub start: Time,
    /// After its response was received. [`Time::NEVER`] for a write whose outcome the client does not
    /// know: it may take effect at any time after its start, or never.
    pub end: Time,
    /// What it did.
    pub effect: Effect,
    /// The call.
    pub call: Call,
    /// The handler that was asked, counted from 0.
    pub handler: u8,
}

/// The calls of the API that clients make, as far as they differ for a reader of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // they are named after the methods and headers
pub enum Call {
    Get,
    Patch,
    PatchIfMatch,
    Put,
    PutIfMatch,
    PutIfNoneMatch,
    Delete,
    DeleteIfMatch,
    /// A read of the table itself, past the handlers.
    Table,
}

/// The operations on one register, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// What the register holds before the first of them.
    pub initial: Value,
    /// The operations.
    pub operations: Vec<Operation>,
}

/// Records a history while it is made.
pub struct Recorder {
    operations: Mutex<Vec<Operation>>,
}

/// A write whose outcome is not known yet.
#[derive(Clone, Copy)]
pub struct InProgress(usize);

/// The clock of a run.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Time {
    /// After all others.
    pub const NEVER: Self = Self(u64::MAX);
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since it was started.
    pub fn now(self) -> Time {
        Time(self.0.elapsed().as_nanos() as u64)
    }
}

impl Effect {
    /// The value that it wrote, if it had an effect.
    pub fn written(self) -> Option<Value> {
        match self {
            Self::Write(value) | Self::Replace { new: value, .. } => Some(value),
            Self::Read(_) | Self::ReadOther(_) | Self::Nothing => None,
        }
    }
}

impl Recorder {
    /// A recorder with nothing in it.
    pub fn new() -> Self {
        Self { operations: Mutex::default() }
    }

    fn operations(&self) -> std::sync::MutexGuard<'_, Vec<Operation>> {
        // It is valid after each operation.
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a write before it is sent. Until its end is recorded, it may take effect at any time, so
    /// that what is recorded so far can be checked at any moment.
    pub fn begin(&self, write: Operation) -> InProgress {
        let mut operations = self.operations();
        operations.push(Operation { end: Time::NEVER, ..write });
        InProgress(operations.len() - 1)
    }

    /// Records the outcome of a write.
    pub fn end(&self, write: InProgress, end: Time, effect: Effect) {
        let mut operations = self.operations();
        let operation = &mut operations[write.0];
        (operation.end, operation.effect) = (end, effect);
    }

    /// Records an operation that has ended.
    pub fn add(&self, operation: Operation) {
        self.operations().push(operation);
    }

    /// What has been recorded so far.
    pub fn history(&self, initial: Value) -> History {
        History { initial, operations: self.operations().clone() }
    }

    /// How many operations have been recorded.
    pub fn len(&self) -> usize {
        self.operations().len()
    }

    /// Whether nothing has been recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.pad("unknown"),
            Self(nanos) => f.pad(&format!("{:.6}", nanos as f64 / 1e9)),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Number(number) => write!(f, "v{number}"),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(value) => write!(f, "read {value}"),
            Self::ReadOther(value) => write!(f, "read something else than {value}"),
            Self::Write(value) => write!(f, "wrote {value}"),
            Self::Replace { old, new } => write!(f, "replaced {old} by {new}"),
            Self::Nothing => f.write_str("was refused"),
        }
    }
}

impl Call {
    /// As in the request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::PatchIfMatch => "PATCH If-Match",
            Self::Put => "PUT",
            Self::PutIfMatch => "PUT If-Match",
            Self::PutIfNoneMatch => "PUT If-None-Match",
            Self::Delete => "DELETE",
            Self::DeleteIfMatch => "DELETE If-Match",
            Self::Table => "read of the row",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, effect, call, handler } = self;
        let of = match call {
            Call::Table => "the table".to_owned(),
            _ => format!("handler {handler}"),
        };
        write!(f, "{start:>11} to {end:>11} s  {of}  {:<17}  {effect}", call.name())
    }
}
