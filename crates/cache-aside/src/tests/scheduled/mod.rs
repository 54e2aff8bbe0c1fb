//! The code itself under a scheduler: [`CacheAside::get`](crate::CacheAside::get) and
//! [`CacheAside::write`](crate::CacheAside::write), with a cache and a store whose every step waits until the
//! scheduler decides what becomes of it, and a clock that moves only when the scheduler says so.
//!
//! The model in `tests/model` explores the *protocol* exhaustively. Here is explored whether the *code* keeps
//! it. `make test` explores small scopes exhaustively, and tens of thousands of schedules at random in larger
//! ones. `make model` explores more of both, and prints the counterexample to each mutation. A test that fails
//! prints the shortest schedule that it could make from the one that it found, and its seed:
//! `SCHEDULE_SEED=23296 cargo test -p cache-aside scheduled` begins with that one.
//!
//! Read [`action`] first, then [`world`] and its parts, which perform the actions; [`server`] and [`network`]
//! are the two ends of what the code talks to; [`search`] chooses what happens; [`scope::Mutation`] says how
//! the code is broken on purpose.
//!
//! # What is checked
//!
//! Values are versions, numbered as the store applies them. A read must not return an older one than the
//! newest that was visible when it began. That is what the store had then, if the guarantee is
//! [`Linearizable`](Guarantee::Linearizable): a reader that cannot reach the cache may have returned it at any
//! moment. Where keys are lost, it is the newest whose write was answered.
//!
//! # What may happen
//!
//! There is one key, and two processes with a [`CacheAside`](crate::CacheAside) each and policies that
//! differ. What the model's front page lists happens here, too, with real calls and real durations:
//!
//! - Calls begin at any moment, take their steps in any order, and are dropped by their callers at any await.
//! - A step of the cache is executed and answered at once or later, or executed without a reply, or times out
//!   at its sender and is executed later or never. A fence and a release may execute twice.
//! - A load fails. A write is refused; or its outcome is unknown, and it is applied at once, later, or never.
//! - Entries and leases expire at any moment, however young they are. Fences expire when their time is over.
//!   Copies expire as time passes, in steps of half their life.
//! - Where the guarantee is [`ReadAfterAnsweredWrite`](Guarantee::ReadAfterAnsweredWrite), keys are lost.
//! - The release of a process is overdue, and is tried again by a task of its own, which can fail as well.
//!
//! # What is assumed
//!
//! The same as in the model. Two of its assumptions are rules of time, which here follow from the policy: the
//! store gives up a write after `write_timeout`, and applies it at most [`LATE_WRITE_MARGIN`] later; and the
//! wait for local copies is as long as the code makes it. No process is suspended between its last look at the
//! clock and the moment when its write is sent, but at every other await, for any time.
//!
//! # What is not covered
//!
//! - More calls, faults and losses than the scopes have; and of the random scopes, the schedules that were
//!   not tried.
//! - The Lua scripts: the cache is [`MemoryCache`](crate::MemoryCache), which passes the same contract.
//! - Slots of other programs, stale copies, and `CacheAside::audit`, which have tests of their own.
//! - Threads. Calls of one process run in parallel in reality, but meet only in three places: the map of shared
//!   loads and that of overdue releases, which are behind a mutex that is held for each operation on them, and
//!   the copies. What a write can do between two operations on those is enumerated in the tests of
//!   `copies.rs`.
//!
//!   Tools that explore the interleavings of threads do not fit there. loom and shuttle both need their own
//!   types in place of those of std. With loom, they must be in place throughout a program that is compiled
//!   with `--cfg loom`, tokio included, which then leaves out what is used here; and moka, in which the copies
//!   are, has no such build. Shuttle would see the generations, but neither the steps inside moka nor those
//!   of tokio's channels.
//!
//! [`LATE_WRITE_MARGIN`]: crate::LATE_WRITE_MARGIN

