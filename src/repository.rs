//! Users in the store, read and changed through the cache.
//!
//! This is where the pattern is applied: every read of a user goes through [`CacheAside::get`], and
//! every change through [`CacheAside::write`]. Neither the cache nor the store is accessible from outside,
//! so that no change can bypass it.

use std::sync::Arc;
use std::time::Instant;

use cache_aside::{CacheAside, CacheError, Policy, Read, Source, Timing, Written};

use crate::audit::Auditor;
use crate::cache::{CacheKind, CachedUser, UserCache};
use crate::store::{Condition, ETag, LoadError, Put, PutCondition, Store, StoreKind, WriteError};
use crate::users::{User, UserDocument, UserId};

/// The users.
pub struct Repository {
    cached: Arc<CacheAside<UserId, CachedUser, LoadError, UserCache>>,
    cache_kind: CacheKind,
    store: Arc<dyn Store>,
    auditor: Auditor,
}

impl Repository {
    /// The users in this store, behind this cache.
    pub fn new(cache: UserCache, store: Arc<dyn Store>, policy: Policy, auditor: Auditor) -> Self {
        let cache_kind = cache.kind();
        Self { cache_kind, cached: Arc::new(CacheAside::new(cache, policy)), store, auditor }
    }

    /// Reads a user.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn get(&self, id: UserId) -> Result<Read<CachedUser>, LoadError> {
        let read = self.cached.get(&id, || load(&*self.store, id)).await?;
        if let Source::Cache { .. } = read.source {
            self.auditor.may_audit(|| {
                let (cached, store) = (Arc::clone(&self.cached), Arc::clone(&self.store));
                async move { cached.audit(&id, || load(&*store, id)).await }
            });
        }
        Ok(read)
    }

    /// Adds a user with an id that is new and random. The cache is not involved: nobody can have
    /// asked for that id before.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn create(&self, user: &User) -> Result<(ETag, Timing), WriteError> {
        let start = Instant::now();
        let etag = self.store.insert(user).await?;
        let mut timing = Timing::default();
        timing.store = Some(start.elapsed());
        Ok((etag, timing))
    }

    /// Changes a user that exists.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn update(
        &self,
        user: &User,
        condition: &Condition,
    ) -> Result<Written<ETag>, WriteError> {
        self.cached.write(&user.id, || self.store.update(user, condition)).await
    }

    /// Creates or replaces a user. Unlike that of [`Self::create`], the id is the caller's: somebody may
    /// have asked for it before, so that the cache may have it as "not found".
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn put(
        &self,
        user: &User,
        condition: &PutCondition,
    ) -> Result<Written<Put>, WriteError> {
        self.cached.write(&user.id, || self.store.put(user, condition)).await
    }

    /// Removes a user that exists.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete(
        &self,
        id: UserId,
        condition: &Condition,
    ) -> Result<Written<()>, WriteError> {
        self.cached.write(&id, || self.store.delete(id, condition)).await
    }

    /// Which cache it is.
    pub fn cache_kind(&self) -> CacheKind {
        self.cache_kind
    }

    /// Checks whether the cache works.
    ///
    /// # Errors
    /// It does not work.
    pub async fn probe_cache(&self) -> Result<(), CacheError> {
        self.cached.probe().await
    }

    /// Which store it is.
    pub fn store_kind(&self) -> StoreKind {
        self.store.kind()
    }

    /// What [`Self::probe_store`] does, for the health report.
    pub fn store_probe_description(&self) -> &'static str {
        self.store.probe_description()
    }

    /// Checks whether the store works.
    ///
    /// # Errors
    /// It does not work.
    pub async fn probe_store(&self) -> Result<(), LoadError> {
        self.store.probe().await
    }
}

async fn load(store: &dyn Store, id: UserId) -> Result<Option<CachedUser>, LoadError> {
    let user = store.load(id).await?;
    Ok(user.map(|user| user.map(UserDocument::from)))
}
