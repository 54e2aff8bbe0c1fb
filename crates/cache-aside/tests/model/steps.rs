//! What can happen next, and how it is described.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::scope::{Copies, Faults, Guarantee, Mutation, Scope};
use crate::state::{ReaderId, Slot, State, WriterId};
use crate::{environment, read, write};

/// The protocol in a scope, whole or mutated.
#[derive(Debug)]
pub(crate) struct Protocol {
    pub(crate) scope: Scope,
    pub(crate) mutation: Option<Mutation>,
    /// The kinds of events that have happened in any execution, one bit each.
    happened: [AtomicU64; 2],
}

/// Something that happens, and the state that it leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) actor: Actor,
    pub(crate) event: Event,
    pub(crate) next: State,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Reader(ReaderId),
    Writer(WriterId),
    Process(usize),
    Cache,
}

/// The steps that lead on from a state.
pub(crate) struct Steps<'a> {
    pub(crate) protocol: &'a Protocol,
    pub(crate) from: &'a State,
    steps: &'a mut Vec<Step>,
}

impl Protocol {
    pub(crate) fn new(scope: Scope, mutation: Option<Mutation>) -> Self {
        Self { scope, mutation, happened: Default::default() }
    }

    pub(crate) fn is_mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(crate) fn has_local_copies(&self) -> bool {
        self.scope.copies == Copies::Local
    }

    /// All that can happen next.
    pub(crate) fn steps(&self, from: &State, steps: &mut Vec<Step>) {
        let mut steps = Steps { protocol: self, from, steps };
        read::steps(&mut steps);
        write::steps(&mut steps);
        environment::steps(&mut steps);
    }

    /// Forgets late fills that the cache will refuse, because their lease is gone and cannot come
    /// back: fewer states to explore.
    fn forget_refused_fills(&self, state: &mut State) {
        if self.is_mutated(Mutation::FillWithoutLease) {
            return;
        }
        for (id, reader) in (0..).zip(&mut state.readers) {
            if state.slot != Slot::Lease(id) && !reader.late_lease {
                reader.late_fill = None;
            }
        }
    }

    fn note(&self, event: Event) {
        let (word, bit) = event.bit();
        self.happened[word].fetch_or(bit, Ordering::Relaxed);
    }

    /// Whether such an event has happened in any execution.
    pub(crate) fn has_happened(&self, event: Event) -> bool {
        let (word, bit) = event.bit();
        self.happened[word].load(Ordering::Relaxed) & bit != 0
    }
}

impl Steps<'_> {
    /// An event that may happen, and what it changes.
    pub(crate) fn add(&mut self, actor: Actor, event: Event, change: impl FnOnce(&mut State)) {
        self.protocol.note(event);
        let mut next = self.from.clone();
        change(&mut next);
        self.protocol.forget_refused_fills(&mut next);
        self.steps.push(Step { actor, event, next });
    }

    /// A fault that may happen, if any are left.
    pub(crate) fn fault(&mut self, actor: Actor, event: Event, change: impl FnOnce(&mut State)) {
        let faults_left = match self.from.faults_left {
            Faults::AtMost(0) => return,
            Faults::AtMost(faults) => Faults::AtMost(faults - 1),
            Faults::Unlimited => Faults::Unlimited,
        };
        self.add(actor, event, |state| {
            state.faults_left = faults_left;
            change(state);
        });
    }
}

/// Names each event and describes it, with its actor as the subject.
macro_rules! events {
    ($($event:ident: $description:literal,)*) => {
        /// A kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Event {
            $(#[doc = $description] $event,)*
        }

        impl Event {
            pub(crate) const ALL: &[Self] = &[$(Self::$event,)*];
        }

        impl fmt::Display for Event {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$event => $description,)*
                })
            }
        }
    };
}