mod action;
mod event;
mod network;
mod scope;
mod search;
mod server;
mod weakening;
mod world;

pub(crate) use self::weakening::Weakening;

use self::event::Event;
use self::scope::{Copies, Guarantee, Limits, Mutation, Scope};
use self::search::{Search, exhaustive, random};

/// Two readers in two processes, and a writer, without anything that goes wrong.
fn tiny(guarantee: Guarantee) -> Scope {
    Scope {
        guarantee,
        readers: [1, 1],
        writers: &[1],
        removes: false,
        copies: Copies::None,
        limits: Limits { faults: 0, losses: 0, jumps: 0 },
        mutation: None,
    }
}

/// What `make test` explores exhaustively.
fn small_scopes(guarantee: Guarantee) -> Vec<Scope> {
    let tiny = tiny(guarantee);
    let limits = |faults, losses, jumps| Limits { faults, losses, jumps };
    let copies = Copies::Local;
    vec![
        Scope { limits: limits(1, 0, 0), ..tiny },
        Scope { limits: limits(0, 1, 1), ..tiny },
        Scope { writers: &[0, 1], ..tiny },
        Scope { readers: [2, 0], limits: limits(0, 1, 0), ..tiny },
        Scope { copies, readers: [2, 0], limits: limits(0, 0, 1), ..tiny },
        Scope { copies, limits: limits(0, 0, 1), ..tiny },
    ]
}

/// What `make model` explores exhaustively in addition.
fn large_scopes(guarantee: Guarantee) -> Vec<Scope> {
    let tiny = tiny(guarantee);
    let limits = |faults, losses, jumps| Limits { faults, losses, jumps };
    let copies = Copies::Local;
    vec![
        Scope { readers: [2, 1], ..tiny },
        Scope { readers: [2, 0], limits: limits(1, 0, 0), ..tiny },
        Scope { limits: limits(1, 1, 0), ..tiny },
        Scope { limits: limits(2, 0, 0), ..tiny },
        Scope { copies, readers: [2, 0], limits: limits(0, 1, 1), ..tiny },
        Scope { copies, readers: [2, 0], limits: limits(1, 0, 1), ..tiny },
    ]
}

/// What is explored at random: three readers, two of them in one process, and two writers.
fn random_scope(guarantee: Guarantee, copies: Copies) -> Scope {
    Scope {
        guarantee,
        readers: [2, 1],
        writers: &[1, 0],
        removes: true,
        copies,
        limits: Limits { faults: 3, losses: 3, jumps: 20 },
        mutation: None,
    }
}

/// What `make model` explores at random in addition.
fn large_random_scope(guarantee: Guarantee, copies: Copies) -> Scope {
    Scope {
        readers: [3, 2],
        writers: &[1, 0, 0],
        limits: Limits { faults: 5, losses: 4, jumps: 25 },
        ..random_scope(guarantee, copies)
    }
}

/// Prints what was found, and expects no counterexample.
fn check(search: Search) -> Search {
    println!("{search}");
    assert!(search.counterexample.is_none(), "{search}");
    search
}

/// The first seed: a new one each time, unless one is to be repeated.
fn seed() -> u64 {
    match std::env::var("SCHEDULE_SEED") {
        Ok(seed) => seed.parse().expect("SCHEDULE_SEED is a number"),
        Err(_) => rand::random_range(0..1_000_000_000),
    }
}

/// Explores schedules at random, and makes sure that everything that may happen did: a scheduler with which
/// something cannot happen says nothing about it.
fn check_at_random(guarantee: Guarantee) {
    let searches = [Copies::None, Copies::Local]
        .map(|copies| check(random(random_scope(guarantee, copies), seed(), 30_000)));
    let count = |event| searches.iter().map(|search| search.count_of(event)).sum::<u64>();
    let events = Event::ALL.iter().filter(|event| event.may_happen(guarantee));
    let rarest = events.copied().min_by_key(|event| count(*event)).expect("there are events");
    println!("The rarest event has happened {} times: somebody {rarest}.", count(rarest));
    assert!(count(rarest) > 0, "nobody ever {rarest} ({rarest:?})");
}

