//! The steps of the cache, each of them atomic: what the Lua scripts in `src/redis` do.

use crate::scope::Mutation;
use crate::state::{Fill, ReaderId, Slot, Version, WRITERS, WriterId};

/// Whether a release found its own token in the fence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Found,
    NotFound,
}

impl Slot {
    /// Places a lease if nothing is there. Returns what is there afterwards.
    pub(crate) fn lease(&mut self, token: ReaderId) -> Self {
        if *self == Self::Nothing {
            *self = Self::Lease(token);
        }
        *self
    }

    /// Replaces the lease with the entry, if that lease is still there.
    pub(crate) fn fill(
        &mut self,
        token: ReaderId,
        entry: Version,
        mutation: Option<Mutation>,
    ) -> Fill {
        if *self == Self::Lease(token) || mutation == Some(Mutation::FillWithoutLease) {
            *self = Self::Entry(entry);
            Fill::Accepted
        } else {
            Fill::Refused
        }
    }

    /// Removes the lease, if it is still there.
    pub(crate) fn forfeit(&mut self, token: ReaderId) {
        if *self == Self::Lease(token) {
            *self = Self::Nothing;
        }
    }

    /// Adds a writer to the fence that is there, or replaces whatever else is there with a fence.
    pub(crate) fn fence(&mut self, token: WriterId, mutation: Option<Mutation>) {
        let mut deadlines = match *self {
            Self::Fence(deadlines) if mutation != Some(Mutation::FenceReplaces) => deadlines,
            _ => [None; WRITERS],
        };
        deadlines[usize::from(token)] = Some(token);
        if mutation == Some(Mutation::SharedDeadline) {
            deadlines.iter_mut().flatten().for_each(|deadline| *deadline = token);
        }
        *self = Self::Fence(deadlines);
    }

    /// Removes a writer from the fence, and the fence if no writer is left. Removes anything else.
    pub(crate) fn release(&mut self, token: WriterId, mutation: Option<Mutation>) -> Token {
        match *self {
            Self::Fence(mut deadlines) => {
                let found = match deadlines[usize::from(token)].take() {
                    Some(_) => Token::Found,
                    None => Token::NotFound,
                };
                *self = if mutation == Some(Mutation::ReleaseRemovesOthers) {
                    Self::Nothing
                } else {
                    Self::fence_of(deadlines)
                };
                found
            }
            _ => {
                if mutation != Some(Mutation::ReleaseOnlyFences) {
                    *self = Self::Nothing;
                }
                Token::NotFound
            }
        }
    }

    /// A fence with these writers; nothing, if there are none.
    pub(crate) fn fence_of(deadlines: [Option<WriterId>; WRITERS]) -> Self {
        if deadlines.iter().all(Option::is_none) { Self::Nothing } else { Self::Fence(deadlines) }
    }
}
