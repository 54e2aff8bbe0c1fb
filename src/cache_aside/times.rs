//! The times that the pattern works with, and the two rules between them.

use std::time::Duration;

/// How long a write may take to land in the store after its caller has given up on it. Part of the
/// rule of time for fences; a pause of the process between its last check and the send eats from it.
pub const LANDING_MARGIN: Duration = Duration::from_secs(2);

/// The times that the pattern works with. See the rules in [`Times::check`].
#[derive(Clone, Debug)]
pub struct Times {
    /// How long an entry lives.
    pub ttl: Duration,
    /// The largest part of the TTL that is taken off at random, from 0 to 1, so that entries written
    /// together do not expire together.
    pub ttl_jitter: f64,
    /// How long "not found" is remembered; zero: not at all.
    pub negative_ttl: Duration,
    /// How long a reader may hold a lease.
    pub lease_ttl: Duration,
    /// How long a fence stands if its writer does not release it.
    pub fence_ttl: Duration,
    /// How long past its TTL a copy may be answered while the store is out of reach.
    pub stale_grace: Duration,
    /// The cache adapter's bound on one step.
    pub cache_timeout: Duration,
    /// The store adapter's bound on one call, all attempts together.
    pub store_timeout: Duration,
}

/// A rule of time that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenRule {
    /// `store_timeout <= lease_ttl`: a load must be over before its lease is.
    LeaseTooShort,
    /// `cache_timeout + store_timeout + LANDING_MARGIN < fence_ttl`: a write must have landed before
    /// its fence ends, counted from the moment the fence was sent.
    FenceTooShort,
}

impl Times {
    /// Checks the two rules on which the guarantees rest.
    pub fn check(&self) -> Result<(), BrokenRule> {
        if self.store_timeout > self.lease_ttl {
            return Err(BrokenRule::LeaseTooShort);
        }
        if self.cache_timeout + self.store_timeout + LANDING_MARGIN >= self.fence_ttl {
            return Err(BrokenRule::FenceTooShort);
        }
        Ok(())
    }
}
