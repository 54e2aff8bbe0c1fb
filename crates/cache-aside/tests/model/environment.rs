//! What happens without a reader or a writer: time passes, keys are lost, and steps whose senders no
//! longer wait are executed.

use crate::scope::{Guarantee, Mutation};
use crate::state::{PROCESSES, ReaderId, Slot, WriterId};
use crate::steps::{Actor, Event, Steps};

pub(crate) fn steps(steps: &mut Steps<'_>) {
    time_passes(steps);
    let loses_keys = steps.protocol.scope.guarantee == Guarantee::ReadAfterAnsweredWrite
        || steps.protocol.is_mutated(Mutation::KeyLost);
    if loses_keys && steps.from.slot != Slot::Nothing {
        steps.add(Actor::Cache, Event::KeyLost, |state| state.slot = Slot::Nothing);
    }
    late_steps(steps);
}

/// Entries, leases and local copies may end at any moment. The deadline of a writer in a fence passes
/// only when its write can no longer be applied.
fn time_passes(steps: &mut Steps<'_>) {
    let from = steps.from;
    match from.slot {
        Slot::Nothing => {}
        Slot::Entry(_) => {
            steps.add(Actor::Cache, Event::EntryExpires, |state| state.slot = Slot::Nothing);
        }
        Slot::Lease(_) => {
            steps.add(Actor::Cache, Event::LeaseExpires, |state| state.slot = Slot::Nothing);
        }
        Slot::Fence(deadlines) => {
            for (writer, deadline) in deadlines.iter().enumerate() {
                let Some(deadline) = deadline else { continue };
                let is_over = !from.writers[usize::from(*deadline)].write_can_land();
                if is_over || steps.protocol.is_mutated(Mutation::FenceTooShort) {
                    let mut deadlines = deadlines;
                    deadlines[writer] = None;
                    steps.add(Actor::Cache, Event::FenceExpires, |state| {
                        state.slot = Slot::fence_of(deadlines);
                    });
                }
            }
        }
    }
    for process in 0..PROCESSES {
        if from.copies[process].is_some() {
            let process_actor = Actor::Process(process);
            steps.add(process_actor, Event::CopyExpires, |state| state.copies[process] = None);
        }
    }
}

/// Steps that were sent, and whose senders have timed out or crashed since, or received the reply to
/// an earlier attempt.
fn late_steps(steps: &mut Steps<'_>) {
    let (from, mutation) = (steps.from, steps.protocol.mutation);
    for (id, reader) in (0 as ReaderId..).zip(&from.readers) {
        let actor = Actor::Reader(id);
        if reader.late_lease {
            steps.add(actor, Event::LateLease, |state| {
                state.slot.lease(id);
                state.reader(id).late_lease = false;
            });
        }
        if let Some(version) = reader.late_fill {
            steps.add(actor, Event::LateFill, |state| {
                state.slot.fill(id, version, mutation);
                state.reader(id).late_fill = None;
            });
        }
    }
    for (id, writer) in (0 as WriterId..).zip(&from.writers) {
        let actor = Actor::Writer(id);
        if writer.late_fence {
            steps.add(actor, Event::LateFence, |state| {
                state.slot.fence(id, mutation);
                state.writer(id).late_fence = false;
            });
        }
        if writer.late_release {
            steps.add(actor, Event::LateRelease, |state| {
                state.slot.release(id, mutation);
                state.writer(id).late_release = false;
            });
        }
        if writer.late_write {
            steps.add(actor, Event::LateWrite, |state| {
                state.stored += 1;
                state.writer(id).late_write = false;
            });
            steps.add(actor, Event::LateWriteDropped, |state| state.writer(id).late_write = false);
        }
    }
}
