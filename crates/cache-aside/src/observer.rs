//! What an application can observe of the pattern, for its metrics and traces.

use std::time::Duration;

use crate::answer::{Audit, Source, Timing};
use crate::cache::{CacheError, Fill};

/// Is told what the pattern does.
///
/// It is called in the task of the call that it is told of, between two of its steps: it must return
/// quickly, and must not block. An [`OverdueReleaseEnded`](Event::OverdueReleaseEnded) and a
/// [`Circuit`](Event::Circuit) may come from a background task.
pub trait Observer: Send + Sync + 'static {
    /// Something has happened.
    fn observe(&self, event: Event<'_>);
}

/// What an [`Observer`] is told. None of it contains a key or a value.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step of the cache has ended. Not observed are [probes](crate::CacheAside::probe), and the
    /// attempts to repeat an overdue release.
    Step {
        /// Which step.
        step: Step,
        /// How long it took.
        took: Duration,
        /// Why it failed, if it did.
        error: Option<&'a CacheError>,
    },
    /// A call of [`get`](crate::CacheAside::get) has ended.
    Read {
        /// Where the value came from; `None` if the call has failed.
        source: Option<Source>,
        /// Whether there is a value.
        is_found: bool,
        /// How long the call waited for the cache and the store.
        timing: Timing,
    },
    /// A reader has asked the cache to replace its lease with an entry. `None` means that the cache's
    /// decision is unknown.
    Fill(Option<Fill>),
    /// A reader has found a lease of another process, and has stopped waiting for it.
    LeaseWait {
        /// The pauses and the looks in between.
        waited: Duration,
    },
    /// A call of [`write`](crate::CacheAside::write) has ended.
    Fence(FenceEnd),
    /// A call of [`audit`](crate::CacheAside::audit) has ended. `None` means that its load has failed.
    Audit(Option<Audit>),
    /// A release has not reached the cache, and is tried again in the background.
    ReleaseOverdue,
    /// An overdue release has reached the cache, or is no longer needed.
    OverdueReleaseEnded,
    /// Readers stop using the cache, because it fails, or use it again.
    Circuit {
        /// Whether readers do without the cache.
        is_open: bool,
    },
}

/// A step of the cache: a method of [`Cache`](crate::Cache).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// [`Cache::get`](crate::Cache::get).
    Get,
    /// [`Cache::lease`](crate::Cache::lease).
    Lease,
    /// [`Cache::fill`](crate::Cache::fill).
    Fill,
    /// [`Cache::forfeit`](crate::Cache::forfeit).
    Forfeit,
    /// [`Cache::fence`](crate::Cache::fence).
    Fence,
    /// [`Cache::release`](crate::Cache::release).
    Release,
}

impl Step {
    /// The name of the method.
    pub fn name(self) -> &'static str {
        match self {
            Step::Get => "get",
            Step::Lease => "lease",
            Step::Fill => "fill",
            Step::Forfeit => "forfeit",
            Step::Fence => "fence",
            Step::Release => "release",
        }
    }
}

/// What has become of a writer's fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FenceEnd {
    /// It stood until it was released, as it should.
    Released,
    /// The cache did not confirm that it was placed. Another process may have filled an old entry
    /// meanwhile, which the release has removed.
    NotPlaced,
    /// It had expired when it was released, or the cache had lost it.
    Lost,
    /// The release has not reached the cache, and is overdue now.
    ReleaseOverdue,
    /// It was left in place until it expires, because the outcome of the write is unknown.
    Left,
}
