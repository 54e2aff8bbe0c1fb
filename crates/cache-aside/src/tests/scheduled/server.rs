//! The cache and the store at the other end: what executes requests. The cache is the library's own
//! [`MemoryCache`], which keeps the same contract as Redis; mutations are added around it.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::network::{KEY, Message, Reply, Version};
use super::scope::Mutation;
use crate::clock::unix_millis;
use crate::{Cache, Fill, MemoryCache, Release, Slot, Token};

/// The cache and the store.
pub(super) struct Server {
    cache: MemoryCache<u64, Version>,
    /// Deadlines in fences are milliseconds from here.
    pub(super) epoch: Instant,
    /// The same moment by the clock of entries.
    pub(super) unix_epoch: u64,
    /// When the slot may have changed last.
    pub(super) changed: Instant,
    mutation: Option<Mutation>,
    /// The version in the store.
    pub(super) stored: Version,
    /// The version that is "no value", if there is one.
    pub(super) removal: Option<Version>,
}

/// The result of a step of the cache in memory, which never waits and never fails.
fn now<T>(step: impl Future<Output = Result<T, crate::CacheError>>) -> T {
    match pin!(step).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.unwrap(),
        Poll::Pending => panic!("the cache in memory waits"),
    }
}

impl Server {
    pub(super) fn new(mutation: Option<Mutation>) -> Self {
        let (cache, epoch) = (MemoryCache::with_capacity(1), Instant::now());
        Self {
            cache,
            epoch,
            unix_epoch: unix_millis(),
            changed: epoch,
            mutation,
            stored: 0,
            removal: None,
        }
    }

    pub(super) fn slot(&self) -> Slot<Version> {
        now(self.cache.get(&KEY))
    }

    /// Applies a write.
    pub(super) fn write(&mut self, removes: bool) -> Version {
        self.stored += 1;
        if removes {
            self.removal = Some(self.stored);
        }
        self.stored
    }

    fn found(&self) -> Option<Version> {
        Some(self.stored).filter(|version| Some(*version) != self.removal)
    }

    fn release(&self, token: Token) -> Release {
        now(self.cache.release(&KEY, token))
    }

    /// Removes whatever there is.
    pub(super) fn lose_key(&self) {
        if let Slot::Fence(fence) = self.slot() {
            for (writer, _) in fence.writers() {
                self.release(writer);
            }
        }
        self.expire();
    }

    /// Removes the entry or the lease.
    pub(super) fn expire(&self) {
        self.release(Token::new());
    }

    /// Executes a request to the cache, or a load.
    pub(super) fn execute(&mut self, message: &Message) -> Reply {
        let before = self.slot();
        let reply = self.execute_on(message);
        if self.slot() != before {
            self.changed = Instant::now();
        }
        reply
    }

    fn execute_on(&self, message: &Message) -> Reply {
        let is_mutated = |mutation| self.mutation == Some(mutation);
        match *message {
            Message::Get => Reply::Slot(self.slot()),
            Message::Lease(token, ttl) => Reply::Slot(now(self.cache.lease(&KEY, token, ttl))),
            Message::Fill(token, ref entry, ttl) => {
                if is_mutated(Mutation::FillWithoutLease) {
                    self.lose_key();
                    now(self.cache.lease(&KEY, token, ttl));
                }
                let fill = now(self.cache.fill(&KEY, token, entry, ttl));
                let is_mistaken = is_mutated(Mutation::ShareRefusedFill);
                Reply::Fill(if is_mistaken { Fill::Accepted } else { fill })
            }
            Message::Forfeit(token) => {
                now(self.cache.forfeit(&KEY, token));
                Reply::Done
            }
            Message::Fence(token, ttl) => {
                if is_mutated(Mutation::FenceReplaces) {
                    self.lose_key();
                }
                now(self.cache.fence(&KEY, token, ttl));
                if let (Slot::Fence(fence), true) =
                    (self.slot(), is_mutated(Mutation::SharedDeadline))
                {
                    for (writer, _) in fence.writers() {
                        now(self.cache.fence(&KEY, writer, ttl));
                    }
                }
                Reply::Done
            }
            Message::Release(token) => {
                let is_fence = matches!(self.slot(), Slot::Fence(_));
                if is_mutated(Mutation::ReleaseOnlyFences) && !is_fence {
                    return Reply::Release(Release::NotFound);
                }
                let release = self.release(token);
                if is_mutated(Mutation::ReleaseRemovesOthers) {
                    self.lose_key();
                }
                let is_mistaken = is_mutated(Mutation::NoWaitAfterRelease);
                Reply::Release(if is_mistaken { Release::Found } else { release })
            }
            Message::Load => Reply::Loaded(self.found()),
            Message::Write => panic!("a write changes the store: see `write`"),
        }
    }
}
