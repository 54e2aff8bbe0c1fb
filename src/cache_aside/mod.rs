//! The cache-aside pattern, told so that no stale value outlives a write.
//!
//! Plain cache-aside reads the cache, on a miss reads the store and sets the cache, and on a write
//! changes the store and deletes the key. Three things go wrong with it: a slow reader sets an old
//! value after a newer write has deleted the key; a writer dies between the store and the delete;
//! and concurrent misses all reach the store. Here a key holds one of four things instead:
//!
//! | slot | meaning |
//! | --- | --- |
//! | nothing | not cached |
//! | entry | a value, or that there is none; expires with its TTL |
//! | lease | one reader, anywhere, is loading it |
//! | fence | one or more writers, anywhere, are changing it, each with a deadline of its own |
//!
//! A read that finds nothing takes a **lease**, loads, and fills the entry in, which the cache
//! accepts only while the lease stands. A write puts a **fence** first, which breaks any lease and
//! keeps readers from caching, then changes the store, then releases the fence. A writer that dies
//! leaves a fence that ends by itself.
//!
//! What holds, then: reads are linearizable as long as every writer's fence and release reach the
//! cache, the cache keeps what it was given, and no write lands after its fence has expired. Where
//! the cache loses keys, a read still sees every write that was answered before it began. Where a
//! writer could not reach the cache, or the cache was rolled back, an entry may be old for at most
//! the lease's TTL plus the entry's; the process of a writer that could not reach the cache knows,
//! and reads past it. Answers from a copy while the store is out of reach are marked, and stand
//! outside of all this.
//!
//! Dropping one of these futures midway is as safe as a crash, and as slow: a lease or a fence is
//! left to end by itself. The HTTP face runs each request as a task of its own for that reason.

mod answer;
mod copies;
mod flight;
mod overdue;
mod ports;
mod slot;
mod times;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::answer::{Because, Read, Timing, Via, Written};
pub use self::ports::{
    Cache, CacheError, Condition, ETag, Key, LoadError, Store, Stored, WriteError,
};
pub use self::slot::{Entry, Fence, Slot, Token, fence_bytes, lease_bytes, unix_millis};
pub use self::times::{BrokenRule, LANDING_MARGIN, Times};

use self::copies::Copies;
use self::flight::{Flights, Leader, Seat};
use self::overdue::Overdue;

