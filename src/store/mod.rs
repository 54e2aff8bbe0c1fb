//! The store of users, which is the source of truth: its interface, and its implementations on Azure Tables
//! and in this process.

mod memory;
mod table;

use async_trait::async_trait;
use cache_aside::Outcome;
use serde::{Deserialize, Serialize};

use crate::users::{User, UserId};

pub use self::memory::MemoryStore;
pub use self::table::{Concurrency, TableAccess, TableStore};

/// The version of a stored value, in the store's own notation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// The entity tag as the store writes it, including the quotes.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The entity tag as the store writes it, including the quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// The version.
    pub etag: ETag,
    /// The value.
    pub value: T,
}

impl<T> Versioned<T> {
    /// The same version with another form of the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Versioned<U> {
        Versioned { etag: self.etag, value: change(self.value) }
    }
}

/// Which versions a write may replace or remove.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Any version, but there must be one.
    Exists,
    /// One of these versions.
    OneOf(Vec<ETag>),
}

/// What must be stored for a [put](Store::put) to be applied.
#[derive(Clone, Debug, PartialEq)]
pub enum PutCondition {
    /// Anything or nothing: the user is created or replaced.
    Always,
    /// Nothing: the user is created, and never replaced.
    Absent,
    /// A version that this allows: the user is replaced, and never created.
    Present(Condition),
}

/// What a [put](Store::put) did, and the version that it stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was no such user.
    Created(ETag),
    /// There was one.
    Replaced(ETag),
}

/// Why a load failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// The store could not be reached, did not answer in time, or answered with an error.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored is not a user.
    #[error("the stored value cannot be read: {0}")]
    Unreadable(String),
}

impl cache_aside::LoadError for LoadError {
    fn is_outage(&self) -> bool {
        matches!(self, LoadError::Unavailable(_))
    }
}

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// There is no such user. Nothing was changed.
    #[error("not found")]
    NotFound,
    /// The condition does not allow the current version. Nothing was changed.
    #[error("the condition does not hold")]
    PreconditionFailed,
    /// The store refused the write, or it was never sent. Nothing was changed.
    #[error("{0}")]
    NotApplied(String),
    /// The write may have been applied, or may still be.
    #[error("{0}")]
    Unknown(String),
}

impl cache_aside::WriteError for WriteError {
    fn outcome(&self) -> Outcome {
        match self {
            WriteError::NotFound | WriteError::PreconditionFailed | WriteError::NotApplied(_) => {
                Outcome::NotApplied
            }
            WriteError::Unknown(_) => Outcome::Unknown,
        }
    }
}

/// A store of users.
///
/// Each call completes within a time that the implementation was given, all its attempts together.
/// `tests/integration/store_contract.rs` has the contract as tests.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads a user. Returns `None` only if it is certain that there is none.
    async fn load(&self, id: UserId) -> Result<Option<Versioned<User>>, LoadError>;

    /// Adds a user that does not exist. An attempt whose outcome is unknown may be repeated: if the
    /// store then has exactly this user, it was added.
    async fn insert(&self, user: &User) -> Result<ETag, WriteError>;

    /// Changes a user that exists. Not repeated after an unknown outcome.
    async fn update(&self, user: &User, condition: &Condition) -> Result<ETag, WriteError>;

    /// Stores a user, whether or not it exists, if the condition holds; otherwise fails with
    /// [`WriteError::PreconditionFailed`], and never with [`WriteError::NotFound`]. Of concurrent puts of
    /// a new id, one creates it. Not repeated after an unknown outcome: an attempt that was applied may
    /// have been followed by another client's write, which a second attempt would undo.
    async fn put(&self, user: &User, condition: &PutCondition) -> Result<Put, WriteError>;

    /// Removes a user that exists. Not repeated after an unknown outcome.
    async fn delete(&self, id: UserId, condition: &Condition) -> Result<(), WriteError>;

    /// Checks whether the store works.
    async fn probe(&self) -> Result<(), LoadError>;

    /// What [`Store::probe`] does, for the health report.
    fn probe_description(&self) -> &'static str;

    /// Which store it is.
    fn kind(&self) -> StoreKind;
}

/// Which store it is, as the health report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A table of Azure Table Storage.
    Table,
    /// Inside this process.
    Memory,
}
