//! The contract that an implementation of [`Cache`] must keep, as tests.
//!
//! [`cache_contract!`](crate::cache_contract) turns each rule into a test of its own:
//!
//! ```
//! # use cache_aside::MemoryCache;
//! #[cfg(test)]
//! mod my_cache {
//!     /// A new, empty cache, and whatever must live as long as it does, such as a server.
//!     async fn my_cache() -> (super::MemoryCache<String, String>, ()) {
//!         (super::MemoryCache::default(), ())
//!     }
//!
//!     cache_aside::cache_contract!(my_cache());
//! }
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used)] // tests may panic

use std::time::{Duration, Instant};

use crate::cache::{Cache, Fill, Release};
use crate::slot::{Entry, Slot, Token};

/// Generates a `#[tokio::test]` for each rule. The argument is an expression for a future of
/// `(cache, guard)`: a new cache for keys and values of type `String`, and whatever must live as
/// long as it does.
#[macro_export]
macro_rules! cache_contract {
    ($new_cache:expr) => {
        $crate::cache_contract! { @ $new_cache =>
            a_lease_is_granted_once
            a_lease_expires
            a_fill_replaces_its_own_lease_and_no_other
            a_fill_after_its_lease_has_expired_is_refused
            an_entry_expires
            not_found_is_an_entry
            a_forfeit_removes_its_own_lease_and_nothing_else
            a_fence_replaces_a_lease
            a_fence_replaces_an_entry
            no_lease_is_granted_while_a_fence_is_there
            a_lease_request_that_executes_late_grants_nothing_to_others
            the_last_release_removes_the_fence
            a_writer_leaves_the_fence_at_its_own_deadline
            a_shorter_fence_does_not_shorten_another_writers_fence
            a_fence_that_is_placed_again_gets_its_full_time_again
            a_release_removes_a_lease
            a_release_removes_an_entry
            a_release_of_nothing_does_nothing
            a_release_with_an_unknown_token_leaves_the_fence
            a_release_tells_whether_its_fence_has_stood
            keys_do_not_affect_each_other
            the_probe_succeeds
        }
    };
    (@ $new_cache:expr => $($rule:ident)*) => {$(
        #[tokio::test]
        async fn $rule() {
            let (cache, _guard) = $new_cache.await;
            $crate::testing::$rule(&cache).await;
        }
    )*};
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

/// How long a test waits for an event before it fails.
const TIMEOUT: Duration = Duration::from_secs(10);

fn key() -> String {
    "key".to_owned()
}

fn entry(value: &str) -> Entry<String> {
    Entry { loaded: 1, expires: 2, found: Some(value.to_owned()) }
}

async fn slot(cache: &impl Cache<String, String>) -> Slot<String> {
    cache.get(&key()).await.unwrap()
}

async fn lease(cache: &impl Cache<String, String>) -> Token {
    let token = Token::new();
    assert_eq!(cache.lease(&key(), token, LONG).await.unwrap(), Slot::Lease(token));
    token
}

async fn fill(cache: &impl Cache<String, String>, lease: Token, entry: &Entry<String>) -> Fill {
    cache.fill(&key(), lease, entry, LONG).await.unwrap()
}

async fn filled(cache: &impl Cache<String, String>, value: &str) {
    let token = lease(cache).await;
    assert_eq!(fill(cache, token, &entry(value)).await, Fill::Accepted);
}

async fn fence(cache: &impl Cache<String, String>, ttl: Duration) -> Token {
    let token = Token::new();
    cache.fence(&key(), token, ttl).await.unwrap();
    token
}

async fn release(cache: &impl Cache<String, String>, token: Token) -> Release {
    cache.release(&key(), token).await.unwrap()
}

async fn is_fenced(cache: &impl Cache<String, String>) -> bool {
    matches!(slot(cache).await, Slot::Fence(_))
}

/// Waits until the slot under a key has expired.
async fn expired(cache: &impl Cache<String, String>, key: &String) {
    let start = Instant::now();
    while cache.get(key).await.unwrap() != Slot::Nothing {
        assert!(start.elapsed() < TIMEOUT, "the slot does not expire");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until everything that was given [`SHORT`] before this call has expired: takes a lease
/// under another key, which expires last, and waits for that.
async fn short_has_passed(cache: &impl Cache<String, String>) {
    let clock = "clock".to_owned();
    // One millisecond more than the others, in case the cache rounds.
    cache.lease(&clock, Token::new(), SHORT + Duration::from_millis(1)).await.unwrap();
    expired(cache, &clock).await;
}

macro_rules! rules {
    ($($(#[$doc:meta])* async fn $rule:ident($cache:ident) $body:block)*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        /// The cache breaks the rule, or a step fails.
        pub async fn $rule($cache: &impl Cache<String, String>) $body
    )*};
}

rules! {
    /// A second lease is not granted while the first is there.
    async fn a_lease_is_granted_once(cache) {
        assert_eq!(slot(cache).await, Slot::Nothing);
        let held = lease(cache).await;
        let second = cache.lease(&key(), Token::new(), LONG).await.unwrap();
        assert_eq!(second, Slot::Lease(held));
        assert_eq!(slot(cache).await, Slot::Lease(held));
    }

    /// A lease that is not filled ends with its TTL.
    async fn a_lease_expires(cache) {
        cache.lease(&key(), Token::new(), SHORT).await.unwrap();
        expired(cache, &key()).await;
        lease(cache).await;
    }

    /// A fill needs the token of the lease that is there, and uses the lease up.
    async fn a_fill_replaces_its_own_lease_and_no_other(cache) {
        let token = lease(cache).await;
        assert_eq!(fill(cache, Token::new(), &entry("other")).await, Fill::Refused);
        assert_eq!(fill(cache, token, &entry("Ann")).await, Fill::Accepted);
        assert_eq!(fill(cache, token, &entry("again")).await, Fill::Refused);
        assert_eq!(slot(cache).await, Slot::Entry(entry("Ann")));
        let lease = cache.lease(&key(), Token::new(), LONG).await.unwrap();
        assert_eq!(lease, Slot::Entry(entry("Ann")));
    }

    /// An expired lease does not allow a fill.
    async fn a_fill_after_its_lease_has_expired_is_refused(cache) {
        let token = Token::new();
        cache.lease(&key(), token, SHORT).await.unwrap();
        expired(cache, &key()).await;
        assert_eq!(fill(cache, token, &entry("Ann")).await, Fill::Refused);
        assert_eq!(slot(cache).await, Slot::Nothing);
    }

    /// An entry ends with its TTL.
    async fn an_entry_expires(cache) {
        let token = lease(cache).await;
        cache.fill(&key(), token, &entry("Ann"), SHORT).await.unwrap();
        expired(cache, &key()).await;
    }

    /// A missing value is cached like any other.
    async fn not_found_is_an_entry(cache) {
        let token = lease(cache).await;
        let not_found = Entry { loaded: 1, expires: 2, found: None };
        assert_eq!(fill(cache, token, &not_found).await, Fill::Accepted);
        assert_eq!(slot(cache).await, Slot::Entry(not_found));
    }

    /// A forfeit leaves another reader's lease and any entry as they are.
    async fn a_forfeit_removes_its_own_lease_and_nothing_else(cache) {
        let held = lease(cache).await;
        cache.forfeit(&key(), Token::new()).await.unwrap();
        assert_eq!(slot(cache).await, Slot::Lease(held));
        cache.forfeit(&key(), held).await.unwrap();
        assert_eq!(slot(cache).await, Slot::Nothing);

        let token = lease(cache).await;
        fill(cache, token, &entry("Ann")).await;
        cache.forfeit(&key(), token).await.unwrap();
        assert_eq!(slot(cache).await, Slot::Entry(entry("Ann")));
    }

    /// A lease that a fence has replaced cannot be filled, not even after the fence is gone.
    async fn a_fence_replaces_a_lease(cache) {
        let held = lease(cache).await;
        let writer = fence(cache, LONG).await;
        assert_eq!(fill(cache, held, &entry("old")).await, Fill::Refused);
        assert!(is_fenced(cache).await);
        release(cache, writer).await;
        assert_eq!(fill(cache, held, &entry("old")).await, Fill::Refused);
        assert_eq!(slot(cache).await, Slot::Nothing);
    }

    /// An entry is gone once a writer has placed its fence.
    async fn a_fence_replaces_an_entry(cache) {
        filled(cache, "Ann").await;
        let writer = fence(cache, LONG).await;
        assert!(is_fenced(cache).await);
        release(cache, writer).await;
        assert_eq!(slot(cache).await, Slot::Nothing);
    }

    /// A lease request returns the fence instead.
    async fn no_lease_is_granted_while_a_fence_is_there(cache) {
        fence(cache, LONG).await;
        let answer = cache.lease(&key(), Token::new(), LONG).await.unwrap();
        assert!(matches!(answer, Slot::Fence(_)), "{answer:?}");
    }

    /// A lease request whose answer was lost executes after a write. Its reader uses another token
    /// by then, so nobody can fill that lease.
    async fn a_lease_request_that_executes_late_grants_nothing_to_others(cache) {
        let (lost, writer) = (Token::new(), fence(cache, LONG).await);
        release(cache, writer).await;
        cache.lease(&key(), lost, SHORT).await.unwrap();
        let next = cache.lease(&key(), Token::new(), LONG).await.unwrap();
        assert_eq!(next, Slot::Lease(lost));
        expired(cache, &key()).await;
    }

    /// A fence lasts until each of its writers has released it.
    async fn the_last_release_removes_the_fence(cache) {
        let (first, second) = (fence(cache, LONG).await, fence(cache, LONG).await);
        release(cache, second).await;
        assert!(is_fenced(cache).await);
        release(cache, second).await; // a repeated release has no effect
        assert!(is_fenced(cache).await);
        release(cache, first).await;
        assert_eq!(slot(cache).await, Slot::Nothing);
    }

    /// If a writer never releases, then after its deadline the release of the other writer removes
    /// the fence.
    async fn a_writer_leaves_the_fence_at_its_own_deadline(cache) {
        let (_crashed, other) = (fence(cache, SHORT).await, fence(cache, LONG).await);
        short_has_passed(cache).await;
        assert!(is_fenced(cache).await);
        release(cache, other).await;
        assert_eq!(slot(cache).await, Slot::Nothing);
    }

    /// A shorter fence does not end another writer's fence early.
    async fn a_shorter_fence_does_not_shorten_another_writers_fence(cache) {
        let (long, short) = (fence(cache, LONG).await, fence(cache, SHORT).await);
        short_has_passed(cache).await;
        assert!(is_fenced(cache).await);
        release(cache, short).await;
        assert!(is_fenced(cache).await);
        release(cache, long).await;
        assert_eq!(slot(cache).await, Slot::Nothing);
        // Alone, the shorter one does end.
        fence(cache, SHORT).await;
        expired(cache, &key()).await;
    }

    /// A writer may place its fence again: its deadline then counts from that moment.
    async fn a_fence_that_is_placed_again_gets_its_full_time_again(cache) {
        let writer = fence(cache, SHORT).await;
        cache.fence(&key(), writer, LONG).await.unwrap();
        short_has_passed(cache).await;
        assert!(is_fenced(cache).await);
        release(cache, writer).await;
        assert_eq!(slot(cache).await, Slot::Nothing);
    }

    /// A writer whose fence was lost still ends a lease that was granted since.
    async fn a_release_removes_a_lease(cache) {
        let token = lease(cache).await;
        release(cache, Token::new()).await;
        assert_eq!(slot(cache).await, Slot::Nothing);
        assert_eq!(fill(cache, token, &entry("old")).await, Fill::Refused);
    }

    /// A writer whose fence was lost still removes an entry that was filled since.
    async fn a_release_removes_an_entry(cache) {
        filled(cache, "old").await;
        release(cache, Token::new()).await;
        assert_eq!(slot(cache).await, Slot::Nothing);
    }

    /// A release may come late, or twice.
    async fn a_release_of_nothing_does_nothing(cache) {
        release(cache, Token::new()).await;
        assert_eq!(slot(cache).await, Slot::Nothing);
    }

    /// A release takes only its own writer out of a fence.
    async fn a_release_with_an_unknown_token_leaves_the_fence(cache) {
        fence(cache, LONG).await;
        release(cache, Token::new()).await;
        assert!(is_fenced(cache).await);
    }

    /// A release finds its writer in the fence once, and not after the writer's deadline.
    async fn a_release_tells_whether_its_fence_has_stood(cache) {
        assert_eq!(release(cache, Token::new()).await, Release::NotFound);
        filled(cache, "Ann").await;
        assert_eq!(release(cache, Token::new()).await, Release::NotFound);

        let (short, first, second) =
            (fence(cache, SHORT).await, fence(cache, LONG).await, fence(cache, LONG).await);
        assert_eq!(release(cache, Token::new()).await, Release::NotFound);
        assert_eq!(release(cache, first).await, Release::Found);
        assert_eq!(release(cache, first).await, Release::NotFound);
        short_has_passed(cache).await;
        assert_eq!(release(cache, short).await, Release::NotFound);
        assert_eq!(release(cache, second).await, Release::Found);
    }

    /// Each key has a slot of its own.
    async fn keys_do_not_affect_each_other(cache) {
        filled(cache, "Ann").await;
        let other = "other".to_owned();
        assert_eq!(cache.get(&other).await.unwrap(), Slot::Nothing);
        cache.fence(&other, Token::new(), LONG).await.unwrap();
        assert_eq!(slot(cache).await, Slot::Entry(entry("Ann")));
    }

    /// The probe of a working cache succeeds.
    async fn the_probe_succeeds(cache) {
        cache.probe().await.unwrap();
    }
}
