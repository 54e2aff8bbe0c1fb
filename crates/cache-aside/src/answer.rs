//! What reads and writes return besides the value: where it came from and how long it took.

use std::time::Duration;

use crate::clock::Moment;
use crate::copies::Seen;
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
    /// This process had a copy of what the cache has, and did not ask it
    /// ([`PolicyBuilder::local_ttl`](crate::PolicyBuilder::local_ttl)).
    LocalCopy {
        /// The remaining life of the entry that was copied, as in [`Entry::seconds_left`].
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
    /// Another reader, of this process or of another, was loading for longer than this one waits.
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

/// What [`CacheAside::audit`](crate::CacheAside::audit) found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Audit {
    /// The cache and the store have the same value.
    Agrees,
    /// They differ, and no write through this library explains it. The entry was removed. Either another
    /// program has changed the value, or the cache was rolled back, or a writer could not reach the cache,
    /// or this library or its use has a bug.
    Differs,
    /// Nothing was cached, or the cache changed meanwhile.
    Inconclusive,
}

/// An entry and where it came from: what readers of one process can share.
#[derive(Clone, Debug)]
pub(crate) struct Answer<V> {
    pub(crate) entry: Entry<V>,
    pub(crate) source: Source,
    /// When the request that returned the entry was sent, or the fill that stored it.
    as_of: Moment,
}

impl<V> Answer<V> {
    /// An entry that a step of the cache returned, which was sent at this moment.
    pub(crate) fn hit(entry: Entry<V>, as_of: Moment) -> Self {
        let seconds_left = entry.seconds_left();
        Self { entry, source: Source::Cache { seconds_left }, as_of }
    }

    /// An entry of which this process has a fresh copy.
    pub(crate) fn local_copy(entry: Entry<V>) -> Self {
        let seconds_left = entry.seconds_left();
        Self { entry, source: Source::LocalCopy { seconds_left }, as_of: Moment::now() }
    }

    /// What a load returned, and the cache accepted in a fill that was sent at this moment.
    pub(crate) fn stored(entry: Entry<V>, because: Because, as_of: Moment) -> Self {
        Self { entry, source: Source::Store { because, load: Load::Stored }, as_of }
    }

    /// What a load returned that was sent at this moment.
    pub(crate) fn not_stored(entry: Entry<V>, because: Because, as_of: Moment) -> Self {
        Self { entry, source: Source::Store { because, load: Load::NotStored }, as_of }
    }

    /// The same answer, for a reader that shared another's load.
    pub(crate) fn shared(mut self) -> Self {
        if let Source::Store { load, .. } = &mut self.source {
            *load = Load::Shared;
        }
        self
    }

    /// What a copy may be made from; `None` for a load that was shared: the reader that loaded the
    /// value keeps the copy, and it noted its generation before the load.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let is_cached = match self.source {
            Source::Cache { .. } | Source::Store { load: Load::Stored, .. } => true,
            Source::Store { load: Load::NotStored, .. } => false,
            _ => return None,
        };
        Some(Seen { as_of: self.as_of, is_cached })
    }
}
