//! The pattern: how a value is read and how it is written.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::answer::{Answer, Because, Read, Source, Written};
use crate::cache::{Cache, CacheError, Fill, Key, Value};
use crate::call::Call;
use crate::clock::unix_millis;
use crate::error::{LoadError, Outcome, WriteError};
use crate::lease::{self, Claim};
use crate::memory::MemoryCache;
use crate::overdue::OverdueReleases;
use crate::policy::Policy;
use crate::shared_loads::{Leader, Role, SharedLoads};
use crate::slot::{Entry, Slot, Token};
use crate::stale_copies::StaleCopies;

/// How long a load waits for readers to join it if its result cannot be cached. Such a load is
/// shared only with readers that joined before it was sent, so without this time N readers of one
/// key would load one after the other.
const GATHERING: Duration = Duration::from_millis(1);

/// Reads and writes values of a store through a cache.
///
/// `K` is the key, `V` the value, `E` the error of a load, and `C` the cache. Share it by reference
/// or in an [`Arc`]; all readers and writers of a process should use the same one.
///
/// Dropping a future of [`get`](Self::get) or [`write`](Self::write) before it has completed is as
/// safe as a crash, and as slow: its lease or its fence stays until it expires. Run writes in a task
/// of their own if their callers may go away.
pub struct CacheAside<K, V, E, C = MemoryCache<K, V>> {
    cache: Arc<C>,
    policy: Policy,
    pub(crate) loads: SharedLoads<K, Result<Answer<V>, E>>,
    /// Loads of keys with an overdue release. Their readers must not share a load with readers that
    /// may still use what is cached.
    loads_past_cache: SharedLoads<K, Result<Answer<V>, E>>,
    stale_copies: StaleCopies<K, V>,
    overdue: OverdueReleases<K>,
}

impl<K: Key, V: Value, E: LoadError, C: Cache<K, V>> CacheAside<K, V, E, C> {
    /// Puts the pattern in front of a store, with this cache.
    pub fn new(cache: C, policy: Policy) -> Self {
        Self {
            cache: Arc::new(cache),
            loads: SharedLoads::new(),
            loads_past_cache: SharedLoads::new(),
            stale_copies: StaleCopies::new(&policy),
            overdue: OverdueReleases::new(),
            policy,
        }
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
        let mut call = Call::new(&*self.cache, key);
        // Noted first: a copy may be kept only if no write has begun since.
        let generation = self.stale_copies.generation(key);
        let (entry, source) = match self.read(&mut call, load).await {
            Ok(answer) => {
                // The call that loaded it keeps the copy, since it began before the load.
                if !answer.is_shared() {
                    self.stale_copies.keep(key, generation, &answer.entry);
                }
                (answer.entry, answer.source)
            }
            Err(error) => {
                let copy = if error.is_outage() { self.stale_copies.get(key) } else { None };
                let Some(copy) = copy else { return Err(error) };
                log::warn!("returning a stale copy: {error}");
                let seconds_left = copy.seconds_left();
                (copy, Source::StaleCopy { seconds_left })
            }
        };
        Ok(Read { value: entry.found, source, timing: call.timing })
    }

    /// Finds the value in the cache, or shares another reader's load, or leads a load.
    async fn read<L>(
        &self,
        call: &mut Call<'_, K, C>,
        load: impl FnOnce() -> L,
    ) -> Result<Answer<V>, E>
    where
        L: Future<Output = Result<Option<V>, E>>,
    {
        let mut attempt = Attempt::First;
        loop {
            let (slot, loads) = if self.overdue.contains(call.key) {
                // The entry there may be from before a write of this process: do not look at it.
                (Err(Because::CacheUnavailable), &self.loads_past_cache)
            } else {
                (call.get().await.map_err(|_| Because::CacheUnavailable), &self.loads)
            };
            if let Ok(Slot::Entry(entry)) = slot {
                return Ok(Answer::hit(entry));
            }
            match loads.join_or_lead(call.key) {
                Role::Leader(leader) => {
                    return self.lead(call, leader, slot.map(|_| ()), attempt, load).await;
                }
                Role::Joiner(joiner) => match call.join(joiner).await {
                    Some(result) => return result.map(Answer::shared),
                    None => attempt = Attempt::Again, // it joined too late: look again
                },
            }
        }
    }

