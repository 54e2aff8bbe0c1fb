//! A model of the protocol, checked exhaustively: every order in which readers, writers, the cache
//! and the store can take their steps, with every fault at every moment.
//!
//! `make test` checks small scopes. `make model` also checks larger ones, which takes a few minutes,
//! and prints how many states were explored, and the counterexample to each mutation.
//!
//! Read [`state`] first, then [`cache`], [`read`] and [`write`]; [`scope::Guarantee`] says what is
//! checked and why that is enough, [`scope::Mutation`] which rules are left out to see that each is
//! needed.
//!
//! # What is modelled
//!
//! One key: the slots of different keys share nothing. Its slot in the cache is empty or holds an
//! entry, a lease or a fence, as in `src/slot.rs`, and changes in the steps that the Lua scripts in
//! `src/redis` define. Readers, in several processes, read as `CacheAside::get` does: they look in the
//! cache, share loads within a process, request leases, load, and fill. Writers write as
//! `CacheAside::write` does, and delete in the same way. In some scopes processes keep local copies;
//! the rules for them are in [`write`] and [`state::Age`].
//!
//! # What may happen
//!
//! - Readers and writers take their steps in any order, and may pause for any time between two of them.
//! - A writer or the leader of a load crashes, or is dropped by its caller, at any step. (A reader that
//!   only waits, and crashes, is the same as one that pauses for ever.)
//! - A step of the cache times out at its sender and executes later, at any time or never, or
//!   executes and its reply is lost, or executes twice. A request for a lease executes only once: it is
//!   never resent with the same token.
//! - A load fails. A write is refused; or its outcome remains unknown, and it is applied at once,
//!   later, or never.
//! - Entries, leases and local copies expire at any moment, however young they are.
//! - Where the guarantee is [`ReadAfterAnsweredWrite`](Guarantee::ReadAfterAnsweredWrite), the cache
//!   loses the key at any moment, and as often as there is something to lose.
//!
//! # What is assumed
//!
//! For both guarantees:
//!
//! - A load sees every write that the store has applied. The store applies a write at most once, and
//!   nobody repeats a write whose outcome is unknown; a write that is sent again is another write.
//! - The deadline of a writer in a fence does not pass while the store may still apply its write. The
//!   rules of time in `src/policy.rs` see to that, unless a process or a machine is suspended between its
//!   last look at the clock and the moment the write is sent, for longer than the margin.
//! - A wait for local copies lasts as long as a copy may be kept: the clocks of two machines run at the
//!   same rate. They need not show the same time.
//!
//! For [`Linearizable`](Guarantee::Linearizable): the fence of a write executes before the write is
//! sent, and the cache keeps what it was given until it expires. The release may fail.
//!
//! For [`ReadAfterAnsweredWrite`](Guarantee::ReadAfterAnsweredWrite): the release of a write executes
//! before the write is answered. The fence may fail. With local copies, a fence whose reply has
//! arrived does not execute again.
//!
//! # What is not covered
//!
//! - Writers whose fence does not reach the cache (or, where keys are lost, whose release does not), and
//!   a cache that is rolled back to an earlier content. Then an entry may be stale for at most the
//!   lease's TTL plus the entry's. That bound, the releases that are retried in the background, and the
//!   reads that bypass the cache meanwhile are not modelled.
//! - Stale copies, which are answered while the store cannot be reached, and are outside of the guarantees.
//! - Time: no durations, and so neither the rules between them nor the arithmetic of deadlines in the
//!   Lua scripts; only what must not happen before what.
//! - Progress: that calls end, and how many loads they cause.
//! - The code itself. The model has its names and its order of steps, but a difference between the
//!   two would not be noticed here. `src/tests/scheduled` runs the code, with fewer calls or not
//!   exhaustively.
//! - More readers, writers and faults than the scopes have.
//!
//! Some things need no steps of their own because others cover them. A slot that cannot be read is
//! removed by a release with a fresh token, which at most removes an entry or a lease: they may
//! expire then. A "not found" that is not cached forfeits its lease, which is a fill that never
//! executes and a lease that expires. A fence that is placed again because the first took too long
//! is a first fence at that moment. A process that crashes is several calls that crash. A writer drops
//! its own process's local copy: the copy may expire then.

mod cache;
mod checker;
mod environment;
mod read;
mod scope;
mod state;
mod steps;
mod write;

use crate::checker::explore;
use crate::scope::{Copies, Faults, Guarantee, Mutation, Scope};
use crate::steps::Event;

/// Three readers, two of them in one process, and two writers, with at most one fault.
fn two_writers(guarantee: Guarantee) -> Scope {
    let (readers, writers, faults) = ([2, 1, 0], 2, Faults::AtMost(1));
    Scope { guarantee, readers, writers, copies: Copies::None, faults }
}

/// Three readers, two of them in one process, and one writer, with local copies.
fn local_copies(guarantee: Guarantee) -> Scope {
    let (readers, writers, faults) = ([2, 1, 0], 1, Faults::Unlimited);
    Scope { guarantee, readers, writers, copies: Copies::Local, faults }
}

