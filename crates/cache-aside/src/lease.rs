//! Requesting the lease on a key, and waiting while another reader holds it.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use crate::answer::Because;
use crate::cache::{Cache, Key};
use crate::call::Call;
use crate::observer::Event;
use crate::shared_loads::Leader;
use crate::slot::{Entry, Slot, Token};

/// The pauses between looks at a lease that another reader holds: 2 ms, doubled up to 512 ms, about
/// a second in all. After the last one the reader loads without a lease.
const PAUSES: ExponentialBuilder =
    ExponentialBuilder::new().with_min_delay(Duration::from_millis(2)).with_max_times(9);

/// No look is made after this time, so that a slow cache does not prolong the wait.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(1500);

/// What a reader gets when it asks for the lease.
pub(crate) enum Claim<V> {
    /// The lease: what this reader loads may be cached.
    Granted(Token),
    /// No lease, because the cache has an entry by now.
    Found(Entry<V>),
    /// No lease: what this reader loads must not be cached.
    Denied(Because),
}

/// Requests the lease, and tells the observer if it had to wait for another reader's.
pub(crate) async fn claim<K, V, C, T>(
    call: &mut Call<'_, K, C>,
    leader: &mut Leader<'_, K, T>,
    ttl: Duration,
) -> Claim<V>
where
    K: Key,
    C: Cache<K, V>,
{
    let mut waiting_since = None;
    let claim = request(call, leader, ttl, &mut waiting_since).await;
    if let Some(since) = waiting_since {
        call.tell(Event::LeaseWait { waited: since.elapsed() });
    }
    claim
}

/// Requests the lease until it is granted, an entry is found, or it is denied.
async fn request<K, V, C, T>(
    call: &mut Call<'_, K, C>,
    leader: &mut Leader<'_, K, T>,
    ttl: Duration,
    waiting_since: &mut Option<Instant>,
) -> Claim<V>
where
    K: Key,
    C: Cache<K, V>,
{
    let begun = Instant::now();
    let mut is_held = false; // by another reader
    for pause in PAUSES.build().map(Some).chain([None]) {
        if begun.elapsed() > LONGEST_WAIT {
            break;
        }
        // A new token each time: a request that executes late, after a write, must not be mistaken
        // for this reader's lease.
        let token = Token::new();
        leader.count_request();
        // A look costs the cache less than a request, and changes nothing.
        let slot = if is_held { call.get().await } else { call.lease(token, ttl).await };
        is_held = false;
        match slot {
            Ok(Slot::Lease(holder)) if holder == token => return Claim::Granted(token),
            Ok(Slot::Entry(entry)) => return Claim::Found(entry),
            Ok(Slot::Fence(_)) => return Claim::Denied(Because::Fenced),
            Err(_) => return Claim::Denied(Because::CacheUnavailable),
            Ok(Slot::Lease(_)) => match pause {
                Some(pause) => {
                    is_held = true;
                    waiting_since.get_or_insert_with(Instant::now);
                    call.pause(pause).await;
                }
                None => break,
            },
            Ok(Slot::Nothing) => {} // the other reader's lease has ended
            Ok(Slot::Foreign) => {
                log::warn!("removing a cached value in an unknown format");
                // If it fails, so will the next attempt.
                let _ = call.release(Token::new()).await;
            }
        }
    }
    Claim::Denied(Because::Leased)
}
