//! The checker: hand-written histories, and thousands of small random ones, on which it is compared with
//! stateright's checker, which tries all orders.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use chaos::checker::{Contradiction, Guarantee, by_themselves, check};
use chaos::history::{Call, Effect, History, Operation, Time, Value};
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom as _, IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

use Effect::{Nothing, Read, ReadOther, Write};
use Guarantee::{Linearizable, ReadAfterAnsweredWrite, StaleFor};

const INITIAL: Value = Value::Number(0);

/// For a write whose outcome is unknown.
const NEVER: u64 = u64::MAX;

fn v(number: u64) -> Value {
    Value::Number(number)
}

fn replace(old: u64, new: u64) -> Effect {
    Effect::Replace { old: v(old), new: v(new) }
}

fn operation((start, end, effect): (u64, u64, Effect)) -> Operation {
    Operation { start: Time(start), end: Time(end), effect, call: Call::Get, handler: 0 }
}

/// Operations as (start, end, effect).
fn history(operations: &[(u64, u64, Effect)]) -> History {
    let operations = operations.iter().copied().map(operation).collect();
    History { initial: INITIAL, operations }
}

fn holds(guarantee: Guarantee, operations: &[(u64, u64, Effect)]) -> bool {
    check(&history(operations), guarantee).is_ok()
}

/// The contradiction, as (start, end, effect).
fn contradiction(
    guarantee: Guarantee,
    operations: &[(u64, u64, Effect)],
) -> Vec<(u64, u64, Effect)> {
    let found = check(&history(operations), guarantee).unwrap_err();
    found.operations.iter().map(|it| (it.start.0, it.end.0, it.effect)).collect()
}

#[test]
fn a_read_that_began_after_an_answered_write_must_see_it() {
    let (first, second, stale) = ((1, 2, Write(v(1))), (3, 4, Write(v(2))), (5, 6, Read(v(1))));
    let more = (7, 8, Read(v(2)));
    for guarantee in [Linearizable, ReadAfterAnsweredWrite, StaleFor(Duration::ZERO)] {
        let found = contradiction(guarantee, &[more, stale, second, first]);
        assert_eq!(found, [first, second, stale]);
    }
    // One that began before the answer need not.
    assert!(holds(Linearizable, &[first, second, (4, 6, Read(v(1))), more]));
    // Nor after a write without an answer.
    assert!(holds(Linearizable, &[first, (3, NEVER, Write(v(2))), stale, more]));
}

#[test]
fn reads_must_not_go_backwards_unless_only_answered_writes_count() {
    let write = (1, 10, Write(v(1)));
    let backwards = [write, (2, 3, Read(v(1))), (4, 5, Read(INITIAL))];
    assert_eq!(contradiction(Linearizable, &backwards), backwards);
    assert!(holds(ReadAfterAnsweredWrite, &backwards));
    // The reads overlap.
    assert!(holds(Linearizable, &[write, (2, 4, Read(v(1))), (4, 5, Read(INITIAL))]));
    // Not even after a write without an answer.
    let pending = (1, NEVER, Write(v(1)));
    assert!(!holds(Linearizable, &[pending, (2, 3, Read(v(1))), (4, 5, Read(INITIAL))]));
}

#[test]
fn a_read_may_be_stale_for_the_given_time_and_no_longer() {
    let overwritten = [(1, 2, Write(v(1))), (3, 4, Write(v(2)))];
    let read_at = |start| [&overwritten[..], &[(start, start + 1, Read(v(1)))]].concat();
    let guarantee = StaleFor(Duration::from_nanos(10));
    assert!(holds(guarantee, &read_at(14)));
    assert!(!holds(guarantee, &read_at(15)));
    // That another read has seen the newer value counts, too.
    let seen = [(1, NEVER, Write(v(1))), (2, 3, Read(v(1)))];
    let read_at = |start| [&seen[..], &[(start, start + 1, Read(INITIAL))]].concat();
    assert!(holds(guarantee, &read_at(13)));
    assert!(!holds(guarantee, &read_at(14)));
}

#[test]
fn a_value_must_have_been_written_before_it_is_read() {
    let guarantees = [Linearizable, ReadAfterAnsweredWrite, StaleFor(Duration::from_nanos(10))];
    for guarantee in guarantees {
        assert!(!holds(guarantee, &[(1, 2, Read(v(7)))]));
        assert!(!holds(guarantee, &[(1, 2, Read(v(7))), (3, 4, Write(v(7)))]));
        assert!(holds(guarantee, &[(1, 4, Read(v(7))), (3, 4, Write(v(7)))]));
        // A write that was answered with a refusal has written nothing.
        assert!(!holds(guarantee, &[(1, 2, Nothing), (3, 4, Read(v(7)))]));
    }
}

