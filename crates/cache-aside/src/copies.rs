//! Copies of what this process has read.
//!
//! A copy is used in two ways:
//!
//! - **Fresh**, instead of asking the cache, if the policy has a
//!   [`local_ttl`](crate::PolicyBuilder::local_ttl). A copy is fresh for that time, counted from the
//!   moment the step that showed the entry in the cache was *sent*. A writer waits for the same time
//!   after its fence was placed, so that no copy from before its fence is fresh when it changes the value,
//!   and no entry can be seen while its fence stands. This is a lease on time: no messages are needed, only
//!   clocks that run at the same rate (C. Gray and D. Cheriton, *Leases: An Efficient Fault-Tolerant
//!   Mechanism for Distributed File Cache Consistency*, 1989).
//! - **Stale**, marked as such, when a load has failed because the store cannot be reached, if the policy
//!   has a [`stale_grace`](crate::PolicyBuilder::stale_grace).
//!
//! A write of this process drops the copy, and a read that began before that write must not bring the old
//! value back. So each write increments a generation, and a copy is kept only if the generation has not
//! changed since before the read began.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::{Key, Value};
use crate::clock::{Moment, unix_millis};
use crate::policy::Policy;
use crate::slot::Entry;

/// How many copies a process keeps. The least recently used are dropped first.
const CAPACITY: u64 = 10_000;

/// Generations are counted per stripe of keys, not per key, so that their number is bounded. Two
/// keys of one stripe share a generation, which now and then means that a copy is not kept.
const STRIPES: usize = 1024;

/// The copies of a process.
pub(crate) struct Copies<K, V> {
    copies: moka::sync::Cache<K, Copy<V>>,
    generations: Vec<AtomicU64>,
    hasher: RandomState,
    /// Zero: no copy is used while the cache can be asked.
    local_ttl: Duration,
    /// How old a stale copy may be; zero: none is used.
    stale_age: Duration,
}

#[derive(Clone)]
struct Copy<V> {
    entry: Entry<V>,
    as_of: Moment,
    fresh_for: Duration,
}

/// Identifies the state of writes to a key at some moment.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Generation(u64);

/// What a copy is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// When the request that returned the entry was sent, or the fill that stored it.
    pub(crate) as_of: Moment,
    /// Whether it was in the cache then.
    pub(crate) is_cached: bool,
}

impl<K: Key, V: Value> Copies<K, V> {
    /// Keeps copies for as long as this policy may use them; none if it never does.
    pub(crate) fn new(policy: &Policy) -> Self {
        let stale_age = match policy.stale_grace {
            Duration::ZERO => Duration::ZERO,
            grace => policy.ttl + grace,
        };
        Self {
            copies: moka::sync::Cache::builder()
                .max_capacity(CAPACITY)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                // Frees the memory. Whether a copy may be used is decided when it is.
                .time_to_live(stale_age.max(policy.local_ttl))
                .build(),
            generations: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            local_ttl: policy.local_ttl,
            stale_age,
        }
    }

    fn are_unused(&self) -> bool {
        self.local_ttl.is_zero() && self.stale_age.is_zero()
    }

    fn stripe(&self, key: &K) -> &AtomicU64 {
        &self.generations[self.hasher.hash_one(key) as usize % STRIPES]
    }

    /// The current generation, to be noted before a read begins.
    pub(crate) fn generation(&self, key: &K) -> Generation {
        Generation(self.stripe(key).load(Ordering::SeqCst))
    }

    /// Keeps what was read, unless a write has begun or ended since `generation`, or the copy that is
    /// there is newer.
    pub(crate) fn keep(&self, key: &K, generation: Generation, entry: &Entry<V>, seen: Seen) {
        let Seen { as_of, is_cached } = seen;
        if self.are_unused() || self.generation(key) != generation {
            return;
        }
        if self.local_ttl.is_zero() && entry.found.is_none() {
            self.copies.invalidate(key); // a stale copy would say that there is a value
            return;
        }
        let is_superseded = |copy: Copy<V>| {
            let is_same = self.local_ttl.is_zero() && copy.entry.loaded == entry.loaded;
            copy.as_of.is_before(&as_of) && !is_same
        };
        if self.copies.get(key).is_none_or(is_superseded) {
            // Never longer than the entry lives in the cache, so that changes by other programs show.
            let lives = as_of.elapsed() + entry.time_left();
            let fresh_for = if is_cached { self.local_ttl.min(lives) } else { Duration::ZERO };
            self.copies.insert(key.clone(), Copy { entry: entry.clone(), as_of, fresh_for });
            // A write that began after the check above may have invalidated the key before the
            // insert. At worst, this second check drops a valid copy.
            if self.generation(key) != generation {
                self.copies.invalidate(key);
            }
        }
    }

