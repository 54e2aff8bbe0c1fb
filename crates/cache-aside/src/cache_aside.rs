//! The pattern: how a value is read and how it is written.
//!
//! A read ([`CacheAside::get`]):
//!
//! 1. If this process has a fresh local copy, return it. Otherwise look in the cache. If there is an entry,
//!    return it, and keep a copy.
//! 2. If another reader of this process is loading the value, wait for its result and use it, if this
//!    reader joined in time; if not, start again at 1, and after a time load without the others. Otherwise
//!    lead a load:
//! 3. Request the lease. While a reader of another process has it, wait a little; if a writer's fence
//!    is there, go on without a lease.
//! 4. Load from the store.
//! 5. With a lease, replace it with the entry, which the cache accepts only if the lease is still there.
//! 6. Share the result with the readers that joined, and return it.
//!
//! A write ([`CacheAside::write`]):
//!
//! 1. Place a fence: it removes the entry and the lease, and stops readers from filling. With local copies,
//!    wait until all of them have ended.
//! 2. Write to the store.
//! 3. If the outcome is known, release the fence; if the cache cannot be reached, keep trying in the
//!    background, and let the readers of this process bypass the cache meanwhile. With local copies, wait
//!    again if the fence may not have stood all the time.
//! 4. If the outcome is unknown, the write may still be applied: place the fence again, so that it
//!    lasts for its full time from now.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::answer::{Answer, Audit, Because, Read, Source, Written};
use crate::cache::{Cache, CacheError, Fill, Key, Release, Value};
use crate::call::Call;
use crate::clock::{Moment, unix_millis};
use crate::copies::Copies;
use crate::error::{LoadError, Outcome, WriteError};
use crate::lease::{self, Claim};
use crate::memory::MemoryCache;
use crate::observer::{Event, FenceEnd, Observer};
use crate::overdue::OverdueReleases;
use crate::policy::Policy;
use crate::shared_loads::{GATHERING, Leader, Role, SharedLoads};
use crate::slot::{Entry, Slot, Token};

/// Reads and writes values of a store through a cache.
///
/// `K` is the key, `V` the value, `E` the error of a load, and `C` the cache. Share it by reference
/// or in an [`Arc`]; all readers and writers of a process should use the same one.
///
/// Dropping a future of [`get`](Self::get) or [`write`](Self::write) before it has completed is
/// safe, but leaves its lease or fence in place until it expires. Spawn writes as separate tasks if
/// their callers may be cancelled.
pub struct CacheAside<K, V, E, C = MemoryCache<K, V>> {
    cache: Arc<C>,
    policy: Policy,
    pub(crate) loads: SharedLoads<K, Result<Answer<V>, E>>,
    /// Loads of keys with an overdue release, which bypass the cache. Apart from `loads`, because a load
    /// there can end with an older entry that was found in the cache.
    loads_without_cache: SharedLoads<K, Result<Answer<V>, E>>,
    copies: Copies<K, V>,
    overdue: OverdueReleases<K>,
    observer: Option<Arc<dyn Observer>>,
}

impl<K: Key, V: Value, E: LoadError, C: Cache<K, V>> CacheAside<K, V, E, C> {
    /// Creates the pattern over this cache.
    pub fn new(cache: C, policy: Policy) -> Self {
        Self {
            cache: Arc::new(cache),
            loads: SharedLoads::new(),
            loads_without_cache: SharedLoads::new(),
            copies: Copies::new(&policy),
            overdue: OverdueReleases::new(),
            observer: None,
            policy,
        }
    }

