//! A read, step by step: `CacheAside::get` with `lease.rs` and `shared_loads.rs`.
//!
//! What happens between sending a step and receiving its reply is left out where nobody can notice: a
//! step that is sent early and executes late is the same as one that is sent late, and a reader that
//! receives a reply late is the same as one that is slow with what it does next. The model keeps these
//! moments apart where the protocol depends on them: a fill closes its load when it is *sent*, and a
//! reply may become a local copy when it is *received*.
//!
//! A read ends as soon as its result is decided. That is the strictest moment: what it must see was
//! fixed when it began, and reads that begin after its end must see what it returned.

use crate::scope::{Guarantee, Mutation};
use crate::state::{
    Age, CacheState, Copy, Fill, Lease, Reader, ReaderId, Reading, Slot, State, Version, Violation,
};
use crate::steps::{Actor, Event, Protocol, Steps};

/// What the readers can do next.
pub(crate) fn steps(steps: &mut Steps<'_>) {
    for reader in 0..steps.protocol.scope.readers.iter().sum::<usize>() as ReaderId {
        reader_steps(reader, steps);
    }
}

fn reader_steps(id: ReaderId, steps: &mut Steps<'_>) {
    let protocol = steps.protocol;
    let reader = Actor::Reader(id);
    let go_to = |progress| move |state: &mut State| state.reader(id).progress = progress;
    let progress = steps.from.readers[usize::from(id)].progress;

    match progress {
        Reading::NotBegun => {
            if protocol.may_begin(id, steps.from) {
                let copy = steps.from.copies[protocol.scope.process_of(id)];
                let event = if copy.is_some() { Event::AnswersFromCopy } else { Event::SendsGet };
                steps.add(reader, event, |state| {
                    state.reader(id).must_see = state.visible;
                    protocol.look(id, state);
                });
            }
        }
        Reading::GetSent => {
            match steps.from.slot {
                Slot::Entry(version) => steps.add(reader, Event::GetFindsEntry, |state| {
                    protocol.complete(id, version, state);
                    protocol.copy_is_on_its_way(id, version, state);
                }),
                Slot::Nothing | Slot::Lease(_) | Slot::Fence(_) => {
                    let next = Reading::NotCached(CacheState::Usable);
                    steps.add(reader, Event::GetFindsNoEntry, go_to(next));
                }
            }
            let next = Reading::NotCached(CacheState::Unusable);
            steps.fault(reader, Event::GetFails, go_to(next));
        }

        Reading::NotCached(cache) => match (protocol.load_to_join(id, steps.from), cache) {
            (Some(leader), _) => {
                let next = Reading::Joined { leader, in_time: false };
                steps.add(reader, Event::Joins, go_to(next));
            }
            (None, CacheState::Usable) => {
                steps.add(reader, Event::Leads, go_to(Reading::Leading));
            }
            (None, CacheState::Unusable) => {
                steps.add(reader, Event::Leads, go_to(Reading::Loading(Lease::Denied)));
            }
        },
        // Its leader decides what becomes of it, unless that takes too long.
        Reading::Joined { .. } => {
            let version = steps.from.stored;
            steps.add(reader, Event::LoadsAlone, |state| protocol.complete(id, version, state));
        }

        Reading::Leading => request_lease(id, steps),
        Reading::Loading(lease) => load(id, lease, steps),
        Reading::Loaded(version) => {
            steps.add(reader, Event::SendsFill, go_to(Reading::FillSent(version)));
        }
        Reading::FillSent(version) => fill(id, version, steps),
        Reading::FillExecuted(version, fill) => steps.add(reader, Event::FillReply, |state| {
            protocol.end_load(id, version, fill, state);
        }),

        Reading::CopyOnItsWay(mut copy) => {
            if protocol.is_mutated(Mutation::CopyFromReply) {
                copy.age = Age::default();
            }
            if copy.age.is_over() {
                steps.add(reader, Event::TooLateForCopy, go_to(Reading::Done));
            } else {
                steps.add(reader, Event::KeepsCopy, |state| {
                    state.copies[protocol.scope.process_of(id)] = Some(copy);
                    state.reader(id).progress = Reading::Done;
                });
            }
        }
        Reading::Done => {}
    }

    // One that does not lead a load, and crashes, is the same as one that pauses for ever.
    if progress.leads() {
        steps.fault(reader, Event::LeaderCrashes, |state| {
            match progress {
                // Its request may have been sent.
                Reading::Leading => state.reader(id).late_lease = true,
                Reading::FillSent(version) => state.reader(id).late_fill = Some(version),
                _ => {}
            }
            protocol.abandon_load(id, state);
        });
    }
}