#[test]
fn a_conditional_write_follows_the_version_that_it_replaced() {
    let first = (1, 2, Write(v(1)));
    assert!(holds(Linearizable, &[first, (3, 4, replace(1, 2)), (5, 6, Read(v(2)))]));
    // A write in between.
    let between = [first, (3, 4, Write(v(2))), (5, 6, replace(1, 3))];
    for guarantee in [Linearizable, ReadAfterAnsweredWrite] {
        assert_eq!(contradiction(guarantee, &between), between);
    }
    assert!(holds(Linearizable, &[first, (3, 6, Write(v(2))), (5, 6, replace(1, 3))]));
    // The same version is replaced twice.
    assert!(!holds(Linearizable, &[first, (3, 9, replace(1, 2)), (4, 8, replace(1, 3))]));
    // A read of the version that was replaced.
    let late = [first, (3, 4, replace(1, 2)), (5, 6, replace(2, 3)), (7, 8, Read(v(1)))];
    assert!(!holds(Linearizable, &late));
    assert!(holds(StaleFor(Duration::from_nanos(3)), &late));
    // They replace each other's values.
    assert!(!holds(Linearizable, &[(1, 9, replace(1, 2)), (1, 9, replace(2, 1))]));
    // One without an answer has taken effect if its value was seen, and so has the one before it.
    let pending = [first, (3, NEVER, replace(1, 2)), (4, NEVER, replace(2, 3)), (5, 6, Read(v(3)))];
    assert!(holds(Linearizable, &pending));
    let stale = (7, 8, Read(v(2)));
    assert!(!holds(Linearizable, &[&pending[..], &[stale]].concat()));
}

#[test]
fn a_refused_condition_contradicts_the_version_that_was_there_all_the_time() {
    let (write, read) = ((1, 2, Write(v(1))), (5, 6, Read(v(1))));
    let found = contradiction(Linearizable, &[write, (3, 4, ReadOther(v(1))), read]);
    assert_eq!(found, [write, (3, 4, ReadOther(v(1))), read]);
    assert!(holds(Linearizable, &[write, (2, 4, ReadOther(v(1))), read]));
    assert!(holds(Linearizable, &[write, (3, 4, ReadOther(v(2))), read]));
}

/// A register, for stateright.
#[derive(Clone)]
struct Register(Value);

impl SequentialSpec for Register {
    type Op = Effect;
    type Ret = bool;

    /// Whether the operation can have had this effect.
    fn invoke(&mut self, effect: &Effect) -> bool {
        match *effect {
            Read(value) => self.0 == value,
            ReadOther(value) => self.0 != value,
            Write(value) => {
                self.0 = value;
                true
            }
            Effect::Replace { old, new } => {
                let was_there = self.0 == old;
                if was_there {
                    self.0 = new;
                }
                was_there
            }
            Nothing => true,
        }
    }
}

/// What stateright says: every order is tried. The guarantee is expressed as the definition of it says,
/// independently of the checker.
fn holds_by_search(history: &History, guarantee: Guarantee) -> bool {
    let operations = &history.operations;
    // The search may place a read that is taken not to end behind its write, whenever that began.
    let is_from_the_future = |read: &Operation| {
        let Read(value) = read.effect else { return false };
        operations.iter().any(|it| it.effect.written() == Some(value) && read.end < it.start)
    };
    if operations.iter().any(is_from_the_future) {
        return false;
    }
    let mut events = Vec::new();
    for (thread, Operation { start, end, effect, .. }) in operations.iter().enumerate() {
        let (start, end) = match (guarantee, effect) {
            (StaleFor(time), Read(_)) => (start.0.saturating_sub(time.as_nanos() as u64), end.0),
            (ReadAfterAnsweredWrite, Read(_)) => (start.0, NEVER - 1),
            _ => (start.0, end.0),
        };
        // What happens at the same time overlaps.
        events.push((start, 0, thread));
        events.push((end, 1, thread));
    }
    events.sort_unstable();
    let mut tester = LinearizabilityTester::new(Register(history.initial));
    for (time, kind, thread) in events {
        if kind == 0 {
            tester.on_invoke(thread, operations[thread].effect).unwrap();
        } else if time != NEVER {
            tester.on_return(thread, true).unwrap();
        }
    }
    tester.is_consistent()
}