events! {
    // A read.
    AnswersFromCopy: "begins, and answers from its process's local copy",
    SendsGet: "begins, and sends its get",
    GetFindsEntry: "gets an entry",
    GetFindsNoEntry: "gets no entry",
    GetFails: "sees its get time out",
    Joins: "joins a load",
    LoadsAlone: "waits no longer for the load that it joined, and loads without a lease",
    Leads: "leads a load",
    LeaseGranted: "requests the lease, and is granted it",
    LeaseFindsEntry: "requests the lease, and finds an entry",
    LeaseFindsFence: "requests the lease, and finds a fence",
    LeaseFindsLease: "requests the lease, and finds another's; pauses",
    GivesUpOnLease: "requests the lease, and has found another's for too long",
    LeaseReplyLost: "requests the lease, and is granted it, but the reply is lost",
    LeaseTimesOut: "sees its request for the lease time out; it may execute later",
    Loads: "loads",
    LoadFails: "sees its load fail, and forfeits its lease",
    LoadFailsForfeitLost: "sees its load fail, and its forfeit is lost",
    SendsFill: "closes its load, and sends its fill",
    FillExecutes: "has its fill executed; the reply is on its way",
    FillAccepted: "fills, and shares the result",
    FillRefused: "has its fill refused, and shares the result where it may",
    FillReplyLost: "fills, but the reply is lost",
    FillTimesOut: "sees its fill time out; it may execute later",
    FillReply: "receives the reply to its fill",
    KeepsCopy: "receives the reply, and keeps a local copy",
    TooLateForCopy: "receives the reply with an entry, too late for a local copy",
    LeaderCrashes: "crashes",
    // A write.
    SkipsFence: "sends its write, without a fence",
    FencePlaced: "places its fence",
    FencePlacedAndAgain: "places its fence; the fence may execute again",
    FenceReplyLost: "places its fence, but the reply is lost",
    FenceTimesOut: "sees its fence time out; it may execute later",
    WaitEnds: "has waited for the local copies to end",
    WriteApplied: "has its write applied; the answer is on its way",
    WriteRefused: "has its write refused; the answer is on its way",
    WriteTimesOut: "sees its write time out; it may be applied later",
    WriteAnswerLost: "does not receive the answer to its write",
    Releases: "knows the outcome, releases its fence, and answers",
    ReleasesAndAgain: "knows the outcome, releases its fence, and answers; the release may execute again",
    ReleasesAndWaits: "knows the outcome, releases, and waits for the local copies",
    ReleasesAndWaitsAndAgain: "knows the outcome, releases, and waits for the local copies; the release may execute again",
    ReleaseReplyLost: "knows the outcome, releases, but the reply is lost",
    ReleaseTimesOut: "knows the outcome, and sees its release time out; it may execute later",
    Answers: "has waited for the local copies to end again, and answers",
    WriterCrashes: "crashes",
    // Everything else.
    EntryExpires: "lets the entry expire",
    LeaseExpires: "lets the lease expire",
    FenceExpires: "lets the deadline of a writer in the fence pass",
    KeyLost: "loses the key",
    CopyExpires: "lets its local copy expire",
    LateLease: "has its late request for the lease executed",
    LateFill: "has its late fill executed",
    LateFence: "has its late fence executed",
    LateRelease: "has its late release executed",
    LateWrite: "has its late write applied",
    LateWriteDropped: "has its late write dropped: it is never applied",
}

impl Event {
    /// Whether it can happen while the protocol and its assumptions are whole.
    pub(crate) fn may_happen(self, guarantee: Guarantee) -> bool {
        match self {
            Self::SkipsFence | Self::FillExecutes | Self::FillReply => false,
            Self::KeyLost | Self::FenceTimesOut => guarantee == Guarantee::ReadAfterAnsweredWrite,
            Self::ReleaseTimesOut => guarantee == Guarantee::Linearizable,
            _ => true,
        }
    }

    fn bit(self) -> (usize, u64) {
        (self as usize / 64, 1 << (self as usize % 64))
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reader(reader) => write!(f, "reader {reader}"),
            Self::Writer(writer) => write!(f, "writer {writer}"),
            Self::Process(process) => write!(f, "process {process}"),
            Self::Cache => f.write_str("the cache"),
        }
    }
}
