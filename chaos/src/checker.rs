//! Whether a history keeps a guarantee.
//!
//! The three guarantees are linearizability of three histories: the one that was recorded, and two in
//! which reads may be placed more freely (see [`Guarantee`]). So there is one checker.
//!
//! Each value is written once, so it is known which write each read saw, and linearizability can be
//! decided by sorting (P. B. Gibbons and E. Korach, *Testing Shared Memories*, SIAM Journal on Computing
//! 26(4), 1997). The operations on one value, its write and its reads, are a *block*: in a sequential
//! order nothing else stands between them. A write that replaced a known value belongs to the block of
//! that value, behind its reads, so that a block can have several values, in a known order. Then:
//!
//! 1. Within a block, the order is given, up to the order of reads of one value: no operation may have
//!    ended before one that must precede it began.
//! 2. Block A must precede block B if an operation of A ended before one of B began, that is, if the
//!    first end of A comes before the last start of B. A history is linearizable if the blocks can be
//!    ordered, and they can be if no two must precede each other. (In a shortest cycle of three or more,
//!    take the block whose first end is the earliest. The one before the one before it ends no earlier, and
//!    still must precede the one before it: so that one and the first must precede each other.)
//!
//! Two blocks precede each other if both have their first end before their last start (*forward zones*)
//! and these spans overlap, or if one has its last start first and lies within the span of the other.
//! Both are found by sorting.
//!
//! A write whose outcome is unknown never ends. If nobody has seen its value, nothing follows from it, and
//! it is left out.
//!
//! A `412` says that the value was another one than that which the client knew. Where exactly it must be
//! placed cannot be decided in this way, but it contradicts the rest if it lies between the first end and
//! the last start of that value's operations, and that is checked.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use crate::history::{Effect, History, Operation, Time, Value};

/// What is promised of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// All operations take effect in one order, each between its start and its end.
    Linearizable,
    /// A read sees each write that was answered before it began, or a later one. It may see less than an
    /// earlier read. So it is placed anywhere after its start, as if it had not ended.
    ReadAfterAnsweredWrite,
    /// A read sees what was there at most this long before it began, or later. So it is placed as if it
    /// had begun so much earlier.
    StaleFor(Duration),
}

/// Operations that cannot all have happened as they did if the guarantee holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contradiction {
    /// Why they cannot.
    pub reason: String,
    /// What the register held at first.
    pub initial: Value,
    /// The operations, by their start.
    pub operations: Vec<Operation>,
}

/// An operation, and between which moments it may be placed.
#[derive(Clone, Copy)]
struct Placed {
    operation: Operation,
    from: Time,
    to: Time,
}

/// The write of a value, and the operations that saw it.
#[derive(Default)]
struct Cluster {
    /// `None` for the initial value.
    write: Option<Placed>,
    reads: Vec<Placed>,
    /// The writes that replaced it. In a correct history there is one at most.
    replaced_by: Vec<Placed>,
}

/// The values of one block, in their order.
struct Block<'a> {
    values: Vec<&'a Cluster>,
    first_end: Bound,
    last_start: Bound,
}

/// A moment that is the first or the last of its kind, and the operation and the value that it comes
/// from. The initial value has no operation.
#[derive(Clone, Copy)]
struct Bound {
    at: Time,
    operation: Option<Operation>,
    /// The position of the value in the block.
    position: usize,
}

impl Guarantee {
    fn place(self, operation: Operation) -> Placed {
        let Operation { start, end, .. } = operation;
        let (from, to) = match (operation.effect, self) {
            (Effect::Read(_), Self::ReadAfterAnsweredWrite) => (start, Time::NEVER),
            (Effect::Read(_), Self::StaleFor(time)) => {
                (Time(start.0.saturating_sub(time.as_nanos() as u64)), end)
            }
            _ => (start, end),
        };
        Placed { operation, from, to }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => f.write_str("linearizable"),
            Self::ReadAfterAnsweredWrite => f.write_str("reads see every answered write"),
            Self::StaleFor(time) => write!(f, "no read is older than {time:?}"),
        }
    }
}

/// Checks a history.
///
/// # Errors
/// It does not keep the guarantee. Of the contradictions that were found, the one with the fewest
/// operations is returned.
///
/// # Panics
/// A value was written twice, which is an error of whoever made the history.
pub fn check(history: &History, guarantee: Guarantee) -> Result<(), Contradiction> {
    find(history, guarantee).map_or(Ok(()), |found| Err(found.cut_down(guarantee)))
}

