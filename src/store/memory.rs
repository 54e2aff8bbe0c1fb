//! The in-process store, used if no table is configured. Users are lost when the process ends.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::users::{User, UserId};

use super::{
    Condition, ETag, LoadError, Put, PutCondition, Store, StoreKind, Versioned, WriteError,
};

/// A store inside this process.
#[derive(Default)]
pub struct MemoryStore {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    by_id: HashMap<UserId, Versioned<User>>,
    versions: u64,
}

impl MemoryStore {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Nothing panics while the lock is held, and the rows are valid after each operation.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    /// Stores a user as a new version. The tag is a weak one, as the table's are.
    fn store(&mut self, user: &User) -> ETag {
        self.versions += 1;
        let etag = ETag::new(format!("W/\"{}\"", self.versions));
        self.by_id.insert(user.id, Versioned { etag: etag.clone(), value: user.clone() });
        etag
    }

    fn check(&self, id: UserId, condition: &Condition) -> Result<(), WriteError> {
        let current = self.by_id.get(&id).ok_or(WriteError::NotFound)?;
        match condition {
            Condition::OneOf(etags) if !etags.contains(&current.etag) => {
                Err(WriteError::PreconditionFailed)
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, id: UserId) -> Result<Option<Versioned<User>>, LoadError> {
        Ok(self.rows().by_id.get(&id).cloned())
    }

    async fn insert(&self, user: &User) -> Result<ETag, WriteError> {
        let mut rows = self.rows();
        if rows.by_id.contains_key(&user.id) {
            return Err(WriteError::NotApplied("the user exists already".to_owned()));
        }
        Ok(rows.store(user))
    }

    async fn update(&self, user: &User, condition: &Condition) -> Result<ETag, WriteError> {
        let mut rows = self.rows();
        rows.check(user.id, condition)?;
        Ok(rows.store(user))
    }

    async fn put(&self, user: &User, condition: &PutCondition) -> Result<Put, WriteError> {
        let mut rows = self.rows();
        let exists = rows.by_id.contains_key(&user.id);
        let is_met = match condition {
            PutCondition::Always => true,
            PutCondition::Absent => !exists,
            PutCondition::Present(condition) => rows.check(user.id, condition).is_ok(),
        };
        if !is_met {
            return Err(WriteError::PreconditionFailed);
        }
        let etag = rows.store(user);
        Ok(if exists { Put::Replaced(etag) } else { Put::Created(etag) })
    }

    async fn delete(&self, id: UserId, condition: &Condition) -> Result<(), WriteError> {
        let mut rows = self.rows();
        rows.check(id, condition)?;
        rows.by_id.remove(&id);
        Ok(())
    }

    async fn probe(&self) -> Result<(), LoadError> {
        Ok(())
    }

    fn probe_description(&self) -> &'static str {
        "in process"
    }

    fn kind(&self) -> StoreKind {
        StoreKind::Memory
    }
}