/// The pauses, in milliseconds, between looks at a lease that another holds; after the last, the
/// reader loads for itself. Together about a second.
const LEASE_PAUSES: [u64; 9] = [2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A load that cannot be filled in is shared only by who boards before it is sent: they are given this
/// moment. Without it, N readers of a hot key would each find the others' load just sent.
const GATHERING: Duration = Duration::from_millis(1);

/// An answer that readers of this process may share.
type Answer<V> = Result<(Entry<V>, Via), LoadError>;

/// What a reader gets when it asks for the lease.
enum Claim<V> {
    Leased(Token),
    Filled(Entry<V>),
    Refused(Because),
}

/// The pattern, on one cache and one store.
pub struct CacheAside<V> {
    cache: Arc<dyn Cache<V>>,
    store: Arc<dyn Store<V>>,
    times: Times,
    flights: Flights<Answer<V>>,
    /// Flights that keep off the cache, for keys that a release is owed for: their readers may share
    /// nothing with those who still believe what is cached.
    detours: Flights<Answer<V>>,
    copies: Copies<V>,
    overdue: Overdue,
}

impl<V: Clone + Send + Sync + 'static> CacheAside<V> {
    /// Joins a cache and a store. `times` must pass [`Times::check`], else the guarantees do not hold.
    pub fn new(cache: Arc<dyn Cache<V>>, store: Arc<dyn Store<V>>, times: Times) -> Self {
        let copies = Copies::new(times.ttl, times.stale_grace);
        Self {
            cache,
            store,
            times,
            flights: Flights::new(),
            detours: Flights::new(),
            copies,
            overdue: Overdue::default(),
        }
    }

    /// The cache, as it is told to callers.
    pub fn cache(&self) -> &Arc<dyn Cache<V>> {
        &self.cache
    }

    /// The store, as it is told to callers.
    pub fn store(&self) -> &Arc<dyn Store<V>> {
        &self.store
    }

    /// Reads a value: from the cache if it is there; from the store otherwise, once for all readers
    /// that ask at the same time; from an old copy, marked so, if the store cannot be reached.
    ///
    /// # Errors
    /// The store cannot be reached and this process has no copy that is young enough, or the stored
    /// value cannot be read. Failures of the cache are never errors.
    pub async fn get(&self, key: Key) -> Result<Read<V>, LoadError> {
        let mut timing = Timing::default();
        let generation = self.copies.generation(key);
        let mut gather = false;
        let answer = loop {
            let (slot, flights) = match self.overdue.contains(key) {
                true => (None, &self.detours), // an entry may be from before a write of ours
                false => (timing.cache(self.cache.get(key)).await.ok(), &self.flights),
            };
            if let Some(Slot::Entry(entry)) = slot {
                break Ok(hit(entry));
            }
            match flights.board(key) {
                Seat::Leader(flight) => {
                    break self.lead(flight, key, slot.is_some(), gather, &mut timing).await;
                }
                Seat::Joiner(joiner) => {
                    // The leader keeps the copy: it knows what came before its load.
                    if let Some(shared) = timing.store(joiner.landing()).await {
                        break shared.map(|(entry, via)| (entry, via.collapsed()));
                    }
                    gather = true; // others look again at this very moment
                }
            }
        };
        match answer {
            Ok((entry, via)) => {
                if !matches!(via, Via::Store { collapsed: true, .. }) {
                    self.copies.keep(key, generation, &entry);
                }
                Ok(Read { found: entry.found, via, timing })
            }
            Err(error @ LoadError::Unavailable(_)) => {
                let (copy, seconds_left) = self.copies.get(key).ok_or(error.clone())?;
                log::warn!("answering from a copy: {error}");
                Ok(Read { found: Some(copy), via: Via::Stale { seconds_left }, timing })
            }
            Err(error) => Err(error),
        }
    }

    /// Loads for all readers on this flight: lease, load, fill.
    async fn lead(
        &self,
        mut flight: Leader<'_, Answer<V>>,
        key: Key,
        cache_answers: bool,
        gather: bool,
        timing: &mut Timing,
    ) -> Answer<V> {
        let claim = if cache_answers {
            timing.cache(self.claim(&mut flight, key)).await
        } else {
            Claim::Refused(Because::Unreachable)
        };
        let (lease, because) = match claim {
            Claim::Leased(token) => (Some(token), Because::Nothing),
            Claim::Refused(because) => (None, because),
            Claim::Filled(entry) => {
                let answer = Ok(hit(entry));
                flight.land(answer.clone(), false);
                return answer;
            }
        };

        if gather || lease.is_none() {
            tokio::time::sleep(GATHERING).await;
        }
        flight.step();
        let loaded = unix_millis();
        let answer = match timing.store(self.store.load(key)).await {
            Ok(found) => {
                let (entry, ttl) = self.entry(loaded, found);
                let filled = match lease {
                    None => false,
                    Some(token) if ttl.is_zero() => {
                        timing.cache(self.forfeit(key, token)).await;
                        false
                    }
                    Some(token) => {
                        flight.close();
                        timing.cache(self.fill(key, token, &entry, ttl)).await
                    }
                };
                Ok((entry, Via::Store { because, filled, collapsed: false }))
            }
            Err(error) => {
                if let Some(token) = lease {
                    timing.cache(self.forfeit(key, token)).await;
                }
                Err(error)
            }
        };
        let filled = matches!(answer, Ok((_, Via::Store { filled: true, .. })));
        flight.land(answer.clone(), filled);
        answer
    }

    /// Asks for the lease, and waits a little while another reader holds it.
    async fn claim(&self, flight: &mut Leader<'_, Answer<V>>, key: Key) -> Claim<V> {
        for pause in LEASE_PAUSES.map(Some).into_iter().chain([None]) {
            let token = Token::new(); // never an old one: a lease that executes late must not be ours
            flight.step();
            match self.cache.lease(key, token, self.times.lease_ttl).await {
                Ok(Slot::Entry(entry)) => return Claim::Filled(entry),
                Ok(Slot::Lease(held)) if held == token => return Claim::Leased(token),
                Ok(Slot::Fence(_)) => return Claim::Refused(Because::Fence),
                Ok(Slot::Lease(_) | Slot::Nothing) => match pause {
                    Some(pause) => tokio::time::sleep(Duration::from_millis(pause)).await,
                    None => break,
                },
                Ok(Slot::Foreign) => {
                    log::warn!("a key held bytes that are none of ours; removing them");
                    if let Err(error) = self.cache.release(key, Token::new()).await {
                        log::debug!("release of foreign bytes under {key}: {error}");
                    }
                }
                Err(error) => {
                    log::debug!("lease of {key}: {error}");
                    return Claim::Refused(Because::Unreachable);
                }
            }
        }
        Claim::Refused(Because::Lease)
    }

    /// An entry for what was loaded, and how long it may live.
    fn entry(&self, loaded: u64, found: Option<Stored<V>>) -> (Entry<V>, Duration) {
        let ttl = match found {
            Some(_) => self.times.ttl,
            None => self.times.negative_ttl,
        };
        let ttl = ttl.mul_f64(1.0 - self.times.ttl_jitter * rand::random::<f64>());
        (Entry { loaded, expires: unix_millis() + ttl.as_millis() as u64, found }, ttl)
    }

    /// Fills the entry in; whether the cache accepted it. What was loaded is answered either way.
    async fn fill(&self, key: Key, token: Token, entry: &Entry<V>, ttl: Duration) -> bool {
        let filled = self.cache.fill(key, token, entry, ttl).await;
        filled.unwrap_or_else(|error| {
            log::debug!("fill of {key}: {error}");
            false
        })
    }

    async fn forfeit(&self, key: Key, token: Token) {
        if let Err(error) = self.cache.forfeit(key, token).await {
            log::debug!("forfeit of {key}: {error}");
        }
    }

    /// Adds a value. It needs no fence if nobody can have asked for its key before: let ids be random.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn insert(&self, key: Key, value: &V) -> Result<Written<ETag>, WriteError> {
        let mut timing = Timing::default();
        let outcome = timing.store(self.store.insert(key, value)).await?;
        Ok(Written { outcome, timing })
    }

    /// Changes a value that is there.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn update(
        &self,
        key: Key,
        value: &V,
        condition: &Condition,
    ) -> Result<Written<ETag>, WriteError> {
        self.fenced(key, self.store.update(key, value, condition)).await
    }

    /// Removes a value that is there.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete(&self, key: Key, condition: &Condition) -> Result<Written<()>, WriteError> {
        self.fenced(key, self.store.delete(key, condition)).await
    }

    /// Fence, write, release.
    async fn fenced<T>(
        &self,
        key: Key,
        write: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<Written<T>, WriteError> {
        let mut timing = Timing::default();
        let token = Token::new();
        timing.cache(self.fence(key, token)).await;
        self.copies.forget(key);
        let outcome = timing.store(write).await;
        self.copies.forget(key);
        match &outcome {
            // It may yet land: the fence must stand for its full time from now.
            Err(error) if !error.is_definite() => timing.cache(self.fence(key, token)).await,
            _ => timing.cache(self.release(key, token)).await,
        }
        Ok(Written { outcome: outcome?, timing })
    }

    /// Puts a fence that will outlast the write to come. Where the cache cannot be reached the write
    /// goes on without one; its release then bounds how long an old entry may live.
    async fn fence(&self, key: Key, token: Token) {
        let fence_ttl = self.times.fence_ttl;
        let budget = fence_ttl.saturating_sub(self.times.store_timeout + LANDING_MARGIN);
        loop {
            let sent = Instant::now();
            if let Err(error) = self.cache.fence(key, token, fence_ttl).await {
                log::debug!("fence of {key}: {error}");
                return;
            }
            // A process that was paused here has lost time that its write needs: fence again.
            if sent.elapsed() < budget {
                return;
            }
        }
    }

    /// Releases the fence, now or as soon as the cache can be reached.
    async fn release(&self, key: Key, token: Token) {
        if let Err(error) = self.cache.release(key, token).await {
            log::debug!("release of {key}, to be tried again: {error}");
            let give_up_after = self.times.lease_ttl + self.times.ttl;
            self.overdue.settle(Arc::clone(&self.cache), key, token, give_up_after);
        }
    }
}

fn hit<V>(entry: Entry<V>) -> (Entry<V>, Via) {
    let seconds_left = entry.seconds_left();
    (entry, Via::Hit { seconds_left })
}