/// The contradiction with the fewest operations, of those that are found.
fn find(history: &History, guarantee: Guarantee) -> Option<Contradiction> {
    let found = match clusters(history, guarantee) {
        Ok(clusters) => {
            let checker = Checker { initial: history.initial, guarantee, clusters };
            checker.contradictions(&history.operations)
        }
        Err(contradiction) => vec![contradiction],
    };
    let span = |it: &Contradiction| {
        let last = it.operations.iter().map(|operation| operation.start).max();
        last.map_or(0, |last| last.0 - it.operations[0].start.0)
    };
    found.into_iter().min_by_key(|it| (it.operations.len(), span(it)))
}

struct Checker {
    initial: Value,
    guarantee: Guarantee,
    /// The operations by the value that they wrote or saw.
    clusters: HashMap<Value, Cluster>,
}

impl Checker {
    fn contradictions(&self, operations: &[Operation]) -> Vec<Contradiction> {
        let clusters = self.clusters.values();
        let mut found: Vec<_> = clusters.filter_map(|it| self.too_early(it)).collect();
        let blocks = match self.blocks() {
            Ok(blocks) => blocks,
            Err(contradiction) => {
                found.push(contradiction);
                return found;
            }
        };
        found.extend(blocks.iter().filter_map(|block| self.disorder(block)));
        found.extend(self.conflicts(&blocks));
        found.extend(operations.iter().filter_map(|operation| self.refused(operation)));
        found
    }

    fn contradiction(
        &self,
        reason: String,
        operations: impl IntoIterator<Item = Operation>,
    ) -> Contradiction {
        let mut all: Vec<_> = operations.into_iter().collect();
        let mut next = 0;
        while let Some(operation) = all.get(next) {
            all.extend(self.proof(operation).filter(|proof| !all.contains(proof)));
            next += 1;
        }
        Contradiction::new(reason, self.initial, all)
    }

    /// For a write without an answer: an operation that shows that it took effect.
    fn proof(&self, operation: &Operation) -> Option<Operation> {
        let value = operation.effect.written().filter(|_| operation.end == Time::NEVER)?;
        let cluster = self.clusters.get(&value)?;
        let first_read = cluster.reads.iter().min_by_key(|read| read.operation.end);
        first_read.or(cluster.replaced_by.first()).map(|placed| placed.operation)
    }

    /// A read that ended before the write of its value began.
    fn too_early(&self, cluster: &Cluster) -> Option<Contradiction> {
        let write = cluster.write.as_ref()?.operation;
        let early = cluster.reads.iter().find(|read| read.operation.end < write.start)?;
        let reason = "the value was read before it was written".to_owned();
        Some(self.contradiction(reason, [early.operation, write]))
    }