    /// Tells an observer what the pattern does, for metrics and traces. Without one, observing costs a
    /// few branches.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    fn call<'a>(&'a self, key: &'a K) -> Call<'a, K, C> {
        Call::new(&*self.cache, key, self.observer.as_deref())
    }

    /// Reads a value: from the cache if it is there, and otherwise with `load`, which is called once
    /// for all readers of this process that can share its result. If `load` fails because the store
    /// cannot be reached, a copy of an earlier answer is returned and marked as stale, if this
    /// process has one that is young enough.
    ///
    /// `load` returns `None` if it is certain that there is no such value.
    ///
    /// # Errors
    /// The error of the load. Failures of the cache are not errors.
    pub async fn get<L>(&self, key: &K, load: impl FnOnce() -> L) -> Result<Read<V>, E>
    where
        L: Future<Output = Result<Option<V>, E>>,
    {
        let mut call = self.call(key);
        // Noted first: a copy may be kept only if no write has begun since.
        let generation = self.copies.generation(key);
        let (entry, source) = match self.read(&mut call, load).await {
            Ok(answer) => {
                if let Some(seen) = answer.seen() {
                    self.copies.keep(key, generation, &answer.entry, seen);
                }
                (answer.entry, answer.source)
            }
            Err(error) => {
                let copy = if error.is_outage() { self.copies.stale(key) } else { None };
                let Some(copy) = copy else {
                    call.tell(Event::Read { source: None, is_found: false, timing: call.timing });
                    return Err(error);
                };
                log::warn!("returning a stale copy: {error}");
                let seconds_left = copy.seconds_left();
                (copy, Source::StaleCopy { seconds_left })
            }
        };
        let (value, timing) = (entry.found, call.timing);
        call.tell(Event::Read { source: Some(source), is_found: value.is_some(), timing });
        Ok(Read { value, source, timing })
    }

    /// Finds the value in a local copy or in the cache, or shares another reader's load, or leads a load.
    async fn read<L>(
        &self,
        call: &mut Call<'_, K, C>,
        load: impl FnOnce() -> L,
    ) -> Result<Answer<V>, E>
    where
        L: Future<Output = Result<Option<V>, E>>,
    {
        let mut attempt = Attempt::First;
        let mut gives_up = None;
        loop {
            let (leasing, loads) = if self.overdue.contains(call.key) {
                // A release is overdue, so the entry may be older than a write of this process.
                (Leasing::Denied(Because::CacheUnavailable), &self.loads_without_cache)
            } else if let Some(entry) = self.copies.fresh(call.key) {
                return Ok(Answer::local_copy(entry));
            } else {
                match call.get().await {
                    Ok(Slot::Entry(entry)) => return Ok(Answer::hit(entry, call.sent)),
                    Ok(_) => (Leasing::Possible, &self.loads),
                    Err(_) => (Leasing::Denied(Because::CacheUnavailable), &self.loads),
                }
            };
            let (leader, leasing) = match loads.join_or_lead(call.key) {
                Role::Leader(leader) => (leader, leasing),
                Role::Joiner(joiner) => {
                    // For all loads that it joins together.
                    let end = *gives_up
                        .get_or_insert_with(|| Instant::now() + self.policy.longest_lead());
                    // Boxed, as the load is: a hit does not have to reserve space for them.
                    match Box::pin(call.join(joiner, end)).await {
                        Ok(Some(result)) => return result.map(Answer::shared),
                        Ok(None) => {
                            attempt = Attempt::Again; // it joined too late to share the result
                            continue;
                        }
                        Err(_) => (loads.lead_alone(call.key), Leasing::Denied(Because::Leased)),
                    }
                }
            };
            return Box::pin(self.lead(call, leader, leasing, attempt, load)).await;
        }
    }

    /// Obtains the lease, loads, fills the entry in, and shares the result.
    async fn lead<L>(
        &self,
        call: &mut Call<'_, K, C>,
        mut leader: Leader<'_, K, Result<Answer<V>, E>>,
        leasing: Leasing,
        attempt: Attempt,
        load: impl FnOnce() -> L,
    ) -> Result<Answer<V>, E>
    where
        L: Future<Output = Result<Option<V>, E>>,
    {
        let claim = match leasing {
            Leasing::Possible => lease::claim(call, &mut leader, self.policy.lease_ttl).await,
            Leasing::Denied(because) => Claim::Denied(because),
        };
        let (lease, because) = match claim {
            Claim::Granted(token) => (Some(token), Because::NotCached),
            Claim::Denied(because) => (None, because),
            Claim::Found(entry) => {
                let answer = Ok(Answer::hit(entry, call.sent));
                leader.finish(answer.clone(), None);
                return answer;
            }
        };

        if attempt == Attempt::Again {
            tokio::time::sleep(GATHERING).await;
        }
        leader.count_request();
        let loaded_at = unix_millis();
        let mut fill = None;
        let result = match call.wait_for_store(load()).await {
            Ok(found) => {
                let load_sent = call.sent;
                let (entry, ttl) = self.new_entry(loaded_at, found);
                if let Some(token) = lease {
                    fill = self.fill(call, &mut leader, token, &entry, ttl).await;
                }
                Ok(match fill {
                    Some(Fill::Accepted) => Answer::stored(entry, because, call.sent),
                    _ => Answer::not_stored(entry, because, load_sent),
                })
            }
            Err(error) => {
                if let Some(token) = lease {
                    self.forfeit(call, token).await;
                }
                Err(error)
            }
        };
        leader.finish(result.clone(), fill);
        result
    }

    /// An entry for what was loaded, and how long it may be cached.
    fn new_entry(&self, loaded_at: u64, found: Option<V>) -> (Entry<V>, Duration) {
        let ttl = if found.is_some() { self.policy.ttl } else { self.policy.negative_ttl };
        let ttl = ttl.mul_f64(1.0 - self.policy.ttl_jitter * rand::random::<f64>());
        let expires = unix_millis() + ttl.as_millis() as u64;
        (Entry { loaded: loaded_at, expires, found }, ttl)
    }

    /// Replaces the lease with the entry. Returns whether the cache accepted it, or `None` if that is
    /// unknown or it was not asked.
    async fn fill(
        &self,
        call: &mut Call<'_, K, C>,
        leader: &mut Leader<'_, K, Result<Answer<V>, E>>,
        lease: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> Option<Fill> {
        if ttl.is_zero() {
            self.forfeit(call, lease).await; // "not found" is not cached
            return None;
        }
        // From now on a write may begin and complete before this reader learns that the fill was
        // accepted; a reader that begins after that write must not join.
        leader.close();
        let fill = call.fill(lease, entry, ttl).await.ok();
        call.tell(Event::Fill(fill));
        fill
    }

    async fn forfeit(&self, call: &mut Call<'_, K, C>, lease: Token) {
        // If it fails, the lease expires by itself.
        let _ = call.forfeit(lease).await;
    }

    /// Changes a value with `write`. No read that begins after this has returned sees an older
    /// value, as long as the cache can be reached (see the [guarantees](crate#what-is-guaranteed)).
    ///
    /// Any change needs it: an update, a removal, and the insertion under a key that someone may
    /// have read before, because "not found" is cached too. An insertion under a key that nobody can
    /// know, such as a random id, needs no cache at all.
    ///
    /// # Errors
    /// The error of the write. Failures of the cache are not errors.
    pub async fn write<T, W, F>(&self, key: &K, write: impl FnOnce() -> F) -> Result<Written<T>, W>
    where
        F: Future<Output = Result<T, W>>,
        W: WriteError,
    {
        let mut call = self.call(key);
        let token = Token::new();
        self.copies.forget(key);
        // If this fails, the write goes on: the release removes any older entry.
        let fence = self.fence(&mut call, token).await;
        let result = call.wait_for_store(write()).await;
        self.copies.forget(key);
        let end = match result.as_ref().map_err(WriteError::outcome) {
            Ok(_) | Err(Outcome::NotApplied) => {
                let end = match (fence, self.release(&mut call, token).await) {
                    (_, Err(_)) => FenceEnd::ReleaseOverdue,
                    // It may have been placed late, and its token found all the same.
                    (Err(_), Ok(_)) => FenceEnd::NotPlaced,
                    (Ok(()), Ok(Release::NotFound)) => FenceEnd::Lost,
                    (Ok(()), Ok(Release::Found)) => FenceEnd::Released,
                };
                if end != FenceEnd::Released {
                    // An old entry may have been filled and copied while the fence did not stand.
                    self.wait_for_copies(&mut call).await;
                }
                end
            }
            Err(Outcome::Unknown) => {
                // From now on it has its full time.
                if call.fence(token, self.policy.fence_ttl).await.is_err() {
                    // An older entry may be left. A release with another token removes it, and leaves
                    // this writer in its first fence, if that one was placed.
                    let _ = self.release(&mut call, Token::new()).await;
                }
                FenceEnd::Left
            }
        };
        call.tell(Event::Fence(end));
        Ok(Written { value: result?, timing: call.timing })
    }

    /// Places a fence that will outlast the write, and waits for the local copies. It waits as well if
    /// the fence cannot be placed. An error means that the cache has not confirmed it.
    async fn fence(&self, call: &mut Call<'_, K, C>, token: Token) -> Result<(), CacheError> {
        let mut confirmed = Ok(());
        loop {
            let begun = Moment::now();
            let fence = call.fence(token, self.policy.fence_ttl).await;
            // One without a reply may execute late, and put the token of a lost fence back, even if a later
            // one is confirmed.
            confirmed = confirmed.and(fence);
            self.wait_for_copies(call).await;
            if begun.elapsed() < self.policy.fence_budget() {
                return confirmed;
            }
            // This took too long, for example because the process was paused: too little of the
            // fence's time is left, even if only its reply was lost. Place it again.
        }
    }

    /// Waits until no process uses a copy of what the cache had up to now.
    async fn wait_for_copies(&self, call: &mut Call<'_, K, C>) {
        let wait = self.policy.wait_for_copies();
        if !wait.is_zero() {
            call.pause(wait).await;
        }
    }

    /// Releases the fence, now or as soon as the cache can be reached.
    async fn release(
        &self,
        call: &mut Call<'_, K, C>,
        token: Token,
    ) -> Result<Release, CacheError> {
        let release = call.release(token).await;
        if release.is_err() {
            let (cache, key) = (Arc::clone(&self.cache), call.key.clone());
            let longest_stale = self.policy.longest_stale();
            self.overdue.retry(cache, key, token, longest_stale, self.observer.clone());
        }
        release
    }

    /// Compares the cached value with the store's, and removes it if they differ although no write of
    /// this library explains it.
    ///
    /// If `load` returns another value than the cache has, the entry is read again. If the very same one
    /// still stands, no [`write`](Self::write) can have changed the value: it would have removed the entry
    /// before. So something else did, or the entry should not be there: see [`Audit::Differs`].
    ///
    /// Call it for a part of the hits, in a task of its own, to check the guarantees in production. `load`
    /// is called even if others are loading the value.
    ///
    /// # Errors
    /// The error of the load. Failures of the cache are not errors.
    pub async fn audit<L>(&self, key: &K, load: impl FnOnce() -> L) -> Result<Audit, E>
    where
        L: Future<Output = Result<Option<V>, E>>,
        V: PartialEq,
    {
        let mut call = self.call(key);
        let audit = self.compare(&mut call, load).await;
        call.tell(Event::Audit(audit.as_ref().ok().copied()));
        audit
    }

    async fn compare<L>(
        &self,
        call: &mut Call<'_, K, C>,
        load: impl FnOnce() -> L,
    ) -> Result<Audit, E>
    where
        L: Future<Output = Result<Option<V>, E>>,
        V: PartialEq,
    {
        let Ok(Slot::Entry(entry)) = call.get().await else {
            return Ok(Audit::Inconclusive);
        };
        if call.wait_for_store(load()).await? == entry.found {
            return Ok(Audit::Agrees);
        }
        match call.get().await {
            Ok(Slot::Entry(now)) if now == entry => {
                self.copies.forget(call.key);
                // As a writer would: no lease that was granted before is filled.
                let _ = self.release(call, Token::new()).await;
                Ok(Audit::Differs)
            }
            _ => Ok(Audit::Inconclusive),
        }
    }

    /// Checks whether the cache works.
    ///
    /// # Errors
    /// It cannot be reached, or cannot execute a step at the moment.
    pub async fn probe(&self) -> Result<(), CacheError> {
        self.cache.probe().await
    }
}

/// Whether a read can request a lease.
#[derive(Clone, Copy)]
enum Leasing {
    Possible,
    Denied(Because),
}

/// Whether this reader has already waited for a load that it could not share. Other readers waited
/// for the same load and start again now, so they should share the next one.
#[derive(Clone, Copy, PartialEq)]
enum Attempt {
    First,
    Again,
}