#[test]
fn reads_are_linearizable_in_all_schedules_of_small_scopes() {
    for scope in small_scopes(Guarantee::Linearizable) {
        check(exhaustive(scope));
    }
}

#[test]
fn reads_see_answered_writes_in_all_schedules_of_small_scopes() {
    for scope in small_scopes(Guarantee::ReadAfterAnsweredWrite) {
        check(exhaustive(scope));
    }
}

#[test]
fn reads_are_linearizable_in_random_schedules() {
    check_at_random(Guarantee::Linearizable);
}

#[test]
fn reads_see_answered_writes_in_random_schedules() {
    check_at_random(Guarantee::ReadAfterAnsweredWrite);
}

#[test]
#[ignore = "takes minutes: make model"]
fn reads_are_linearizable_in_more_schedules() {
    check_more(Guarantee::Linearizable);
}

#[test]
#[ignore = "takes minutes: make model"]
fn reads_see_answered_writes_in_more_schedules() {
    check_more(Guarantee::ReadAfterAnsweredWrite);
}

fn check_more(guarantee: Guarantee) {
    for scope in large_scopes(guarantee) {
        check(exhaustive(scope));
    }
    for copies in [Copies::None, Copies::Local] {
        check(random(random_scope(guarantee, copies), seed(), 100_000));
        check(random(large_random_scope(guarantee, copies), seed(), 100_000));
    }
}

/// Each in a scope that has just as much as it takes.
#[test]
fn each_mutation_has_a_counterexample() {
    use Mutation::*;
    let limits =
        |faults, losses, jumps, scope| Scope { limits: Limits { faults, losses, jumps }, ..scope };
    let (linearizable, losing) =
        (tiny(Guarantee::Linearizable), tiny(Guarantee::ReadAfterAnsweredWrite));
    let two_writers = Scope { writers: &[0, 1], ..linearizable };
    let one_process = Scope { readers: [2, 0], ..losing };
    let copies = Scope { copies: Copies::Local, ..one_process };
    let linearizable_copies = Scope { guarantee: Guarantee::Linearizable, ..copies };
    let mutations = [
        // Rules.
        (NoFence, linearizable),
        (FenceReplaces, two_writers),
        (ReleaseRemovesOthers, two_writers),
        (FillWithoutLease, losing),
        (JoinAfterFill, one_process),
        (ShareRefusedFill, one_process),
        (ReleaseOnlyFences, limits(0, 1, 0, losing)),
        (LeaseResent, limits(1, 0, 0, losing)),
        (ReleaseUnknown, limits(1, 0, 0, linearizable)),
        (SharedDeadline, limits(0, 0, 1, two_writers)),
        (NoWaitAfterFence, linearizable_copies),
        (NoWaitAfterRelease, limits(0, 2, 1, copies)),
        (CopyFromReply, limits(0, 0, 1, copies)),
        (FenceResent, limits(1, 2, 1, copies)),
        (UnansweredFenceTrusted, limits(1, 1, 1, copies)),
        // Assumptions.
        (FenceLate, limits(1, 0, 0, linearizable)),
        (FenceTooShort, limits(1, 0, 1, linearizable)),
        (ReleaseLate, limits(2, 0, 0, one_process)),
        (KeyLost, limits(0, 1, 0, linearizable)),
    ];
    let mut not_caught = Vec::new();
    for (mutation, scope) in mutations {
        let search = random(Scope { mutation: Some(mutation), ..scope }, 1, 200_000);
        println!("{search}\n");
        if search.counterexample.is_none() {
            not_caught.push(mutation);
        }
    }
    assert!(not_caught.is_empty(), "no counterexample to {not_caught:?}");
}
