//! Copies of what this process has read, for the time when the store cannot be reached.
//!
//! A copy is never a shortcut: it is answered only when a load has failed, and marked as stale. A
//! write of this process drops the copy, and a read that began before that write may not bring the
//! old value back: so each write raises a generation, and a copy is kept only if the generation is
//! still the one noted before its read began.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ports::{Key, Stored};
use super::slot::Entry;

/// How many copies a process keeps; the least recently used go first.
const MOST: u64 = 10_000;

/// Generations are counted per stripe of keys, not per key: bounded, and a shared stripe only means
/// that now and then a copy is not kept.
const STRIPES: usize = 1024;

/// The copies of a process.
pub struct Copies<V> {
    copies: moka::sync::Cache<Key, Entry<V>>,
    generations: Vec<AtomicU64>,
    hasher: RandomState,
    longest: Duration,
}

/// The state of writes to a key at some moment.
#[derive(Clone, Copy, PartialEq)]
pub struct Generation(u64);

impl<V: Clone + Send + Sync + 'static> Copies<V> {
    /// Keeps copies for `ttl` plus `grace`; none at all if `grace` is zero.
    pub fn new(ttl: Duration, grace: Duration) -> Self {
        let longest = if grace.is_zero() { Duration::ZERO } else { ttl + grace };
        Self {
            copies: moka::sync::Cache::builder()
                .max_capacity(if grace.is_zero() { 0 } else { MOST })
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .time_to_live(longest)
                .build(),
            generations: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            longest,
        }
    }

    fn stripe(&self, key: Key) -> &AtomicU64 {
        &self.generations[self.hasher.hash_one(key) as usize % STRIPES]
    }

    /// The generation, to be noted before a read begins.
    pub fn generation(&self, key: Key) -> Generation {
        Generation(self.stripe(key).load(Ordering::SeqCst))
    }

    /// Keeps what was read, unless a write has begun or ended since `generation`, or a newer copy is
    /// there. That there is no such value is not kept, and drops what is there.
    pub fn keep(&self, key: Key, generation: Generation, entry: &Entry<V>) {
        if self.longest.is_zero() || self.generation(key) != generation {
            return;
        }
        if entry.found.is_none() {
            self.copies.invalidate(&key);
        } else if self.copies.get(&key).is_none_or(|copy| copy.loaded < entry.loaded) {
            self.copies.insert(key, entry.clone());
            // A write that began between the check and the insert has dropped nothing yet, or the
            // wrong copy: look once more. At worst a good copy goes.
            if self.generation(key) != generation {
                self.copies.invalidate(&key);
            }
        }
    }

    /// A write begins, or has ended: drops the copy, and what earlier reads would bring back.
    pub fn forget(&self, key: Key) {
        self.stripe(key).fetch_add(1, Ordering::SeqCst);
        self.copies.invalidate(&key);
    }

    /// The copy, if it is not too old, and how many seconds it had left (negative: past its expiry).
    pub fn get(&self, key: Key) -> Option<(Stored<V>, i64)> {
        let copy = self.copies.get(&key).filter(|copy| copy.age() <= self.longest)?;
        let seconds_left = copy.seconds_left();
        Some((copy.found?, seconds_left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_aside::ETag;
    use crate::cache_aside::slot::unix_millis;
    use ulid::Ulid;

    const KEY: Key = Key { kind: "user", id: Ulid(1) };

    fn copies() -> Copies<&'static str> {
        Copies::new(Duration::from_secs(10), Duration::from_secs(60))
    }

    fn entry(value: &'static str, loaded: u64) -> Entry<&'static str> {
        let found = Some(Stored { etag: ETag::new("1"), value });
        Entry { loaded, expires: loaded + 10_000, found }
    }

    fn value(copies: &Copies<&'static str>) -> Option<&'static str> {
        copies.get(KEY).map(|(stored, _)| stored.value)
    }

    #[test]
    fn a_read_that_began_before_a_write_does_not_bring_the_old_value_back() {
        let copies = copies();
        let before = copies.generation(KEY);
        copies.keep(KEY, before, &entry("old", unix_millis()));
        assert_eq!(value(&copies), Some("old"));
        copies.forget(KEY);
        assert_eq!(value(&copies), None);
        copies.keep(KEY, before, &entry("old", unix_millis()));
        assert_eq!(value(&copies), None);
    }

    #[test]
    fn a_copy_past_ttl_and_grace_is_not_answered() {
        let copies = copies();
        let generation = copies.generation(KEY);
        copies.keep(KEY, generation, &entry("old", unix_millis() - 71_000));
        assert_eq!(value(&copies), None);
        copies.keep(KEY, generation, &entry("young", unix_millis() - 69_000));
        assert_eq!(copies.get(KEY).map(|(_, left)| left < -58), Some(true));
    }

    #[test]
    fn an_older_entry_does_not_replace_a_newer_copy_and_not_found_drops_it() {
        let copies = copies();
        let generation = copies.generation(KEY);
        copies.keep(KEY, generation, &entry("new", unix_millis()));
        copies.keep(KEY, generation, &entry("old", unix_millis() - 5_000));
        assert_eq!(value(&copies), Some("new"));
        let gone = Entry { loaded: unix_millis(), expires: 0, found: None };
        copies.keep(KEY, generation, &gone);
        assert_eq!(value(&copies), None);
    }

    #[test]
    fn without_grace_nothing_is_kept() {
        let copies = Copies::new(Duration::from_secs(10), Duration::ZERO);
        copies.keep(KEY, copies.generation(KEY), &entry("old", unix_millis()));
        assert_eq!(value(&copies), None);
    }
}