/// Requests the lease. If another reader has it, the leader pauses and requests it again, for as long
/// as it likes. It may use one token for all these requests, since each of them was answered: none
/// can execute later. (While another reader has the lease, `claim` looks with a get instead: what that
/// can find, and how it can fail, are among the outcomes of a request.)
fn request_lease(id: ReaderId, steps: &mut Steps<'_>) {
    let protocol = steps.protocol;
    let reader = Actor::Reader(id);
    let mut slot = steps.from.slot;
    let found = slot.lease(id);
    let requested = |next| {
        move |state: &mut State| {
            count_request(id, state);
            state.slot = slot;
            state.reader(id).progress = next;
        }
    };
    let (granted, denied) = (Reading::Loading(Lease::Granted), Reading::Loading(Lease::Denied));

    match found {
        Slot::Lease(holder) if holder == id => {
            steps.add(reader, Event::LeaseGranted, requested(granted));
            steps.fault(reader, Event::LeaseReplyLost, requested(denied));
        }
        Slot::Lease(_) | Slot::Nothing => {
            steps.add(reader, Event::LeaseFindsLease, requested(Reading::Leading));
            steps.add(reader, Event::GivesUpOnLease, requested(denied));
        }
        Slot::Fence(_) => steps.add(reader, Event::LeaseFindsFence, requested(denied)),
        Slot::Entry(version) => steps.add(reader, Event::LeaseFindsEntry, |state| {
            count_request(id, state);
            protocol.end_load(id, version, Fill::Unknown, state);
            protocol.copy_is_on_its_way(id, version, state);
        }),
    }
    steps.fault(reader, Event::LeaseTimesOut, |state| {
        count_request(id, state);
        state.reader(id).late_lease = true;
        let resends = protocol.is_mutated(Mutation::LeaseResent);
        state.reader(id).progress = if resends { Reading::Leading } else { denied };
    });
}

fn load(id: ReaderId, lease: Lease, steps: &mut Steps<'_>) {
    let protocol = steps.protocol;
    let reader = Actor::Reader(id);
    let version = steps.from.stored;
    steps.add(reader, Event::Loads, |state| {
        count_request(id, state);
        match lease {
            Lease::Granted => state.reader(id).progress = Reading::Loaded(version),
            Lease::Denied => protocol.end_load(id, version, Fill::Unknown, state),
        }
    });
    steps.fault(reader, Event::LoadFails, |state| {
        count_request(id, state);
        state.slot.forfeit(id);
        protocol.fail_load(id, state);
    });
    if lease == Lease::Granted {
        // A forfeit that executes late is the same as a lease that expires then.
        steps.fault(reader, Event::LoadFailsForfeitLost, |state| {
            count_request(id, state);
            protocol.fail_load(id, state);
        });
    }
}

/// A fill that executes twice needs no step of its own: its lease is gone the second time.
fn fill(id: ReaderId, version: Version, steps: &mut Steps<'_>) {
    let protocol = steps.protocol;
    let reader = Actor::Reader(id);
    let mut slot = steps.from.slot;
    let fill = slot.fill(id, version, protocol.mutation);

    if protocol.is_mutated(Mutation::JoinAfterFill) {
        // Readers join until the reply arrives, so it matters how long it takes.
        steps.add(reader, Event::FillExecutes, |state| {
            state.slot = slot;
            state.reader(id).progress = Reading::FillExecuted(version, fill);
        });
    } else if fill == Fill::Accepted {
        steps.add(reader, Event::FillAccepted, |state| {
            state.slot = slot;
            protocol.end_load(id, version, fill, state);
            protocol.copy_is_on_its_way(id, version, state);
        });
    } else {
        steps.add(reader, Event::FillRefused, |state| protocol.end_load(id, version, fill, state));
    }
    steps.fault(reader, Event::FillReplyLost, |state| {
        state.slot = slot;
        protocol.end_load(id, version, Fill::Unknown, state);
    });
    steps.fault(reader, Event::FillTimesOut, |state| {
        state.reader(id).late_fill = Some(version);
        protocol.end_load(id, version, Fill::Unknown, state);
    });
}

impl Reading {
    /// Whether it leads a load, open or closed.
    fn leads(self) -> bool {
        use Reading::*;
        self.is_open() || matches!(self, FillSent(_) | FillExecuted(..))
    }

    /// Whether it leads a load that others may join.
    fn is_open(self) -> bool {
        use Reading::*;
        matches!(self, Leading | Loading(_) | Loaded(_))
    }
}