    /// Drops the copy because a write begins or has ended. Results of reads that began earlier are
    /// not kept.
    pub(crate) fn forget(&self, key: &K) {
        self.stripe(key).fetch_add(1, Ordering::SeqCst);
        self.copies.invalidate(key);
    }

    /// The copy, if no write that has returned can have changed the value since.
    pub(crate) fn fresh(&self, key: &K) -> Option<Entry<V>> {
        if self.local_ttl.is_zero() {
            return None;
        }
        let copy = self.copies.get(key)?;
        (copy.as_of.elapsed() < copy.fresh_for).then_some(copy.entry)
    }

    /// The copy, if it is not too old to be used while the store cannot be reached.
    pub(crate) fn stale(&self, key: &K) -> Option<Entry<V>> {
        if self.stale_age.is_zero() {
            return None;
        }
        let copy = self.copies.get(key)?;
        // Zero if `loaded` is ahead of this process's clock.
        let age = Duration::from_millis(unix_millis().saturating_sub(copy.entry.loaded));
        (copy.entry.found.is_some() && age <= self.stale_age).then_some(copy.entry)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    type TestCopies = Copies<u64, &'static str>;

    fn copies(local_ttl: Duration, stale_grace: Duration) -> TestCopies {
        let policy = Policy::builder().local_ttl(local_ttl).stale_grace(stale_grace);
        Copies::new(&policy.build().unwrap())
    }

    fn stale_copies() -> TestCopies {
        copies(Duration::ZERO, 60 * SECOND)
    }

    fn local_copies() -> TestCopies {
        copies(SECOND, Duration::ZERO)
    }

    fn entry(value: &'static str) -> Entry<&'static str> {
        let now = unix_millis();
        Entry { loaded: now, expires: now + 10_000, found: Some(value) }
    }

    /// Seen in the cache now.
    fn cached() -> Seen {
        Seen { as_of: Moment::now(), is_cached: true }
    }

    fn keep(copies: &TestCopies, entry: Entry<&'static str>, seen: Seen) {
        copies.keep(&1, copies.generation(&1), &entry, seen);
    }

    fn stale(copies: &TestCopies) -> Option<&'static str> {
        copies.stale(&1)?.found
    }

    fn fresh(copies: &TestCopies) -> Option<&'static str> {
        copies.fresh(&1)?.found
    }

    #[test]
    fn a_read_that_began_before_a_write_does_not_bring_the_old_value_back() {
        for (copies, value) in
            [(stale_copies(), stale as fn(&TestCopies) -> _), (local_copies(), fresh)]
        {
            let before = copies.generation(&1);
            copies.keep(&1, before, &entry("old"), cached());
            assert_eq!(value(&copies), Some("old"));
            copies.forget(&1);
            assert_eq!(value(&copies), None);
            copies.keep(&1, before, &entry("old"), cached());
            assert_eq!(value(&copies), None);
        }
    }

