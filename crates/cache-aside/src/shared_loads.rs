//! One load for all readers of a process that want the same key at the same time.
//!
//! The usual single-flight lets a reader join any load in progress. That is not safe here: a load
//! that was sent before a write may return the old value, and a reader that starts after the write
//! would receive it. So a reader may take the result of another's load only if
//!
//! - it joined before the request that produced the result was sent, or
//! - the cache accepted the result as its entry, and the reader joined before that fill was sent:
//!   the cache accepts a fill only if no write has begun since the lease was granted.
//!
//! In the order of events:
//!
//! 1. The first reader that finds nothing cached becomes the leader.
//! 2. The leader asks for a lease, then sends the load. Before each of these it counts a request,
//!    and each joiner notes the count at the time it joins.
//! 3. The leader closes the load to further joiners and sends the fill. A reader that comes later
//!    leads a load of its own.
//! 4. The leader publishes the result, the number of the request that produced it, and whether the
//!    fill was accepted. A joiner that joined before that request takes the result; one that joined
//!    later takes it only if the fill was accepted, and otherwise starts again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::cache::{Fill, Key};
#[cfg(test)]
use crate::tests::scheduled::Weakening;

/// How long a leader that has started again waits for the others that start again at the same moment.
/// A load whose result is not cached is shared only with readers that joined before it was sent:
/// without this time, N readers of one key would load one after the other. The first load of a key does
/// not wait, so that a cache that cannot be reached costs a single reader nothing.
pub(crate) const GATHERING: Duration = Duration::from_millis(1);

/// The loads in progress in this process. At most one for each key is open to joiners.
pub(crate) struct SharedLoads<K, T> {
    // A std mutex, because it is held only for an operation on the map and never across an await.
    open: Mutex<HashMap<K, OpenLoad<T>>>,
}

/// A load that can be joined.
struct OpenLoad<T> {
    requests_sent: u32,
    #[cfg(test)]
    joined: usize,
    shared_result: watch::Receiver<Option<SharedResult<T>>>,
}

#[derive(Clone)]
struct SharedResult<T> {
    result: T,
    /// The number of the request that produced the result.
    produced_by: u32,
    /// Whether the cache accepted it as its entry; `None` if that is unknown or it was not asked.
    fill: Option<Fill>,
}

/// What a reader does next.
pub(crate) enum Role<'a, K: Key, T> {
    /// It loads, and others may join.
    Leader(Leader<'a, K, T>),
    /// It waits for another reader's load.
    Joiner(Joiner<T>),
}

/// The reader that loads. If it is dropped before it has finished, its joiners start again.
pub(crate) struct Leader<'a, K: Key, T> {
    loads: &'a SharedLoads<K, T>,
    key: K,
    requests_sent: u32,
    is_open: bool,
    shared_result: watch::Sender<Option<SharedResult<T>>>,
}

/// A reader that waits for another reader's load.
pub(crate) struct Joiner<T> {
    /// How many requests had been sent when it joined.
    joined_after: u32,
    shared_result: watch::Receiver<Option<SharedResult<T>>>,
}

impl<K: Key, T> SharedLoads<K, T> {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::new(HashMap::new()) }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<K, OpenLoad<T>>> {
        // Nothing panics while the lock is held, and the map is valid after each operation.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the load of this key if there is one that can be joined, or else leads a new one.
    pub(crate) fn join_or_lead(&self, key: &K) -> Role<'_, K, T> {
        let mut open = self.open();
        if let Some(load) = open.get_mut(key) {
            #[cfg(test)]
            {
                load.joined += 1;
            }
            let (joined_after, shared_result) = (load.requests_sent, load.shared_result.clone());
            return Role::Joiner(Joiner { joined_after, shared_result });
        }
        let (sender, receiver) = watch::channel(None);
        let load = OpenLoad {
            requests_sent: 0,
            #[cfg(test)]
            joined: 0,
            shared_result: receiver,
        };
        open.insert(key.clone(), load);
        Role::Leader(Leader {
            loads: self,
            key: key.clone(),
            requests_sent: 0,
            is_open: true,
            shared_result: sender,
        })
    }

    /// Leads a load that nobody can join.
    pub(crate) fn lead_alone(&self, key: &K) -> Leader<'_, K, T> {
        let shared_result = watch::Sender::new(None);
        Leader { loads: self, key: key.clone(), requests_sent: 0, is_open: false, shared_result }
    }

    /// How many readers have joined the load of this key.
    #[cfg(test)]
    pub(crate) fn joiners(&self, key: &K) -> usize {
        self.open().get(key).map_or(0, |load| load.joined)
    }
}

