//! The durations that the pattern works with, and the rules between them.

use std::time::Duration;

use crate::lease::LONGEST_WAIT;
use crate::shared_loads::GATHERING;

/// How long a write may take to be applied by the store after its caller has given up on it.
///
/// Part of the rule for [`PolicyBuilder::fence_ttl`]. It also covers a pause of the process between
/// its last check and the moment the write is sent.
pub const LATE_WRITE_MARGIN: Duration = Duration::from_secs(2);

/// How much longer a writer waits for the local copies to end than a reader may use them, as a part of
/// that time: the clocks of two machines may not run at the same rate.
///
/// Linux adjusts the rate of a clock by at most 500 parts per million
/// ([adjtimex(2)](https://man7.org/linux/man-pages/man2/adjtimex.2.html), `MAXFREQ` in the kernel's
/// `timex.h`), so two differ by at most twice that; the other half is for the clocks' hardware.
const CLOCK_RATE_MARGIN: f64 = 0.002;

/// The durations of the pattern. [`PolicyBuilder::build`] checks the rules between them, on which
/// the guarantees depend.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) ttl: Duration,
    pub(crate) ttl_jitter: f64,
    pub(crate) negative_ttl: Duration,
    pub(crate) local_ttl: Duration,
    pub(crate) stale_grace: Duration,
    pub(crate) lease_ttl: Duration,
    pub(crate) fence_ttl: Duration,
    pub(crate) cache_timeout: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) write_timeout: Duration,
}

impl Default for Policy {
    /// The defaults that [`PolicyBuilder`] documents.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            ttl_jitter: 0.1,
            negative_ttl: Duration::from_secs(2),
            local_ttl: Duration::ZERO,
            stale_grace: Duration::ZERO,
            lease_ttl: Duration::from_secs(4),
            fence_ttl: Duration::from_secs(10),
            cache_timeout: Duration::from_millis(100),
            load_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(3),
        }
    }
}

/// A value that [`PolicyBuilder::build`] does not accept.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// An entry must live for some time.
    #[error("the TTL must be more than zero")]
    ZeroTtl,
    /// At least a part of the TTL must be left.
    #[error("the TTL's jitter must be at least 0 and less than 1, not {0}")]
    Jitter(f64),
    /// A missing value must not be remembered for longer than a value.
    #[error("the negative TTL is {negative_ttl:?}, but must be at most the TTL, {ttl:?}")]
    NegativeTtl {
        /// The TTL for "not found".
        negative_ttl: Duration,
        /// The TTL.
        ttl: Duration,
    },
    /// A local copy must not be used for longer than the entry lives.
    #[error("the local TTL is {local_ttl:?}, but must be at most the TTL, {ttl:?}")]
    LocalTtl {
        /// The TTL of local copies.
        local_ttl: Duration,
        /// The TTL.
        ttl: Duration,
    },
    /// A load must end before its lease does.
    #[error(
        "the lease's TTL is {lease_ttl:?}, but must be at least the load timeout, {load_timeout:?}"
    )]
    LeaseTtl {
        /// The lease's TTL.
        lease_ttl: Duration,
        /// The bound on a load.
        load_timeout: Duration,
    },
    /// A write must have been applied before its fence ends, counted from the moment the fence was
    /// sent.
    #[error(
        "the fence's TTL is {fence_ttl:?}, but must exceed {minimum:?}, the cache timeout, the wait for local copies, the write timeout and {LATE_WRITE_MARGIN:?} together"
    )]
    FenceTtl {
        /// The fence's TTL.
        fence_ttl: Duration,
        /// What it must exceed.
        minimum: Duration,
    },
}

