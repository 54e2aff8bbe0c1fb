//! What reads and writes answer: besides the value, where it came from and what it cost.

use std::time::{Duration, Instant};

use super::ports::Stored;

/// How long an operation waited for the cache and for the store.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// In the cache, pauses while another held a lease included.
    pub cache: Option<Duration>,
    /// In the store, waiting for another's load included.
    pub store: Option<Duration>,
}

impl Timing {
    pub(super) async fn cache<T>(&mut self, step: impl Future<Output = T>) -> T {
        timed(&mut self.cache, step).await
    }

    pub(super) async fn store<T>(&mut self, call: impl Future<Output = T>) -> T {
        timed(&mut self.store, call).await
    }
}

async fn timed<T>(total: &mut Option<Duration>, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    *total = Some(total.unwrap_or_default() + begun.elapsed());
    done
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Via {
    /// The cache had it, for so many more seconds.
    Hit {
        /// By the expiry that the entry carries; negative past it.
        seconds_left: i64,
    },
    /// The store had it.
    Store {
        /// Why the cache did not answer.
        because: Because,
        /// Whether the cache accepted it as its entry.
        filled: bool,
        /// Whether another reader of this process loaded it.
        collapsed: bool,
    },
    /// The store could not be reached; this is a copy that this process still had.
    Stale {
        /// By the expiry that the entry carried; negative past it.
        seconds_left: i64,
    },
}

/// Why a read went to the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Because {
    /// Nothing was there.
    Nothing,
    /// Another reader held a lease for longer than this one would wait.
    Lease,
    /// A writer's fence stood.
    Fence,
    /// The cache could not be reached.
    Unreachable,
}

/// What a read answers.
#[derive(Clone, Debug)]
pub struct Read<V> {
    /// The value, or that there is none.
    pub found: Option<Stored<V>>,
    /// Where it came from.
    pub via: Via,
    /// What it waited for.
    pub timing: Timing,
}

/// What a write answers.
#[derive(Clone, Copy, Debug)]
pub struct Written<T> {
    /// What the store answered: the new version, if there is one.
    pub outcome: T,
    /// What it waited for.
    pub timing: Timing,
}

impl Via {
    /// The same answer, seen by a reader that shared another's load.
    pub(super) fn collapsed(self) -> Self {
        match self {
            Via::Store { because, filled, .. } => Via::Store { because, filled, collapsed: true },
            other => other,
        }
    }
}