/// What `make test` explores. All mutations have counterexamples in the first two.
fn small_scopes(guarantee: Guarantee) -> Vec<Scope> {
    let (two_writers, local_copies) = (two_writers(guarantee), local_copies(guarantee));
    vec![
        two_writers,
        local_copies,
        Scope { copies: Copies::None, ..local_copies },
        Scope { copies: Copies::Local, faults: Faults::AtMost(0), ..two_writers },
        Scope { copies: Copies::Local, readers: [2, 0, 0], ..two_writers },
        Scope { readers: [1, 1, 1], faults: Faults::AtMost(0), ..two_writers },
    ]
}

/// What `make model` explores in addition.
fn large_scopes(guarantee: Guarantee) -> Vec<Scope> {
    let (two_writers, local_copies) = (two_writers(guarantee), local_copies(guarantee));
    vec![
        Scope { faults: Faults::Unlimited, ..two_writers },
        Scope { faults: Faults::Unlimited, readers: [1, 1, 1], ..two_writers },
        Scope { faults: Faults::AtMost(0), writers: 3, ..two_writers },
        Scope { faults: Faults::AtMost(0), readers: [2, 2, 0], ..two_writers },
        Scope { copies: Copies::None, readers: [2, 2, 0], ..local_copies },
        Scope { readers: [2, 2, 0], faults: Faults::AtMost(1), ..local_copies },
        Scope { copies: Copies::Local, ..two_writers },
        Scope { copies: Copies::Local, readers: [1, 1, 1], ..two_writers },
    ]
}

/// Explores these scopes and expects no counterexample. Returns the events that have happened.
fn check(scopes: Vec<Scope>) -> Vec<Event> {
    let mut happened = Vec::new();
    for scope in scopes {
        let exploration = explore(scope, None);
        println!("{exploration}");
        assert!(exploration.counterexample.is_none(), "{exploration}");
        happened.extend(exploration.happened);
    }
    happened
}

/// Explores the small scopes, and makes sure that everything that may happen did: a model in which
/// something cannot happen says nothing about it.
fn check_small_scopes(guarantee: Guarantee) {
    let happened = check(small_scopes(guarantee));
    for event in Event::ALL.iter().filter(|event| event.may_happen(guarantee)) {
        assert!(happened.contains(event), "nobody ever {event} ({event:?})");
    }
}

#[test]
fn reads_are_linearizable() {
    check_small_scopes(Guarantee::Linearizable);
}

#[test]
fn reads_see_answered_writes_although_keys_are_lost() {
    check_small_scopes(Guarantee::ReadAfterAnsweredWrite);
}

#[test]
#[ignore = "takes minutes and a gigabyte: make model"]
fn reads_are_linearizable_in_large_scopes() {
    check(large_scopes(Guarantee::Linearizable));
}

#[test]
#[ignore = "takes minutes and a gigabyte: make model"]
fn reads_see_answered_writes_although_keys_are_lost_in_large_scopes() {
    check(large_scopes(Guarantee::ReadAfterAnsweredWrite));
}

#[test]
fn each_mutation_has_a_counterexample() {
    use Guarantee::{Linearizable, ReadAfterAnsweredWrite};
    let mutations = [
        // Rules of the protocol.
        (Mutation::NoFence, two_writers(Linearizable)),
        (Mutation::FenceReplaces, two_writers(Linearizable)),
        (Mutation::ReleaseRemovesOthers, two_writers(Linearizable)),
        (Mutation::FillWithoutLease, two_writers(ReadAfterAnsweredWrite)),
        (Mutation::JoinAfterFill, two_writers(ReadAfterAnsweredWrite)),
        (Mutation::ShareRefusedFill, two_writers(ReadAfterAnsweredWrite)),
        (Mutation::ReleaseOnlyFences, two_writers(ReadAfterAnsweredWrite)),
        (Mutation::LeaseResent, two_writers(ReadAfterAnsweredWrite)),
        (Mutation::ReleaseUnknown, two_writers(Linearizable)),
        (Mutation::SharedDeadline, two_writers(Linearizable)),
        (Mutation::NoWaitAfterFence, local_copies(ReadAfterAnsweredWrite)),
        (Mutation::NoWaitAfterRelease, local_copies(ReadAfterAnsweredWrite)),
        (Mutation::CopyFromReply, local_copies(ReadAfterAnsweredWrite)),
        (Mutation::FenceResent, local_copies(ReadAfterAnsweredWrite)),
        (Mutation::UnansweredFenceTrusted, local_copies(ReadAfterAnsweredWrite)),
        // Assumptions.
        (Mutation::FenceLate, two_writers(Linearizable)),
        (Mutation::FenceTooShort, two_writers(Linearizable)),
        (Mutation::KeyLost, two_writers(Linearizable)),
        (Mutation::ReleaseLate, two_writers(ReadAfterAnsweredWrite)),
    ];
    let mut not_caught = Vec::new();
    for (mutation, scope) in mutations {
        let exploration = explore(scope, Some(mutation));
        println!("{exploration}\n");
        if exploration.counterexample.is_none() {
            not_caught.push(mutation);
        }
    }
    assert!(not_caught.is_empty(), "no counterexample to {not_caught:?}");
}
