//! A write, step by step: `CacheAside::write`, with the waits for local copies.
//!
//! Fence, write the store, release, answer. With local copies:
//!
//! - Once its fence has been answered, a write waits for as long as a copy may be kept, before it is
//!   sent to the store. Every copy that was taken before the fence has then ended, and none can be
//!   taken while the fence stands.
//! - If its fence may not have stood until its release, an old entry may have been filled and copied
//!   meanwhile. The write then waits for the same time again before it is answered. It knows that the
//!   fence has stood if the release found its token, if the fence had been answered, and if the fence
//!   was sent only once: a fence that executes late, or again, puts the token of a lost fence back.
//!
//! As in `read.rs`, what happens between sending a step and receiving its reply is left out where nobody
//! can notice. A wait begins, and a write answers, at the earliest moment: then fewer copies are older
//! than the wait, and more reads begin after the answer.

use crate::cache::Token;
use crate::scope::{Guarantee, Mutation};
use crate::state::{Outcome, State, WriterId, Writing};
use crate::steps::{Actor, Event, Protocol, Steps};

/// What the writers can do next.
pub(crate) fn steps(steps: &mut Steps<'_>) {
    for writer in 0..steps.protocol.scope.writers as WriterId {
        writer_steps(writer, steps);
    }
}

fn writer_steps(id: WriterId, steps: &mut Steps<'_>) {
    let protocol = steps.protocol;
    let writer = Actor::Writer(id);
    let go_to = |progress| move |state: &mut State| state.writer(id).progress = progress;
    let from = steps.from.writers[usize::from(id)];

    match from.progress {
        Writing::NotBegun => {
            if protocol.is_mutated(Mutation::NoFence) {
                steps.add(writer, Event::SkipsFence, go_to(Writing::WriteSent));
            } else if may_begin(id, steps.from) {
                place_fence(id, steps);
            }
        }
        Writing::WaitingForCopies => {
            steps.add(writer, Event::WaitEnds, |state| {
                state.wait_ends(id);
                state.writer(id).progress = Writing::WriteSent;
            });
            steps.fault(writer, Event::WriterCrashes, |state| {
                state.wait_is_abandoned(id);
                protocol.end_write(id, Outcome::Unknown, state);
            });
        }
        Writing::WriteSent => {
            steps.add(writer, Event::WriteApplied, |state| {
                state.stored += 1;
                let outcome = Outcome::Applied(state.stored);
                state.writer(id).progress = Writing::Settled(outcome);
            });
            let refused = Outcome::Refused(steps.from.stored);
            steps.fault(writer, Event::WriteRefused, go_to(Writing::Settled(refused)));
            steps.fault(writer, Event::WriteTimesOut, |state| {
                state.writer(id).late_write = true;
                protocol.outcome_is_unknown(id, state);
            });
            // Before or after the write was sent: it is applied later, or never.
            steps.fault(writer, Event::WriterCrashes, |state| {
                state.writer(id).late_write = true;
                protocol.end_write(id, Outcome::Unknown, state);
            });
        }
        Writing::Settled(outcome) => {
            if outcome != Outcome::Unknown {
                steps.fault(writer, Event::WriteAnswerLost, |state| {
                    protocol.outcome_is_unknown(id, state);
                });
            }
            // One that crashes from here on is the same as one that pauses for ever.
            release(id, outcome, steps);
        }
        Writing::WaitingAgain(outcome) => steps.add(writer, Event::Answers, |state| {
            state.wait_ends(id);
            protocol.end_write(id, outcome, state);
        }),
        Writing::Done => {}
    }
}

/// Writers are alike: they begin in order.
fn may_begin(id: WriterId, state: &State) -> bool {
    let before = &state.writers[..usize::from(id)];
    before.iter().all(|writer| writer.progress != Writing::NotBegun)
}

/// A crash before the fence is answered needs no step of its own: the fence is placed and the write
/// is never applied, or nothing happens.
fn place_fence(id: WriterId, steps: &mut Steps<'_>) {
    let protocol = steps.protocol;
    let writer = Actor::Writer(id);
    let go_on = |state: &mut State| {
        if protocol.has_local_copies() && !protocol.is_mutated(Mutation::NoWaitAfterFence) {
            state.wait_begins(id);
            state.writer(id).progress = Writing::WaitingForCopies;
        } else {
            state.writer(id).progress = Writing::WriteSent;
        }
    };
    let placed = |state: &mut State| {
        state.slot.fence(id, protocol.mutation);
        go_on(state);
    };

    steps.add(writer, Event::FencePlaced, placed);
    if protocol.may_resend_fence() {
        steps.fault(writer, Event::FencePlacedAndAgain, |state| {
            placed(state);
            state.writer(id).late_fence = true;
        });
    }
    if protocol.has_local_copies() {
        // Without them, a writer does not care whether its fence was answered.
        steps.fault(writer, Event::FenceReplyLost, |state| {
            placed(state);
            state.writer(id).fence_unanswered = true;
        });
    }
    if protocol.fence_may_be_late() {
        steps.fault(writer, Event::FenceTimesOut, |state| {
            go_on(state);
            state.writer(id).late_fence = true;
            state.writer(id).fence_unanswered = protocol.has_local_copies();
        });
    }
}