impl Policy {
    /// A builder with the default values.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder(Self::default())
    }

    /// How long an entry lives.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The largest part of the TTL that is taken off at random.
    pub fn ttl_jitter(&self) -> f64 {
        self.ttl_jitter
    }

    /// How long "not found" is remembered.
    pub fn negative_ttl(&self) -> Duration {
        self.negative_ttl
    }

    /// How long a process may use its own copy of an entry without asking the cache.
    pub fn local_ttl(&self) -> Duration {
        self.local_ttl
    }

    /// How long past its TTL a stale copy may be returned.
    pub fn stale_grace(&self) -> Duration {
        self.stale_grace
    }

    /// How long a reader may hold a lease.
    pub fn lease_ttl(&self) -> Duration {
        self.lease_ttl
    }

    /// How long a fence lasts that is not released.
    pub fn fence_ttl(&self) -> Duration {
        self.fence_ttl
    }

    /// The bound on one step of the cache.
    pub fn cache_timeout(&self) -> Duration {
        self.cache_timeout
    }

    /// The bound on a load.
    pub fn load_timeout(&self) -> Duration {
        self.load_timeout
    }

    /// The bound on a write.
    pub fn write_timeout(&self) -> Duration {
        self.write_timeout
    }

    /// The longest that a call of [`get`](crate::CacheAside::get) can take, if each step of the cache and
    /// each load keeps its bound: the cache timeout, and the load timeout.
    ///
    /// That is a reader that waits for others of its process for as long as any of them may take, and at
    /// the end of that time begins a load of its own.
    pub fn longest_read(&self) -> Duration {
        // Before it waits for others, and once more after that, it looks in the cache.
        2 * self.cache_timeout + 2 * self.longest_lead()
    }

    /// The longest that a call of [`write`](crate::CacheAside::write) can take, if each step of the cache
    /// and the write keeps its bound: the cache timeout, and the write timeout.
    pub fn longest_write(&self) -> Duration {
        3 * self.cache_timeout + 2 * self.wait_for_copies() + self.write_timeout
    }

    /// The longest that a reader takes to obtain a lease, load and fill, once it has looked in the cache.
    pub(crate) fn longest_lead(&self) -> Duration {
        // The last look for the lease may remove what it cannot read.
        let claim = LONGEST_WAIT + 2 * self.cache_timeout;
        claim + GATHERING + self.load_timeout + self.cache_timeout
    }

    /// How long a fence may take to be placed and still outlast the write that follows it.
    pub(crate) fn fence_budget(&self) -> Duration {
        self.fence_ttl.saturating_sub(self.write_timeout + LATE_WRITE_MARGIN)
    }

    /// How long a write waits until all local copies from before its fence have ended.
    pub(crate) fn wait_for_copies(&self) -> Duration {
        self.local_ttl.mul_f64(1.0 + CLOCK_RATE_MARGIN)
    }

    /// How long an entry from before a write can be left in the cache when the write's fence and
    /// release have not reached it: a lease taken before the write may still be filled.
    pub(crate) fn longest_stale(&self) -> Duration {
        self.lease_ttl + self.ttl
    }
}

/// Builds a [`Policy`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PolicyBuilder(Policy);