/// A history that is linearizable: each operation takes effect at a moment of its own, and begins and ends
/// at random before and after that.
fn right_history(random: &mut StdRng) -> History {
    let length = random.random_range(2..=7);
    let (mut value, mut operations) = (0, Vec::new());
    let reach = [4, 12, 40][random.random_range(0..3)];
    for nth in 1..=length {
        let at = 100 + 10 * nth;
        let effect = match random.random_range(0..10) {
            0..5 => Read(v(value)),
            5..8 => Write(v(nth)),
            _ => replace(value, nth),
        };
        if effect.written().is_some() {
            value = nth;
        }
        let mut end = at + random.random_range(1..reach);
        if effect.written().is_some() && random.random_ratio(1, 4) {
            end = NEVER; // no answer
        }
        operations.push(operation((at - random.random_range(1..reach), end, effect)));
        if random.random_ratio(1, 5) {
            // A write without an answer that never takes effect.
            let lost = Write(v(100 + nth));
            operations.push(operation((at - 1, NEVER, lost)));
        }
    }
    operations.shuffle(random);
    History { initial: INITIAL, operations }
}

/// The same with one read of another value, or two writes whose times are exchanged: right or wrong.
fn altered(mut history: History, random: &mut StdRng) -> History {
    let written: Vec<_> = history.operations.iter().filter_map(|it| it.effect.written()).collect();
    let count = history.operations.len();
    if random.random() && count > 1 {
        let (one, other) = (random.random_range(0..count), random.random_range(0..count));
        let times = |it: &Operation| (it.start, it.end);
        let (one_s, others) = (times(&history.operations[one]), times(&history.operations[other]));
        // A read always has an answer.
        if one_s.1 != Time::NEVER && others.1 != Time::NEVER {
            (history.operations[one].start, history.operations[one].end) = others;
            (history.operations[other].start, history.operations[other].end) = one_s;
        }
    } else if let Some(value) = written.choose(random) {
        let reads = history.operations.iter_mut().filter(|it| matches!(it.effect, Read(_)));
        if let Some(read) = reads.collect::<Vec<_>>().choose_mut(random) {
            read.effect = Read(*value);
        }
    }
    history
}

#[test]
fn the_checker_agrees_with_a_search_of_all_orders() {
    let mut random = StdRng::seed_from_u64(1);
    let mut verdicts = [[0; 2]; 3];
    for round in 0..10_000 {
        let right = right_history(&mut random);
        for (nth, guarantee) in
            [Linearizable, ReadAfterAnsweredWrite, StaleFor(Duration::from_nanos(13))]
                .into_iter()
                .enumerate()
        {
            assert_eq!(check(&right, guarantee), Ok(()), "{guarantee:?} {right:?}");
            let altered = altered(right.clone(), &mut random);
            let verdict = check(&altered, guarantee);
            let expected = holds_by_search(&altered, guarantee);
            assert_eq!(verdict.is_ok(), expected, "{round} {guarantee:?} {altered:#?} {verdict:?}");
            verdicts[nth][usize::from(expected)] += 1;
            if let Err(contradiction) = verdict {
                // What it was cut down to is a contradiction by itself.
                let Contradiction { initial, operations, .. } = &contradiction;
                let Some(alone) = by_themselves(*initial, operations) else {
                    assert_eq!(operations.len(), 1, "{contradiction:?}"); // a read from nowhere
                    continue;
                };
                assert!(!holds_by_search(&alone, guarantee), "{altered:#?} {contradiction:?}");
            }
        }
    }
    println!("wrong and right histories, for each guarantee: {verdicts:?}");
    assert!(verdicts.iter().flatten().all(|count| *count > 500), "{verdicts:?}");
}

/// What is concluded from a refused condition is never wrong, though not all that could be.
#[test]
fn a_refused_condition_never_contradicts_a_right_history() {
    let mut random = StdRng::seed_from_u64(2);
    let (mut found, mut missed) = (0, 0);
    for _ in 0..12_000 {
        let mut history = right_history(&mut random);
        let start = random.random_range(100..180);
        let refused = ReadOther(v(random.random_range(0..8)));
        history.operations.push(operation((start, start + random.random_range(1..12), refused)));
        let right = holds_by_search(&history, Linearizable);
        match (check(&history, Linearizable), right) {
            (Err(contradiction), true) => panic!("{history:#?} {contradiction:?}"),
            (Err(_), false) => found += 1,
            (Ok(()), false) => missed += 1,
            (Ok(()), true) => {}
        }
    }
    println!("{found} found, {missed} missed");
    assert!(found > 30, "{found}");
}