    fn blocks(&self) -> Result<Vec<Block<'_>>, Contradiction> {
        let clusters = &self.clusters;
        let mut blocks = Vec::new();
        let mut in_blocks = 0;
        for (value, cluster) in clusters {
            let is_first = match cluster.write.map(|write| write.operation.effect) {
                None => *value == self.initial,
                Some(effect) => matches!(effect, Effect::Write(_)),
            };
            if !is_first {
                continue;
            }
            let (mut values, mut last) = (vec![cluster], cluster);
            while let Some(next) = last.replaced_by.first() {
                if let [one, other, ..] = &last.replaced_by[..] {
                    let reason = "both replaced the same version".to_owned();
                    return Err(self.contradiction(reason, [one.operation, other.operation]));
                }
                let written = next.operation.effect.written().and_then(|it| clusters.get(&it));
                let Some(cluster) = written else { break };
                values.push(cluster);
                last = cluster;
            }
            in_blocks += values.len();
            blocks.push(Block::new(values));
        }
        if in_blocks < clusters.len() {
            // Each replaced another one of them, and none was written first.
            let replaced = clusters.values().flat_map(|cluster| &cluster.replaced_by);
            let reason = "none of these values can have been written first".to_owned();
            return Err(self.contradiction(reason, replaced.map(|placed| placed.operation)));
        }
        Ok(blocks)
    }

    /// An operation of a block that ended before one that must precede it began.
    fn disorder(&self, block: &Block<'_>) -> Option<Contradiction> {
        let mut last_start: Option<Bound> = None;
        for (position, cluster) in block.values.iter().enumerate() {
            let writes = cluster.write.as_slice();
            for group in [writes, &cluster.reads] {
                for late in group {
                    if let Some(Bound { at, operation: Some(early), position: before }) = last_start
                        && late.to < at
                    {
                        let reason = match position - before {
                            0 => "the value was read before it was written".to_owned(),
                            _ => "the second value replaced the first, but was there before it"
                                .to_owned(),
                        };
                        let chain = block.writes(before, position);
                        let operations = chain.chain([early, late.operation]);
                        return Some(self.contradiction(reason, operations));
                    }
                }
                for Placed { operation, from, .. } in group {
                    if last_start.is_none_or(|bound| bound.at < *from) {
                        last_start =
                            Some(Bound { at: *from, operation: Some(*operation), position });
                    }
                }
            }
        }
        None
    }

    /// Blocks of which each must precede the other.
    fn conflicts(&self, blocks: &[Block<'_>]) -> Vec<Contradiction> {
        let (mut forward, backward): (Vec<&Block<'_>>, Vec<_>) =
            blocks.iter().partition(|block| block.first_end.at < block.last_start.at);
        forward.sort_by_key(|block| block.first_end.at);
        let mut found = Vec::new();
        // Of the zones that begin no later than each: the one that ends last.
        let mut reach: Vec<&Block<'_>> = Vec::new();
        for &block in &forward {
            let mut furthest = block;
            if let Some(&before) = reach.last() {
                found.extend(self.conflict(before, block));
                if before.last_start.at > block.last_start.at {
                    furthest = before;
                }
            }
            reach.push(furthest);
        }
        for block in backward {
            let begun = forward.partition_point(|it| it.first_end.at < block.last_start.at);
            if let Some(&around) = begun.checked_sub(1).and_then(|last| reach.get(last)) {
                found.extend(self.conflict(around, block));
            }
        }
        found
    }

    fn conflict(&self, a: &Block<'_>, b: &Block<'_>) -> Option<Contradiction> {
        let precedes = |one: &Block<'_>, other: &Block<'_>| one.first_end.at < other.last_start.at;
        if !precedes(a, b) || !precedes(b, a) {
            return None;
        }
        let bounds = |block: &Block<'_>| {
            let positions = [block.first_end.position, block.last_start.position];
            let (first, last) = (positions[0].min(positions[1]), positions[0].max(positions[1]));
            let ends = [block.first_end.operation, block.last_start.operation];
            let writes: Vec<_> = block.writes(first, last).collect();
            (
                block.values[last].name(self.initial),
                writes.into_iter().chain(ends.into_iter().flatten()),
            )
        };
        let ((one, its), (other, others)) = (bounds(a), bounds(b));
        let reason = format!(
            "{one} was there before {other}, because one of its operations ended before one of {other} began; and {other} was there before {one}, likewise"
        );
        Some(self.contradiction(reason, its.chain(others)))
    }

    /// A write that was refused because the value was another one, while it was this one.
    fn refused(&self, operation: &Operation) -> Option<Contradiction> {
        let Effect::ReadOther(value) = operation.effect else { return None };
        if self.guarantee == Guarantee::ReadAfterAnsweredWrite {
            return None; // that a read saw the value says nothing about the table at that time
        }
        let cluster = self.clusters.get(&value)?;
        let all = || cluster.write.iter().chain(&cluster.reads);
        let first = all().min_by_key(|placed| placed.to)?;
        let last = all().chain(&cluster.replaced_by).max_by_key(|placed| placed.from)?;
        if first.to < operation.start && operation.end < last.from {
            let reason = format!("{value} was there all the time");
            let operations = cluster.write.iter().chain([first, last]);
            let operations = operations.map(|placed| placed.operation).chain([*operation]);
            return Some(self.contradiction(reason, operations));
        }
        None
    }
}

