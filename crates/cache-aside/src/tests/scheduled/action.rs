//! What the scheduler can choose to do next.

/// Who sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Actor {
    Reader(usize),
    Writer(usize),
    /// The task of a process that tries an overdue release again.
    Background(usize),
}

/// Which kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Get,
    Lease,
    Fill,
    Forfeit,
    Fence,
    Release,
    Load,
    Write,
}

/// What becomes of a request that an actor waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is executed. The reply arrives at once, or with [`Action::Deliver`] where it matters that it
    /// takes time.
    Executed,
    /// It is executed, and the reply is lost.
    ReplyLost,
    /// Its sender gives up; it may be executed later, or never.
    TimedOut,
    /// It is executed and answered, and may be executed again later.
    ExecutedAndAgain,
    /// The store refuses the write.
    Refused,
}

/// One choice of the scheduler.
///
/// Actions name things by what they are, not by their place in a list, so that a schedule still means
/// something when a part of it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A call begins, and runs until it waits.
    Begin(Actor),
    /// The request that this actor waits for is executed, or not.
    Settle(Actor, Fate),
    /// The reply that was held back arrives.
    Deliver(Actor),
    /// A request is executed whose sender no longer waits for it, or has the reply to an earlier attempt.
    ExecuteLate(Actor, Kind),
    /// The caller is no longer interested: its future is dropped.
    Drop(Actor),
    /// The entry or the lease in the cache expires, however young it is.
    Expire,
    /// The cache loses the key.
    LoseKey,
    /// Time passes until a pause or a wait ends.
    EndPause,
    /// Time passes until a deadline in the fence has passed.
    EndFence,
    /// Time passes for half as long as local copies are fresh.
    AgeCopies,
}

/// Groups of actions that a random search chooses with the same weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Begin,
    Step,
    Deliver,
    Late,
    Fault,
    Loss,
    Jump,
}

impl Class {
    pub(super) const COUNT: usize = Self::Jump as usize + 1;
}

impl Action {
    /// Whether it counts as a fault.
    pub(super) fn is_fault(self) -> bool {
        self.class() == Class::Fault
    }

    /// Who acts; `None` if it is the cache, or time.
    pub(super) fn actor(self) -> Option<Actor> {
        match self {
            Self::Begin(actor)
            | Self::Settle(actor, _)
            | Self::Deliver(actor)
            | Self::ExecuteLate(actor, _)
            | Self::Drop(actor) => Some(actor),
            Self::Expire | Self::LoseKey | Self::EndPause | Self::EndFence | Self::AgeCopies => {
                None
            }
        }
    }

    pub(super) fn class(self) -> Class {
        match self {
            Self::Begin(_) => Class::Begin,
            Self::Settle(_, Fate::Executed) => Class::Step,
            Self::Settle(..) | Self::Drop(_) => Class::Fault,
            Self::Deliver(_) => Class::Deliver,
            Self::ExecuteLate(..) => Class::Late,
            Self::Expire | Self::LoseKey | Self::AgeCopies => Class::Loss,
            Self::EndPause | Self::EndFence => Class::Jump,
        }
    }
}