impl<K: Key, T> Leader<'_, K, T> {
    /// Counts a request that may produce the result. Call it right before the request is sent.
    pub(crate) fn count_request(&mut self) {
        self.requests_sent += 1;
        if !self.is_open {
            return; // what is open is the load of another leader
        }
        if let Some(load) = self.loads.open().get_mut(&self.key) {
            load.requests_sent = self.requests_sent;
        }
    }

    /// Lets no further reader join. Call it right before the fill is sent.
    pub(crate) fn close(&mut self) {
        #[cfg(test)]
        if Weakening::JoinAfterFill.is_on() {
            return;
        }
        self.remove();
    }

    fn remove(&mut self) {
        if self.is_open {
            self.is_open = false;
            self.loads.open().remove(&self.key);
        }
    }

    /// Publishes the result of the last request that was counted.
    pub(crate) fn finish(mut self, result: T, fill: Option<Fill>) {
        self.remove();
        let produced_by = self.requests_sent;
        self.shared_result.send_replace(Some(SharedResult { result, produced_by, fill }));
    }
}

impl<K: Key, T> Drop for Leader<'_, K, T> {
    fn drop(&mut self) {
        self.remove();
    }
}

impl<T: Clone> Joiner<T> {
    /// Waits for the result. `None` means that this reader may not use it and must start again.
    pub(crate) async fn result(mut self) -> Option<T> {
        // An error means that the leader was dropped.
        let shared_result = self.shared_result.wait_for(Option::is_some).await.ok()?.clone()?;
        let joined_in_time = self.joined_after < shared_result.produced_by;
        (joined_in_time || shared_result.fill == Some(Fill::Accepted))
            .then_some(shared_result.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Loads = SharedLoads<u64, &'static str>;

    fn lead(loads: &Loads) -> Leader<'_, u64, &'static str> {
        match loads.join_or_lead(&1) {
            Role::Leader(leader) => leader,
            Role::Joiner(_) => panic!("there is a load to join"),
        }
    }

    fn join(loads: &Loads) -> Joiner<&'static str> {
        match loads.join_or_lead(&1) {
            Role::Leader(_) => panic!("there is no load to join"),
            Role::Joiner(joiner) => joiner,
        }
    }

    #[tokio::test]
    async fn a_reader_that_joined_before_the_load_was_sent_shares_it_even_if_the_fill_is_refused() {
        let loads = Loads::new();
        let mut leader = lead(&loads);
        let early = join(&loads);
        leader.count_request();
        let late = join(&loads);
        leader.finish("loaded", Some(Fill::Refused));
        assert_eq!(early.result().await, Some("loaded"));
        assert_eq!(late.result().await, None);
    }

    #[tokio::test]
    async fn a_reader_that_joined_after_the_load_was_sent_shares_it_if_the_fill_is_accepted() {
        let loads = Loads::new();
        let mut leader = lead(&loads);
        leader.count_request();
        let late = join(&loads);
        leader.close();
        leader.finish("loaded", Some(Fill::Accepted));
        assert_eq!(late.result().await, Some("loaded"));
    }

    #[tokio::test]
    async fn a_reader_that_comes_after_the_fill_was_sent_leads_a_load_of_its_own() {
        let loads = Loads::new();
        let mut first = lead(&loads);
        first.count_request();
        first.close();
        let mut second = lead(&loads);
        first.finish("old", Some(Fill::Accepted));
        let joiner = join(&loads);
        second.count_request();
        second.finish("new", Some(Fill::Accepted));
        assert_eq!(joiner.result().await, Some("new"));
    }

    #[tokio::test]
    async fn only_the_request_that_produced_the_result_decides_who_joined_in_time() {
        let loads = Loads::new();
        let mut leader = lead(&loads);
        leader.count_request(); // the lease, which another reader holds
        let between = join(&loads);
        leader.count_request(); // the load
        leader.finish("loaded", Some(Fill::Refused));
        assert_eq!(between.result().await, Some("loaded"));
    }

    #[tokio::test]
    async fn a_leader_that_loads_alone_changes_nothing_for_those_who_joined_another() {
        let loads = Loads::new();
        let mut leader = lead(&loads);
        leader.count_request();
        leader.count_request();
        let mut alone = loads.lead_alone(&1);
        alone.count_request();
        let late = join(&loads);
        alone.finish("alone", None);
        assert_eq!(loads.joiners(&1), 1, "the load can still be joined");
        leader.finish("loaded", Some(Fill::Refused));
        assert_eq!(late.result().await, None);
    }

    #[tokio::test]
    async fn joiners_start_again_when_their_leader_is_dropped() {
        let loads = Loads::new();
        let leader = lead(&loads);
        let joiner = join(&loads);
        drop(leader);
        assert_eq!(joiner.result().await, None);
        lead(&loads);
    }
}