/// The operations by the value that they wrote or saw.
fn clusters(
    history: &History,
    guarantee: Guarantee,
) -> Result<HashMap<Value, Cluster>, Contradiction> {
    let History { initial, operations } = history;
    let effective = effective(operations);
    let mut clusters = HashMap::from([(*initial, Cluster::default())]);
    let has_effect =
        |it: &Operation, value: Value| it.end != Time::NEVER || effective.contains(&value);
    for operation in operations {
        if let Some(value) = operation.effect.written().filter(|it| has_effect(operation, *it)) {
            let write = Some(guarantee.place(*operation));
            let before = clusters.insert(value, Cluster { write, ..Cluster::default() });
            assert!(before.is_none(), "{value} was written twice");
        }
    }
    for operation in operations {
        let (value, is_read) = match operation.effect {
            Effect::Read(value) => (value, true),
            Effect::Replace { old, new } if has_effect(operation, new) => (old, false),
            _ => continue,
        };
        let Some(cluster) = clusters.get_mut(&value) else {
            let reason =
                format!("nobody wrote {value}, or it was answered that it was not written");
            return Err(Contradiction::new(reason, *initial, vec![*operation]));
        };
        let saw = if is_read { &mut cluster.reads } else { &mut cluster.replaced_by };
        saw.push(guarantee.place(*operation));
    }
    Ok(clusters)
}

/// The values of writes without an end that took effect all the same, because they were seen.
fn effective(operations: &[Operation]) -> HashSet<Value> {
    let mut replaced: HashMap<Value, Value> = HashMap::new();
    let mut seen = Vec::new();
    for operation in operations {
        match operation.effect {
            Effect::Read(value) => seen.push(value),
            Effect::Replace { old, new } => {
                replaced.insert(new, old);
                if operation.end != Time::NEVER {
                    seen.push(old);
                }
            }
            _ => {}
        }
    }
    let mut effective = HashSet::new();
    while let Some(value) = seen.pop() {
        if effective.insert(value) {
            seen.extend(replaced.get(&value));
        }
    }
    effective
}

/// A history of some operations of another one. A write on a version that is not among them becomes one
/// without a condition. `None` if a value that was read is not written by any of them.
pub fn by_themselves(initial: Value, operations: &[Operation]) -> Option<History> {
    let written: HashSet<_> =
        operations.iter().filter_map(|it| it.effect.written()).chain([initial]).collect();
    let mut history = History { initial, operations: operations.to_vec() };
    for Operation { effect, .. } in &mut history.operations {
        match *effect {
            Effect::Replace { old, new } if !written.contains(&old) => {
                *effect = Effect::Write(new);
            }
            Effect::Read(value) if !written.contains(&value) => return None,
            _ => {}
        }
    }
    Some(history)
}

impl Contradiction {
    fn new(reason: String, initial: Value, mut operations: Vec<Operation>) -> Self {
        operations.sort_by_key(|operation| (operation.start, operation.end));
        operations.dedup();
        Self { reason, initial, operations }
    }

    /// Leaves out operations without which there is still a contradiction.
    fn cut_down(mut self, guarantee: Guarantee) -> Self {
        let mut nth = 0;
        while nth < self.operations.len() {
            let mut rest = self.operations.clone();
            rest.remove(nth);
            let shorter = by_themselves(self.initial, &rest);
            match shorter.and_then(|history| find(&history, guarantee)) {
                Some(found) => (self.operations, self.reason) = (rest, found.reason),
                None => nth += 1,
            }
        }
        self
    }
}

impl Cluster {
    fn name(&self, initial: Value) -> Value {
        self.write.and_then(|write| write.operation.effect.written()).unwrap_or(initial)
    }
}

impl<'a> Block<'a> {
    fn new(values: Vec<&'a Cluster>) -> Self {
        // The initial value was written before everything else.
        let origin = Bound { at: Time(0), operation: None, position: 0 };
        let is_initial = values[0].write.is_none();
        let mut first_end = is_initial.then_some(origin);
        let mut last_start = is_initial.then_some(origin);
        for (position, cluster) in values.iter().enumerate() {
            for Placed { operation, from, to } in cluster.write.iter().chain(&cluster.reads) {
                let bound = |at: &Time| Bound { at: *at, operation: Some(*operation), position };
                if first_end.is_none_or(|first| *to < first.at) {
                    first_end = Some(bound(to));
                }
                if last_start.is_none_or(|last| last.at < *from) {
                    last_start = Some(bound(from));
                }
            }
        }
        let (first_end, last_start) = (first_end.unwrap_or(origin), last_start.unwrap_or(origin));
        Self { values, first_end, last_start }
    }

    /// The writes of the values from one position to another.
    fn writes(&self, first: usize, last: usize) -> impl Iterator<Item = Operation> {
        let writes = self.values[first..=last].iter().filter_map(|cluster| cluster.write);
        writes.map(|write| write.operation)
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>27}  at first: {}", "", self.initial)?;
        for operation in &self.operations {
            writeln!(f, "{operation}")?;
        }
        write!(f, "{}", self.reason)
    }
}