    #[test]
    fn a_copy_older_than_ttl_and_grace_is_not_returned() {
        let copies = stale_copies();
        let now = unix_millis();
        keep(&copies, Entry { loaded: now - 71_000, ..entry("old") }, cached());
        assert_eq!(stale(&copies), None);
        let expires = now - 59_000;
        keep(&copies, Entry { loaded: now - 69_000, expires, found: Some("young") }, cached());
        assert!(copies.stale(&1).unwrap().seconds_left() < -58);
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_answer_does_not_replace_a_newer_copy() {
        let copies = stale_copies();
        let older = cached();
        tokio::time::advance(SECOND).await;
        keep(&copies, entry("new"), cached());
        keep(&copies, entry("old"), older);
        assert_eq!(stale(&copies), Some("new"));
        // Even if the clock of the process that loaded the newest value is behind.
        tokio::time::advance(SECOND).await;
        keep(&copies, Entry { loaded: unix_millis() - 5_000, ..entry("newest") }, cached());
        assert_eq!(stale(&copies), Some("newest"));
    }

    #[test]
    fn not_found_drops_the_copy() {
        let copies = stale_copies();
        keep(&copies, entry("old"), cached());
        keep(&copies, Entry { found: None, ..entry("") }, cached());
        assert_eq!(stale(&copies), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_fresh_for_its_time_from_the_moment_its_request_was_sent() {
        let copies = local_copies();
        let sent = cached();
        tokio::time::advance(SECOND / 2).await; // the reply takes half a second
        keep(&copies, entry("Ann"), sent);
        tokio::time::advance(SECOND / 2 - Duration::from_millis(2)).await;
        assert_eq!(fresh(&copies), Some("Ann"));
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(fresh(&copies), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_of_a_reply_that_took_too_long_is_not_fresh() {
        let copies = local_copies();
        let sent = cached();
        tokio::time::advance(SECOND).await;
        keep(&copies, entry("Ann"), sent);
        assert_eq!(fresh(&copies), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_not_fresh_for_longer_than_its_entry_lives() {
        let copies = local_copies();
        let now = unix_millis();
        keep(&copies, Entry { loaded: now, expires: now + 300, found: Some("Ann") }, cached());
        tokio::time::advance(Duration::from_millis(298)).await;
        assert_eq!(fresh(&copies), Some("Ann"));
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(fresh(&copies), None);
    }

    #[test]
    fn what_was_not_in_the_cache_is_not_fresh() {
        let copies = copies(SECOND, 60 * SECOND);
        keep(&copies, entry("Ann"), Seen { is_cached: false, ..cached() });
        assert_eq!((fresh(&copies), stale(&copies)), (None, Some("Ann")));
    }

    #[test]
    fn not_found_can_be_fresh_and_is_never_a_stale_copy() {
        let copies = copies(SECOND, 60 * SECOND);
        keep(&copies, Entry { found: None, ..entry("") }, cached());
        assert!(copies.fresh(&1).is_some_and(|copy| copy.found.is_none()));
        assert!(copies.stale(&1).is_none());
    }

    #[test]
    fn copies_are_used_only_as_the_policy_says() {
        for (copies, expected) in [
            (copies(Duration::ZERO, Duration::ZERO), (None, None)),
            (copies(SECOND, Duration::ZERO), (Some("Ann"), None)),
            (copies(Duration::ZERO, SECOND), (None, Some("Ann"))),
        ] {
            keep(&copies, entry("Ann"), cached());
            assert_eq!((fresh(&copies), stale(&copies)), expected);
        }
    }

    #[test]
    fn the_number_of_copies_is_bounded() {
        let copies = local_copies();
        for key in 0..2 * CAPACITY {
            copies.keep(&key, copies.generation(&key), &entry("Ann"), cached());
        }
        copies.copies.run_pending_tasks();
        assert_eq!(copies.copies.entry_count(), CAPACITY);
    }

    /// A value that does something when it is cloned for the first time.
    struct Trap(Arc<Mutex<Option<Spring>>>);

    type Spring = Box<dyn FnOnce() + Send>;

    impl Clone for Trap {
        fn clone(&self) -> Self {
            let spring = self.0.lock().unwrap().take();
            if let Some(spring) = spring {
                spring();
            }
            Self(Arc::clone(&self.0))
        }
    }

    /// On two threads, `forget` can fall between any two operations of `keep`. If its invalidation comes
    /// after the insert, it drops the copy itself. This is the other case: the value is cloned after the
    /// first check of the generation, and before the insert.
    #[test]
    fn a_write_between_the_check_and_the_insert_leaves_no_copy() {
        let policy = Policy::builder().local_ttl(SECOND).build().unwrap();
        let copies = Arc::new(Copies::<u64, Trap>::new(&policy));
        let has_written = Arc::new(AtomicBool::new(false));
        let write: Spring = Box::new({
            let (copies, has_written) = (Arc::clone(&copies), Arc::clone(&has_written));
            move || {
                copies.forget(&1);
                has_written.store(true, Ordering::SeqCst);
            }
        });
        let value = Trap(Arc::new(Mutex::new(Some(write))));
        let now = unix_millis();
        let entry = Entry { loaded: now, expires: now + 10_000, found: Some(value) };
        let seen = cached();
        copies.keep(&1, copies.generation(&1), &entry, seen);
        assert!(has_written.load(Ordering::SeqCst));
        assert!(copies.fresh(&1).is_none());
        copies.keep(&1, copies.generation(&1), &entry, seen);
        assert!(copies.fresh(&1).is_some(), "without a write it is kept");
    }
}