impl Protocol {
    /// Readers of one process are alike, and so are processes with the same number of readers: they
    /// begin in order.
    fn may_begin(&self, id: ReaderId, state: &State) -> bool {
        let Some(previous) = id.checked_sub(1) else { return true };
        let [process, previous_process] = [id, previous].map(|id| self.scope.process_of(id));
        let before = if process == previous_process {
            previous
        } else if self.scope.readers[process] == self.scope.readers[previous_process] {
            id - self.scope.readers[process] as ReaderId // the first of the process before
        } else {
            return true;
        };
        state.readers[usize::from(before)].progress != Reading::NotBegun
    }

    /// Begins, or begins again after a load that could not be shared: answers from the local copy
    /// of its process, or sends a get.
    fn look(&self, id: ReaderId, state: &mut State) {
        match state.copies[self.scope.process_of(id)] {
            Some(copy) => self.complete(id, copy.version, state),
            None => state.reader(id).progress = Reading::GetSent,
        }
    }

    /// The leader of the load of this reader's process that can be joined. There is at most one.
    fn load_to_join(&self, id: ReaderId, state: &State) -> Option<ReaderId> {
        let can_be_joined = |reader: &Reader| {
            if self.is_mutated(Mutation::JoinAfterFill) {
                reader.progress.leads()
            } else {
                reader.progress.is_open()
            }
        };
        let process = self.scope.process_of(id);
        (0..).zip(&state.readers).find_map(|(leader, reader)| {
            (self.scope.process_of(leader) == process && can_be_joined(reader)).then_some(leader)
        })
    }

    /// Ends a load: its leader returns the result, and so does each joiner that may. A joiner may
    ///
    /// - if it joined before the request that produced the result was sent: then the result is no
    ///   older than the joiner; or
    /// - if the fill was accepted: then no write had begun between the lease and the fill, and the
    ///   joiner joined before the fill was sent.
    fn end_load(&self, leader: ReaderId, version: Version, fill: Fill, state: &mut State) {
        self.complete(leader, version, state);
        for (joiner, in_time) in joiners(leader, state) {
            let may_share = in_time
                || fill == Fill::Accepted
                || (fill == Fill::Refused && self.is_mutated(Mutation::ShareRefusedFill));
            if may_share {
                self.complete(joiner, version, state);
            } else {
                self.look(joiner, state);
            }
        }
    }

    /// Ends a load with an error, which is shared like a result.
    fn fail_load(&self, leader: ReaderId, state: &mut State) {
        state.reader(leader).end();
        for (joiner, in_time) in joiners(leader, state) {
            if in_time {
                state.reader(joiner).end();
            } else {
                self.look(joiner, state);
            }
        }
    }

    /// Ends a load whose leader has crashed: its joiners begin again.
    fn abandon_load(&self, leader: ReaderId, state: &mut State) {
        state.reader(leader).end();
        for (joiner, _) in joiners(leader, state) {
            self.look(joiner, state);
        }
    }

    /// Ends a read with this result, and checks it.
    fn complete(&self, id: ReaderId, returned: Version, state: &mut State) {
        let must_see = state.reader(id).must_see;
        if returned < must_see {
            state.violation = Some(Violation { reader: id, returned, must_see });
        }
        if self.scope.guarantee == Guarantee::Linearizable {
            state.visible = state.visible.max(returned);
        }
        state.reader(id).end();
    }

    /// The cache has shown an entry, and the reply may become a local copy when it arrives.
    fn copy_is_on_its_way(&self, id: ReaderId, version: Version, state: &mut State) {
        if self.has_local_copies() {
            let copy = Copy { version, age: Age::default() };
            state.reader(id).progress = Reading::CopyOnItsWay(copy);
        }
    }
}

impl Reader {
    fn end(&mut self) {
        self.progress = Reading::Done;
        self.must_see = 0; // nobody asks any more
    }
}

/// Counts a request that may produce the result: whoever has joined by now has joined in time.
fn count_request(leader: ReaderId, state: &mut State) {
    for reader in &mut state.readers {
        match &mut reader.progress {
            Reading::Joined { leader: joined, in_time } if *joined == leader => *in_time = true,
            _ => {}
        }
    }
}

/// The readers that have joined a load, and whether they did so in time.
fn joiners(leader: ReaderId, state: &State) -> impl Iterator<Item = (ReaderId, bool)> + use<> {
    (0..).zip(state.readers).filter_map(move |(id, reader)| match reader.progress {
        Reading::Joined { leader: joined, in_time } if joined == leader => Some((id, in_time)),
        _ => None,
    })
}
