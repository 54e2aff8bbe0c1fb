//! What reads and writes return besides the value: where it came from and how long it took.

use std::time::Duration;

use crate::cache::Fill;
use crate::slot::Entry;

/// How long a call waited for the cache and for the store.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Timing {
    /// Time spent on steps of the cache, including the pauses while another reader held a lease;
    /// `None` if the cache was not asked.
    pub cache: Option<Duration>,
    /// Time spent on the store, including the time spent waiting for another reader's load; `None`
    /// if there was neither.
    pub store: Option<Duration>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The cache had it.
    Cache {
        /// The entry's remaining life, as in [`Entry::seconds_left`].
        seconds_left: i64,
    },
    /// It was loaded from the store.
    Store {
        /// Why the cache did not have it.
        because: Because,
        /// Who loaded it, and whether it is cached now.
        load: Load,
    },
    /// The store could not be reached, and this process still had a copy of an earlier answer.
    /// Outside of all guarantees: it may be older than a write that has completed since.
    StaleCopy {
        /// The remaining life of the entry that was copied, as in [`Entry::seconds_left`]; negative
        /// if it has expired.
        seconds_left: i64,
    },
}

/// Why a read went to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Because {
    /// Nothing was cached.
    NotCached,
    /// Another reader held a lease for longer than this one waits.
    Leased,
    /// A writer was changing the value.
    Fenced,
    /// The cache could not be reached, or a release of this process had not reached it yet.
    CacheUnavailable,
}

/// Who loaded a value, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Load {
    /// This call loaded it, and the cache accepted it as its entry: it is cached now.
    Stored,
    /// This call loaded it, and it was not cached.
    NotStored,
    /// Another call in this process loaded it.
    Shared,
}

/// The result of a read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Read<V> {
    /// The value; `None` if the store has none.
    pub value: Option<V>,
    /// Where it came from.
    pub source: Source,
    /// How long it waited for the cache and the store.
    pub timing: Timing,
}

/// The result of a write.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Written<T> {
    /// What the write returned.
    pub value: T,
    /// How long it waited for the cache and the store.
    pub timing: Timing,
}

/// An entry and where it came from: what readers of one process can share.
#[derive(Clone, Debug)]
pub(crate) struct Answer<V> {
    pub(crate) entry: Entry<V>,
    pub(crate) source: Source,
}

impl<V> Answer<V> {
    pub(crate) fn hit(entry: Entry<V>) -> Self {
        let seconds_left = entry.seconds_left();
        Self { entry, source: Source::Cache { seconds_left } }
    }

    pub(crate) fn loaded(entry: Entry<V>, because: Because, fill: Option<Fill>) -> Self {
        let load = if fill == Some(Fill::Accepted) { Load::Stored } else { Load::NotStored };
        Self { entry, source: Source::Store { because, load } }
    }

    /// The same answer, for a reader that shared another's load.
    pub(crate) fn shared(mut self) -> Self {
        if let Source::Store { load, .. } = &mut self.source {
            *load = Load::Shared;
        }
        self
    }

    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.source, Source::Store { load: Load::Shared, .. })
    }
}