    /// Obtains the lease, loads, fills the entry in, and shares the result.
    async fn lead<L>(
        &self,
        call: &mut Call<'_, K, C>,
        mut leader: Leader<'_, K, Result<Answer<V>, E>>,
        cache: Result<(), Because>,
        attempt: Attempt,
        load: impl FnOnce() -> L,
    ) -> Result<Answer<V>, E>
    where
        L: Future<Output = Result<Option<V>, E>>,
    {
        let claim = match cache {
            Ok(()) => lease::claim(call, &mut leader, self.policy.lease_ttl).await,
            Err(because) => Claim::Denied(because),
        };
        let (lease, because) = match claim {
            Claim::Granted(token) => (Some(token), Because::NotCached),
            Claim::Denied(because) => (None, because),
            Claim::Found(entry) => {
                let answer = Ok(Answer::hit(entry));
                leader.finish(answer.clone(), Fill::Refused);
                return answer;
            }
        };

        if lease.is_none() || attempt == Attempt::Again {
            tokio::time::sleep(GATHERING).await;
        }
        leader.sending();
        let loaded = unix_millis();
        let mut fill = Fill::Refused;
        let answer = match call.store(load()).await {
            Ok(found) => {
                let (entry, ttl) = self.entry(loaded, found);
                if let Some(token) = lease {
                    fill = self.fill(call, &mut leader, token, &entry, ttl).await;
                }
                Ok(Answer::loaded(entry, because, fill))
            }
            Err(error) => {
                if let Some(token) = lease {
                    self.forfeit(call, token).await;
                }
                Err(error)
            }
        };
        leader.finish(answer.clone(), fill);
        answer
    }

    /// An entry for what was loaded, and how long it may be cached.
    fn entry(&self, loaded: u64, found: Option<V>) -> (Entry<V>, Duration) {
        let ttl = if found.is_some() { self.policy.ttl } else { self.policy.negative_ttl };
        let ttl = ttl.mul_f64(1.0 - self.policy.ttl_jitter * rand::random::<f64>());
        (Entry { loaded, expires: unix_millis() + ttl.as_millis() as u64, found }, ttl)
    }

    /// Replaces the lease by the entry.
    async fn fill(
        &self,
        call: &mut Call<'_, K, C>,
        leader: &mut Leader<'_, K, Result<Answer<V>, E>>,
        lease: Token,
        entry: &Entry<V>,
        ttl: Duration,
    ) -> Fill {
        if ttl.is_zero() {
            self.forfeit(call, lease).await; // "not found" is not to be remembered
            return Fill::Refused;
        }
        // From now on a write may begin and complete before this reader learns that the fill was
        // accepted; a reader that begins after that write must not join.
        leader.close();
        call.fill(lease, entry, ttl).await.unwrap_or(Fill::Refused)
    }

    async fn forfeit(&self, call: &mut Call<'_, K, C>, lease: Token) {
        // If it fails, the lease expires by itself.
        let _ = call.forfeit(lease).await;
    }

    /// Changes a value with `write`, and makes sure that no read which begins after this returns
    /// sees an older one.
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
        let mut call = Call::new(&*self.cache, key);
        let token = Token::new();
        self.fence(&mut call, token).await;
        self.stale_copies.forget(key);
        let result = call.store(write()).await;
        self.stale_copies.forget(key);
        match result.as_ref().map_err(WriteError::outcome) {
            Ok(_) | Err(Outcome::NotApplied) => self.release(&mut call, token).await,
            // It may still be applied: the fence must last for its full time from now.
            Err(Outcome::Unknown) => self.fence(&mut call, token).await,
        }
        Ok(Written { value: result?, timing: call.timing })
    }

    /// Places a fence that will outlast the write. If the cache cannot be reached, the write goes on
    /// without one; its release then limits how long an old entry can live.
    async fn fence(&self, call: &mut Call<'_, K, C>, token: Token) {
        loop {
            let sent = Instant::now();
            let placed = call.fence(token, self.policy.fence_ttl).await;
            // If the process was paused meanwhile, too little of the fence's time is left.
            if placed.is_err() || sent.elapsed() < self.policy.fence_budget() {
                return;
            }
        }
    }

    /// Releases the fence, now or as soon as the cache can be reached.
    async fn release(&self, call: &mut Call<'_, K, C>, token: Token) {
        if call.release(token).await.is_err() {
            let (cache, key) = (Arc::clone(&self.cache), call.key.clone());
            self.overdue.retry(cache, key, token, self.policy.longest_stale());
        }
    }

    /// Asks the cache whether it works.
    ///
    /// # Errors
    /// It cannot be reached, or does not take part in the protocol at the moment.
    pub async fn probe(&self) -> Result<(), CacheError> {
        self.cache.probe().await
    }
}

/// Whether a reader has waited in vain for a load that it could not share. Then others have too, and
/// start again at this moment: they should share the next load.
#[derive(Clone, Copy, PartialEq)]
enum Attempt {
    First,
    Again,
}
