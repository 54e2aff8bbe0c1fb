//! The in-process store of the embedded default: what it holds ends with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::cache_aside::{Condition, ETag, Key, LoadError, Store, Stored, WriteError};

/// A store inside this process.
pub struct MemoryStore<V> {
    rows: Mutex<Rows<V>>,
}

struct Rows<V> {
    by_key: HashMap<Key, Stored<V>>,
    versions: u64,
}

impl<V> Default for MemoryStore<V> {
    fn default() -> Self {
        Self { rows: Mutex::new(Rows { by_key: HashMap::new(), versions: 0 }) }
    }
}

impl<V> MemoryStore<V> {
    fn rows(&self) -> MutexGuard<'_, Rows<V>> {
        // Nothing panics while it is held, and the rows are whole after each of our operations.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Rows<V> {
    /// A weak tag, as the table's are.
    fn next_version(&mut self) -> ETag {
        self.versions += 1;
        ETag::new(format!("W/\"{}\"", self.versions))
    }

    fn check(&self, key: Key, condition: &Condition) -> Result<(), WriteError> {
        let stored = self.by_key.get(&key).ok_or(WriteError::NotFound)?;
        match condition {
            Condition::OneOf(etags) if !etags.contains(&stored.etag) => {
                Err(WriteError::PreconditionFailed)
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl<V: Clone + Send + Sync> Store<V> for MemoryStore<V> {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn load(&self, key: Key) -> Result<Option<Stored<V>>, LoadError> {
        Ok(self.rows().by_key.get(&key).cloned())
    }

    async fn insert(&self, key: Key, value: &V) -> Result<ETag, WriteError> {
        let mut rows = self.rows();
        if rows.by_key.contains_key(&key) {
            return Err(WriteError::Refused("it exists".to_owned()));
        }
        let etag = rows.next_version();
        rows.by_key.insert(key, Stored { etag: etag.clone(), value: value.clone() });
        Ok(etag)
    }

    async fn update(&self, key: Key, value: &V, condition: &Condition) -> Result<ETag, WriteError> {
        let mut rows = self.rows();
        rows.check(key, condition)?;
        let etag = rows.next_version();
        rows.by_key.insert(key, Stored { etag: etag.clone(), value: value.clone() });
        Ok(etag)
    }

    async fn delete(&self, key: Key, condition: &Condition) -> Result<(), WriteError> {
        let mut rows = self.rows();
        rows.check(key, condition)?;
        rows.by_key.remove(&key);
        Ok(())
    }

    async fn probe(&self) -> Result<(), LoadError> {
        Ok(())
    }

    fn probe_name(&self) -> &'static str {
        "in process"
    }
}
