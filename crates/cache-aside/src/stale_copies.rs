//! Copies of what this process has read, used while the store cannot be reached.
//!
//! A copy is returned only when a load has failed, and is marked as stale. A write of this process
//! drops the copy, and a read that began before that write must not bring the old value back. So
//! each write increments a generation, and a copy is kept only if the generation has not changed since
//! before the read began.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::{Key, Value};
use crate::clock::unix_millis;
use crate::policy::Policy;
use crate::slot::Entry;

/// How many copies a process keeps. The least recently used are dropped first.
const CAPACITY: u64 = 10_000;

/// Generations are counted per stripe of keys, not per key, so that their number is bounded. Two
/// keys of one stripe share a generation, which now and then means that a copy is not kept.
const STRIPES: usize = 1024;

/// The copies of a process.
pub(crate) struct StaleCopies<K, V> {
    copies: moka::sync::Cache<K, Entry<V>>,
    generations: Vec<AtomicU64>,
    hasher: RandomState,
    max_age: Duration,
}

/// Identifies the state of writes to a key at some moment.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Generation(u64);

impl<K: Key, V: Value> StaleCopies<K, V> {
    /// Keeps copies for the TTL plus the grace of the policy; none if the grace is zero.
    pub(crate) fn new(policy: &Policy) -> Self {
        let (max_age, capacity) = match policy.stale_grace {
            Duration::ZERO => (Duration::ZERO, 0),
            grace => (policy.ttl + grace, CAPACITY),
        };
        Self {
            copies: moka::sync::Cache::builder()
                .max_capacity(capacity)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .time_to_live(max_age)
                .build(),
            generations: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            max_age,
        }
    }

    fn stripe(&self, key: &K) -> &AtomicU64 {
        &self.generations[self.hasher.hash_one(key) as usize % STRIPES]
    }

    /// The current generation, to be noted before a read begins.
    pub(crate) fn generation(&self, key: &K) -> Generation {
        Generation(self.stripe(key).load(Ordering::SeqCst))
    }

    /// Keeps what was read, unless a write has begun or ended since `generation`, or a newer copy
    /// is there. If the store had no value, the copy is dropped.
    pub(crate) fn keep(&self, key: &K, generation: Generation, entry: &Entry<V>) {
        if self.max_age.is_zero() || self.generation(key) != generation {
            return;
        }
        if entry.found.is_none() {
            self.copies.invalidate(key);
        } else if self.copies.get(key).is_none_or(|copy| copy.loaded < entry.loaded) {
            self.copies.insert(key.clone(), entry.clone());
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

    /// The copy, if it is not too old.
    pub(crate) fn get(&self, key: &K) -> Option<Entry<V>> {
        self.copies.get(key).filter(|copy| {
            // Zero if `loaded` is ahead of this process's clock.
            let age = unix_millis().saturating_sub(copy.loaded);
            Duration::from_millis(age) <= self.max_age
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Copies = StaleCopies<u64, &'static str>;

    fn copies() -> Copies {
        let grace = Duration::from_secs(60);
        StaleCopies::new(&Policy::builder().stale_grace(grace).build().unwrap())
    }

    fn entry(value: &'static str, loaded: u64) -> Entry<&'static str> {
        Entry { loaded, expires: loaded + 10_000, found: Some(value) }
    }

    fn value(copies: &Copies) -> Option<&'static str> {
        copies.get(&1)?.found
    }

    #[test]
    fn a_read_that_began_before_a_write_does_not_bring_the_old_value_back() {
        let copies = copies();
        let before = copies.generation(&1);
        copies.keep(&1, before, &entry("old", unix_millis()));
        assert_eq!(value(&copies), Some("old"));
        copies.forget(&1);
        assert_eq!(value(&copies), None);
        copies.keep(&1, before, &entry("old", unix_millis()));
        assert_eq!(value(&copies), None);
    }

    #[test]
    fn a_copy_older_than_ttl_and_grace_is_not_returned() {
        let copies = copies();
        let generation = copies.generation(&1);
        copies.keep(&1, generation, &entry("old", unix_millis() - 71_000));
        assert_eq!(value(&copies), None);
        copies.keep(&1, generation, &entry("young", unix_millis() - 69_000));
        assert!(copies.get(&1).unwrap().seconds_left() < -58);
    }

    #[test]
    fn an_older_entry_does_not_replace_a_newer_copy() {
        let copies = copies();
        let generation = copies.generation(&1);
        copies.keep(&1, generation, &entry("new", unix_millis()));
        copies.keep(&1, generation, &entry("old", unix_millis() - 5_000));
        assert_eq!(value(&copies), Some("new"));
    }

    #[test]
    fn not_found_drops_the_copy() {
        let copies = copies();
        let generation = copies.generation(&1);
        copies.keep(&1, generation, &entry("old", unix_millis()));
        copies.keep(&1, generation, &Entry { loaded: unix_millis(), expires: 0, found: None });
        assert_eq!(value(&copies), None);
    }

    #[test]
    fn without_grace_nothing_is_kept() {
        let copies = Copies::new(&Policy::default());
        copies.keep(&1, copies.generation(&1), &entry("old", unix_millis()));
        assert_eq!(value(&copies), None);
    }
}