impl PolicyBuilder {
    /// How long an entry lives; 10 s by default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.0.ttl = ttl;
        self
    }

    /// The largest part of the TTL, and of the negative TTL, that is taken off at random, so that
    /// entries that were stored together do not expire together: from 0 to less than 1, 0.1 by
    /// default.
    pub fn ttl_jitter(mut self, part: f64) -> Self {
        self.0.ttl_jitter = part;
        self
    }

    /// How long "not found" is remembered, at most the TTL; zero: not at all. 2 s by default.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.0.negative_ttl = ttl;
        self
    }

    /// How long this process may use its own copy of an entry without asking the cache, at most the TTL;
    /// zero, the default: never.
    ///
    /// Reads stay linearizable, and a key that is read often costs the cache only about one step for
    /// each process and this time. The price is that each write takes this much longer. All processes
    /// that share a cache must have the same value: while they do not, a read may be stale for up to
    /// the longest of them.
    pub fn local_ttl(mut self, ttl: Duration) -> Self {
        self.0.local_ttl = ttl;
        self
    }

    /// How long past its TTL this process may return a copy of an earlier answer while the store
    /// cannot be reached; zero, the default: never.
    pub fn stale_grace(mut self, grace: Duration) -> Self {
        self.0.stale_grace = grace;
        self
    }

    /// How long a reader may hold a lease, at least the load timeout; 4 s by default.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.0.lease_ttl = ttl;
        self
    }

    /// How long a fence lasts that is not released: more than the cache timeout, the local TTL (with
    /// a margin of 0.2 %), the write timeout and [`LATE_WRITE_MARGIN`] together. 10 s by default.
    pub fn fence_ttl(mut self, ttl: Duration) -> Self {
        self.0.fence_ttl = ttl;
        self
    }

    /// The time within which your cache completes each step, reconnecting included; 100 ms by
    /// default. The pattern relies on it and does not enforce it.
    pub fn cache_timeout(mut self, bound: Duration) -> Self {
        self.0.cache_timeout = bound;
        self
    }

    /// The time within which your loads complete, all attempts together; 3 s by default. The
    /// pattern relies on it and does not enforce it.
    pub fn load_timeout(mut self, bound: Duration) -> Self {
        self.0.load_timeout = bound;
        self
    }

    /// The time within which your writes complete, all attempts together; 3 s by default. The
    /// pattern relies on it and does not enforce it.
    pub fn write_timeout(mut self, bound: Duration) -> Self {
        self.0.write_timeout = bound;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    /// The first rule that does not hold, see [`PolicyError`].
    pub fn build(self) -> Result<Policy, PolicyError> {
        let policy = self.0;
        let Policy { ttl, ttl_jitter, negative_ttl, local_ttl, .. } = policy;
        let Policy { lease_ttl, fence_ttl, load_timeout, .. } = policy;
        if ttl.is_zero() {
            return Err(PolicyError::ZeroTtl);
        }
        if !(0.0..1.0).contains(&ttl_jitter) {
            return Err(PolicyError::Jitter(ttl_jitter));
        }
        if negative_ttl > ttl {
            return Err(PolicyError::NegativeTtl { negative_ttl, ttl });
        }
        if local_ttl > ttl {
            return Err(PolicyError::LocalTtl { local_ttl, ttl });
        }
        if load_timeout > lease_ttl {
            return Err(PolicyError::LeaseTtl { lease_ttl, load_timeout });
        }
        let minimum = policy.cache_timeout
            + policy.wait_for_copies()
            + policy.write_timeout
            + LATE_WRITE_MARGIN;
        if fence_ttl <= minimum {
            return Err(PolicyError::FenceTtl { fence_ttl, minimum });
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_defaults_keep_the_rules() {
        assert!(Policy::builder().build().is_ok());
    }

    #[test]
    fn a_policy_that_breaks_a_rule_is_not_built() {
        let build = |change: fn(PolicyBuilder) -> PolicyBuilder| change(Policy::builder()).build();
        let error = |change| build(change).unwrap_err();
        assert_eq!(error(|it| it.ttl(Duration::ZERO)), PolicyError::ZeroTtl);
        assert_eq!(error(|it| it.ttl_jitter(1.0)), PolicyError::Jitter(1.0));
        assert!(matches!(error(|it| it.ttl_jitter(f64::NAN)), PolicyError::Jitter(_)));
        assert_eq!(
            error(|it| it.negative_ttl(11 * S)),
            PolicyError::NegativeTtl { negative_ttl: 11 * S, ttl: 10 * S }
        );
        assert_eq!(
            error(|it| it.load_timeout(5 * S)),
            PolicyError::LeaseTtl { lease_ttl: 4 * S, load_timeout: 5 * S }
        );
        let minimum = Duration::from_millis(5100);
        assert_eq!(
            build(|it| it.fence_ttl(Duration::from_millis(5100))).unwrap_err(),
            PolicyError::FenceTtl { fence_ttl: minimum, minimum }
        );
        assert!(build(|it| it.fence_ttl(Duration::from_millis(5101))).is_ok());
        assert!(build(|it| it.load_timeout(4 * S)).is_ok());
        assert_eq!(
            error(|it| it.local_ttl(11 * S)),
            PolicyError::LocalTtl { local_ttl: 11 * S, ttl: 10 * S }
        );
        let minimum = Duration::from_millis(5100 + 2004);
        assert_eq!(
            error(|it| it.local_ttl(2 * S).fence_ttl(Duration::from_millis(7104))),
            PolicyError::FenceTtl { fence_ttl: minimum, minimum }
        );
        assert!(build(|it| it.local_ttl(2 * S).fence_ttl(Duration::from_millis(7105))).is_ok());
    }

    /// The formulas in the README.
    #[test]
    fn the_longest_calls_follow_from_the_settings() {
        let millis = Duration::from_millis;
        let policy = Policy::builder().cache_timeout(millis(10)).load_timeout(millis(200));
        let policy = policy.write_timeout(millis(300)).local_ttl(millis(1000)).build().unwrap();
        assert_eq!(policy.longest_read(), 2 * millis(200) + 8 * millis(10) + millis(3002));
        assert_eq!(policy.longest_write(), millis(300) + 3 * millis(10) + 2 * millis(1002));
        let defaults = Policy::default();
        assert_eq!(
            (defaults.longest_read(), defaults.longest_write()),
            (millis(9802), millis(3300))
        );
    }
}