fn release(id: WriterId, outcome: Outcome, steps: &mut Steps<'_>) {
    let protocol = steps.protocol;
    let writer = Actor::Writer(id);
    let fence_unanswered = steps.from.writers[usize::from(id)].fence_unanswered;
    let mut slot = steps.from.slot;
    let token = slot.release(id, protocol.mutation);

    let waits = protocol.must_wait_again(token, fence_unanswered);
    let released = |state: &mut State| {
        state.slot = slot;
        protocol.after_release(id, outcome, waits, state);
    };
    let (once, twice) = if waits {
        (Event::ReleasesAndWaits, Event::ReleasesAndWaitsAndAgain)
    } else {
        (Event::Releases, Event::ReleasesAndAgain)
    };
    steps.add(writer, once, released);
    steps.fault(writer, twice, |state| {
        released(state);
        state.writer(id).late_release = true;
    });

    // Without the reply the writer cannot know whether its token was there.
    let waits = protocol.has_local_copies();
    if waits {
        steps.fault(writer, Event::ReleaseReplyLost, |state| {
            state.slot = slot;
            protocol.after_release(id, outcome, waits, state);
        });
    }
    if protocol.release_may_be_late() {
        steps.fault(writer, Event::ReleaseTimesOut, |state| {
            state.writer(id).late_release = true;
            protocol.after_release(id, outcome, waits, state);
        });
    }
}

impl Protocol {
    /// Whether a fence may execute twice. With local copies, it would put back the token of a fence
    /// that was lost. That can be noticed only if the cache loses keys.
    fn may_resend_fence(&self) -> bool {
        !self.has_local_copies()
            || self.scope.guarantee == Guarantee::Linearizable
            || self.is_mutated(Mutation::FenceResent)
    }

    /// Whether a fence may execute after its write was sent.
    fn fence_may_be_late(&self) -> bool {
        self.scope.guarantee == Guarantee::ReadAfterAnsweredWrite
            || self.is_mutated(Mutation::FenceLate)
    }

    /// Whether a release may execute after its write was answered. As long as the fence stands, that
    /// does no harm; if the cache loses keys, the fence may be gone.
    fn release_may_be_late(&self) -> bool {
        self.scope.guarantee == Guarantee::Linearizable || self.is_mutated(Mutation::ReleaseLate)
    }

    /// The write may have been applied, or may still be. Its writer answers that, and leaves its
    /// fence, which it sends again.
    fn outcome_is_unknown(&self, id: WriterId, state: &mut State) {
        if self.is_mutated(Mutation::ReleaseUnknown) {
            state.writer(id).progress = Writing::Settled(Outcome::Unknown);
        } else {
            state.writer(id).late_fence = true;
            self.end_write(id, Outcome::Unknown, state);
        }
    }

    /// Whether a write has to wait for the local copies after its release, because its fence may not
    /// have stood all the time.
    fn must_wait_again(&self, token: Token, fence_unanswered: bool) -> bool {
        let not_found = token == Token::NotFound && !self.is_mutated(Mutation::NoWaitAfterRelease);
        let unanswered = fence_unanswered && !self.is_mutated(Mutation::UnansweredFenceTrusted);
        self.has_local_copies() && (not_found || unanswered)
    }

    fn after_release(&self, id: WriterId, outcome: Outcome, waits: bool, state: &mut State) {
        if waits {
            state.wait_begins(id);
            state.writer(id).progress = Writing::WaitingAgain(outcome);
        } else {
            self.end_write(id, outcome, state);
        }
    }

    /// The write answers, or its writer crashes. Reads that begin from now on must see a write that
    /// was answered.
    fn end_write(&self, id: WriterId, outcome: Outcome, state: &mut State) {
        let seen = match outcome {
            Outcome::Applied(version) => version,
            Outcome::Refused(version) if self.scope.guarantee == Guarantee::Linearizable => version,
            Outcome::Refused(_) | Outcome::Unknown => 0,
        };
        state.visible = state.visible.max(seen);
        let writer = state.writer(id);
        writer.progress = Writing::Done;
        writer.fence_unanswered = false; // nobody asks any more
    }
}
